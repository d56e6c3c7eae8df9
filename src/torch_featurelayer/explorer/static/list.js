// A list of any length, of which only what is in sight has elements: one stop of Tab, arrows inside.

/** A listbox; `draw(element, index)` fills an element, `choose(index)` is called for the one that is clicked. */
export class VirtualList {
  constructor(root, { height, width = 0, draw, choose, settled = () => {} }) {
    Object.assign(this, { root, height, width, draw, choose, settled, count: 0, active: 0, chosen: -1 });
    this.space = document.createElement("div");
    this.space.setAttribute("role", "presentation");
    this.options = new Map(); // by index
    this.unused = [];
    root.append(this.space);
    root.tabIndex = 0;
    root.setAttribute("role", "listbox");
    root.addEventListener("scroll", () => this.#arrange());
    root.addEventListener("click", (event) => this.#clicked(event));
    root.addEventListener("keydown", (event) => this.#pressed(event));
    new ResizeObserver(() => this.#arrange()).observe(root);
  }

  /** Shows this many, and marks one as chosen. */
  fill(count, chosen = -1) {
    Object.assign(this, { count, chosen, active: Math.max(chosen, 0) });
    for (const option of this.options.values()) this.#drop(option);
    this.options.clear();
    this.#arrange();
    if (chosen >= 0) this.reveal(chosen);
  }

  /** Marks one as chosen. */
  select(index) {
    this.chosen = index;
    for (const [place, option] of this.options) option.setAttribute("aria-selected", String(place === index));
  }

  /** Fills again what is in sight. */
  redraw() {
    for (const [index, option] of this.options) this.draw(option, index);
  }

  /** The indices in sight. */
  get inSight() {
    return [...this.options.keys()];
  }

  reveal(index) {
    const top = Math.floor(index / this.columns) * this.height;
    if (top < this.root.scrollTop || top + this.height > this.root.scrollTop + this.root.clientHeight) {
      this.root.scrollTop = Math.max(0, top - this.root.clientHeight / 2);
    }
  }

  get columns() {
    return this.width ? Math.max(1, Math.floor(this.root.clientWidth / this.width)) : 1;
  }

  #arrange() {
    const columns = this.columns;
    this.space.style.height = `${Math.ceil(this.count / columns) * this.height}px`;
    const first = Math.max(0, Math.floor(this.root.scrollTop / this.height) - 1) * columns;
    const last = Math.min(this.count, Math.ceil((this.root.scrollTop + this.root.clientHeight) / this.height + 1) * columns);
    for (const [index, option] of [...this.options]) {
      if (index >= first && index < last && option.columns === columns) continue;
      this.#drop(option);
      this.options.delete(index);
    }
    for (let index = first; index < last; index++) if (!this.options.has(index)) this.#add(index, columns);
    this.#mark();
    this.settled();
  }

  #add(index, columns) {
    const option = this.unused.pop() ?? document.createElement("div");
    option.columns = columns;
    option.id = `${this.root.id}-${index}`;
    option.dataset.index = index;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", String(index === this.chosen));
    option.setAttribute("aria-setsize", this.count);
    option.setAttribute("aria-posinset", index + 1);
    Object.assign(option.style, {
      top: `${Math.floor(index / columns) * this.height}px`,
      left: this.width ? `${(index % columns) * this.width}px` : "0",
      height: `${this.height}px`,
      width: this.width ? `${this.width}px` : "100%",
    });
    this.options.set(index, option);
    this.space.append(option); // before it is drawn, in the colours that it has there
    this.draw(option, index);
  }

  #drop(option) {
    option.remove();
    this.unused.push(option);
  }

  #mark() {
    for (const [index, option] of this.options) option.classList.toggle("active", index === this.active);
    const option = this.options.get(this.active);
    if (option) this.root.setAttribute("aria-activedescendant", option.id);
    else this.root.removeAttribute("aria-activedescendant");
  }

  #clicked(event) {
    const option = event.target.closest("[role=option]");
    if (!option) return;
    this.active = Number(option.dataset.index);
    this.#mark();
    this.choose(this.active);
  }

  #pressed(event) {
    const columns = this.columns;
    const rows = Math.max(1, Math.floor(this.root.clientHeight / this.height) - 1);
    const steps = {
      ArrowDown: columns, ArrowUp: -columns, PageDown: rows * columns, PageUp: -rows * columns,
      ArrowRight: 1, ArrowLeft: -1, Home: -this.count, End: this.count,
    };
    if (event.key in steps && this.count) {
      this.active = Math.min(Math.max(this.active + steps[event.key], 0), this.count - 1);
      this.reveal(this.active);
      this.#arrange();
    } else if ((event.key === "Enter" || event.key === " ") && this.count) this.choose(this.active);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
