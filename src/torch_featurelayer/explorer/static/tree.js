// The layers, as a tree by the WAI-ARIA pattern: one stop of Tab, arrows inside.

/** Fills a list with layers; `choose` is called with the path of one that can be drawn. */
export class Tree {
  constructor(root, choose) {
    this.root = root;
    this.choose = choose;
    root.addEventListener("click", (event) => this.#clicked(event));
    root.addEventListener("keydown", (event) => this.#pressed(event));
  }

  /** Shows layers; those with data of a dataset are marked. */
  fill(layers, withData = []) {
    this.items = new Map();
    const lists = new Map([["", this.root]]);
    const modules = new Map();
    this.root.replaceChildren();
    for (const layer of layers) {
      if (!layer.path) continue;
      const parent = layer.path.split(".").slice(0, -1).join(".");
      const item = element(layer);
      if (withData.includes(layer.path)) item.firstElementChild.lastElementChild.before(dot());
      this.items.set(layer.path, item);
      modules.set(module(layer.path), item);
      if (!lists.has(parent) && modules.has(parent)) lists.set(parent, sublist(modules.get(parent)));
      (lists.get(parent) ?? this.root).append(item);
    }
    const first = this.root.querySelector("li");
    if (first) first.tabIndex = 0;
  }

  /** Writes the relative error of another model beside each layer, in its colour: a step for each power of ten. */
  colour(errors) {
    for (const [path, item] of this.items) {
      const line = item.firstElementChild;
      line.querySelector("em")?.remove();
      if (!(module(path) in errors)) continue;
      const error = errors[module(path)] ?? Infinity;
      const told = Object.assign(document.createElement("em"), { textContent: error === 0 ? "equal" : Number.isFinite(error) ? error.toExponential(0) : "differs" });
      told.dataset.level = error === 0 ? 0 : Math.min(Math.max(Math.round(Math.log10(error)) + 7, 1), 7);
      told.title = `relative error against the other model: ${errors[module(path)] ?? "not finite, or another shape"}`;
      line.lastElementChild.before(told);
    }
  }

  /** Marks the chosen layer, and opens the layers around it. */
  select(path) {
    for (const [name, item] of this.items) item.setAttribute("aria-selected", String(name === path));
    const item = this.items.get(path);
    if (!item) return;
    for (let up = item.parentElement.closest("li"); up; up = up.parentElement.closest("li")) up.setAttribute("aria-expanded", "true");
    this.#rove(item, false);
    item.firstElementChild.scrollIntoView({ block: "nearest" });
  }

  /** Shows the layers whose path or type holds a text, and the layers around them. */
  filter(text) {
    const wanted = text.trim().toLowerCase();
    for (const item of this.items.values()) item.hidden = wanted !== "";
    for (const item of this.items.values()) {
      if (!item.dataset.search.includes(wanted)) continue;
      for (let up = item; up; up = up.parentElement.closest("li")) {
        up.hidden = false;
        if (wanted && up !== item) up.setAttribute("aria-expanded", "true");
      }
    }
  }

  #clicked(event) {
    const item = event.target.closest("li");
    if (!item) return;
    this.#rove(item, true);
    if (event.target.classList.contains("twist")) toggle(item);
    else if (item.ariaDisabled !== "true") this.choose(item.dataset.path);
    else toggle(item);
  }

  #pressed(event) {
    const shown = [...this.root.querySelectorAll("li")].filter((item) => item.checkVisibility());
    const item = event.target.closest("li");
    const at = shown.indexOf(item);
    const moves = {
      ArrowDown: () => shown[at + 1],
      ArrowUp: () => shown[at - 1],
      Home: () => shown[0],
      End: () => shown.at(-1),
      ArrowRight: () => (item.ariaExpanded === "false" ? toggle(item) : item.querySelector("li")),
      ArrowLeft: () => (item.ariaExpanded === "true" ? toggle(item) : item.parentElement.closest("li")),
    };
    if (event.key in moves) {
      const next = moves[event.key]();
      if (next) this.#rove(next, true);
    } else if (event.key === "Enter" || event.key === " ") {
      if (item.ariaDisabled !== "true") this.choose(item.dataset.path);
      else toggle(item);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #rove(item, focus) {
    for (const other of this.root.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    item.tabIndex = 0;
    if (focus) item.focus();
  }
}

/** The path of a module; its address may be that of a part of its output. */
const module = (address) => address.replace(/\[0\]$/, "");

function element({ path, type, shape, drawn }) {
  const item = document.createElement("li");
  item.setAttribute("role", "treeitem");
  item.setAttribute("aria-selected", "false");
  item.setAttribute("aria-disabled", String(!drawn));
  item.tabIndex = -1;
  item.dataset.path = path;
  item.dataset.search = `${path} ${type}`.toLowerCase();
  const line = document.createElement("span");
  const told = document.createElement("small");
  // Of a text, channels and tokens.
  told.textContent = ` ${type}${shape ? " " + shape.filter((size, axis) => axis !== 1 || size > 1).join("×") : ""}`;
  line.append(path.split(".").at(-1), told);
  item.append(line);
  return item;
}

/** The mark of a layer with data of a dataset. */
function dot() {
  return Object.assign(document.createElement("s"), { textContent: "●", title: "with data of the dataset" });
}

function sublist(item) {
  const list = document.createElement("ul");
  list.setAttribute("role", "group");
  item.setAttribute("aria-expanded", "false");
  const twist = Object.assign(document.createElement("b"), { className: "twist" });
  twist.setAttribute("aria-hidden", "true");
  item.firstElementChild.prepend(twist);
  item.append(list);
  return list;
}

function toggle(item) {
  if (item.ariaExpanded === null) return null;
  item.setAttribute("aria-expanded", String(item.ariaExpanded !== "true"));
  return item;
}
