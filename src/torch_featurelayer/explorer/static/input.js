// One image or text in the model: a layer's map, its channels, the probe, predictions, and what compares them.

import { ask } from "./api.js";
import { diverging, drawColours, drawLevels, drawMap, limits, viridis } from "./draw.js";
import { at, download, fillPredictions, fillTable, matrix, number, toggleCode } from "./elements.js";
import * as image from "./image.js";
import { change, drawnLayers, page, place, state, which, working } from "./page.js";
import * as text from "./text.js";

const seen = {}; // what was last received, to draw again
let kind = image;

/** Connects the controls, when it is known what there is. */
export function connect() {
  kind = page.kind === "text" ? text : image;
  for (const name of ["shown", "by", "attention"]) at(name).addEventListener("change", (event) => change({ [name]: event.target.value, ...(name === "by" && { page: 0 }) }));
  at("head").addEventListener("change", (event) => change({ head: Math.trunc(Number(event.target.value)) }));
  at("target").addEventListener("change", (event) => change({ target: event.target.value.trim() }));
  at("beside-model").addEventListener("change", () => { fillBeside(); working("Comparing", showBeside); });
  for (const id of ["beside-picture", "beside-layer", "range"]) at(id).addEventListener("change", () => working("Comparing", showBeside));
  for (const format of ["png", "svg"]) at(`save-${format}`).addEventListener("click", () => working("Saving", async () => download(await saved(format))));
  at("show-code").addEventListener("click", () => working("Writing", () => toggleCode(at("show-code"), at("code"), () => saved("svg"))));
  at("values").addEventListener("toggle", showValues);
  at("opacity").addEventListener("input", paint);
  at("back").addEventListener("click", () => change({ page: state.page - 1 }));
  at("next").addEventListener("click", () => change({ page: state.page + 1 }));
  at("align").addEventListener("click", () => working("Comparing stages", align));
  at("go").addEventListener("change", goToChannel);
  at("restore").addEventListener("click", () => showPredictions());
  at("edit").addEventListener("change", () => ablate(seen.edited));
  kind.connect({ point: hovered, move: moved });
  fillBeside();
}

/** Draws what depends on the parts of the view that have changed; everything without names. */
export function show(names) {
  const has = (...some) => !names || some.some((name) => names.includes(name));
  if (has("view", "model", "picture")) return showAll();
  if (has("layer")) return showLayer();
  if (has("x", "y")) return showProbe();
  if (has("by", "page")) return showMaps();
  return showMap().then(kind.follows);
}

async function showAll() {
  const model = page.models[state.model];
  at("alignment").replaceChildren(); // of another model or image
  seen.attention = undefined;
  // A stage in the middle, in which something of the image can be recognised.
  if (!model.layers.some((row) => row.path === state.layer && row.drawn)) state.layer = model.stages[(model.stages.length - 1) >> 1];
  seen.classes = await kind.load();
  await showLayer();
}

async function showLayer() {
  page.select(state.layer);
  at("where").textContent = state.layer || "the model";
  showPredictions();
  await showMaps();
  await Promise.all([state.x === null ? showDepth() : showProbe(), showStatistics(), page.kind === "image" && showBeside()]);
}

async function showMaps() {
  const { layer, by, page: number_ } = state;
  const answer = await ask("layer", { ...which(), layer, by, page: number_ });
  seen.mean = answer.arrays.mean;
  seen.norm = answer.arrays.norm;
  const odd = answer.not_finite ? `, ${answer.not_finite} values not finite (grey)` : "";
  const { calls } = page.models[state.model].layers.find((row) => row.path === layer);
  const last = calls > 1 ? `, the last of its ${calls} calls` : "";
  at("shape").textContent = `${kind.describe(answer.shape)}${last}${odd}`;
  at("go").max = answer.shape[0] - 1;
  at("page").textContent = `page ${number_ + 1} of ${answer.pages}`;
  at("back").disabled = number_ === 0;
  at("next").disabled = number_ + 1 >= answer.pages;
  if (state.channel >= answer.shape[0]) state.channel = answer.order[0];
  seen.pca = undefined;
  await showMap();
  await new Promise(requestAnimationFrame); // the large map first
  showChannels(answer);
}

/** Fills the grid; its buttons are kept from layer to layer, since making them takes longer than drawing. */
function showChannels({ order, arrays, low, high }) {
  const grid = at("channels");
  while (grid.children.length < order.length) grid.append(cell());
  [...grid.children].forEach((button, index) => {
    button.hidden = index >= order.length;
    if (button.hidden) return;
    const [canvas, told] = button.children;
    drawLevels(canvas, arrays.channels, index);
    button.dataset.channel = order[index];
    told.textContent = `${order[index]}: ${number(low[index])} to ${number(high[index])}`;
    button.setAttribute("aria-label", `Channel ${order[index]}, ${number(low[index])} to ${number(high[index])}`);
  });
  markChannel();
}

/** Marks the tile of the channel that is shown. */
function markChannel() {
  for (const button of at("channels").children) {
    button.setAttribute("aria-pressed", String(state.shown === "channel" && Number(button.dataset.channel) === state.channel));
  }
}

function cell() {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(document.createElement("canvas"), document.createElement("small"));
  button.addEventListener("click", () => {
    const channel = Number(button.dataset.channel);
    at("shown").value = "channel";
    change({ channel, shown: "channel" });
    ablate(channel);
    kind.reveal();
  });
  return button;
}

/** The map that was chosen, over or beside the input. */
async function showMap() {
  for (const one of document.querySelectorAll(".of-attention")) one.hidden = state.shown !== "attention";
  at("target-label").hidden = state.shown !== "cam";
  markChannel();
  seen.map = await chosenMap();
  seen.values = seen.map?.values ?? null;
  at("pointed").textContent = "Point at a map to read its values.";
  paint();
  showValues();
}

function paint() {
  const { map } = seen;
  for (const scale of document.querySelectorAll(".scale")) {
    scale.hidden = !map?.values;
    scale.classList.toggle("signed", map?.colours === diverging);
  }
  const told = map?.told ?? "the image";
  for (const caption of document.querySelectorAll(".photo-caption")) caption.textContent = told;
  kind.paint(map, `${state.layer}: ${told}. ${at("shape").textContent}.`);
}

/** The values of the map that was chosen, with their limits, colours and caption; or pixels; or nothing. */
async function chosenMap() {
  const { shown, layer, channel } = state;
  if (shown === "norm" || shown === "mean") return scaled(seen[shown], `${shown} of the channels`);
  if (shown === "channel") return scaled((await ask("channel", { ...which(), layer, channel })).arrays.values, `channel ${channel}`);
  if (shown === "cosine" && seen.cosine) return { values: seen.cosine, limits: [-1, 1], colours: diverging, told: "cosine to the probe: blue −1, white 0, red 1" };
  if (shown === "attention") return attentionMap();
  if (shown === "pca") {
    seen.pca ??= (await ask("pca", { ...which(), layer })).arrays.pixels;
    return { pixels: seen.pca, told: "three principal components as colours; colours of another layer are not comparable" };
  }
  if (shown === "cam" && state.target !== "") {
    const answer = await ask("cam", { ...which(), layer, target: state.target });
    return { values: answer.arrays.values, limits: [0, 1], colours: viridis, told: `Grad-CAM of ${answer.target}: 0 (dark) to 1 (bright)` };
  }
  return null;
}

async function attentionMap() {
  seen.attention ??= (await ask("attention_layers", which())).layers;
  const layers = seen.attention;
  if (!layers.length) throw new Error("this model has no attention");
  const names = layers.map(([name]) => name);
  at("attention").replaceChildren(...names.map((name) => new Option(name, name)));
  // That of the layer, or the first inside it.
  if (!names.includes(state.attention)) state.attention = names.find((name) => `${name}.`.startsWith(`${state.layer}.`)) ?? names.at(-1);
  at("attention").value = state.attention;
  const heads = layers[names.indexOf(state.attention)][1];
  state.head = Math.min(Math.max(state.head, 0), heads - 1);
  Object.assign(at("head"), { max: heads - 1, value: state.head });
  const { arrays: { values, matrix } } = await ask("attention", { ...which(), ...place(), layer: state.attention, head: state.head });
  const from = state.x === null ? "the first token" : "the probe";
  return { ...scaled(values, `attention of head ${state.head} from ${from}`), matrix };
}

function scaled(values, what) {
  const [low, high] = limits(values.values);
  const outside = values.values.filter((value) => value < low || value > high).length / values.values.length;
  return { values, limits: [low, high], colours: viridis, told: `${what}: ${number(low)} (dark) to ${number(high)} (bright), ${(100 * outside).toFixed(0)} % beyond` };
}

/** The numbers of the map as a table, for those who read it rather than see it; only while it is open. */
function showValues() {
  const table = document.createElement("table");
  if (at("values").open && seen.values) {
    const { values, shape: [height, width] } = seen.values;
    table.createCaption().textContent = seen.map.told;
    for (let row = 0; row < Math.min(height, 32); row++) {
      const line = table.insertRow();
      for (let column = 0; column < Math.min(width, 32); column++) line.insertCell().textContent = number(values[row * width + column]);
    }
  }
  at("values-table").replaceChildren(table);
}

async function showProbe() {
  if (state.x === null) return;
  const answer = await ask("probe", { ...which(), layer: state.layer, ...place() });
  seen.cosine = answer.arrays.cosine;
  at("position").textContent = kind.describeProbe(answer.position);
  fillTable("active", answer.active.map(([channel, value]) => [`channel ${channel}`, number(value)]));
  if (answer.classes) {
    seen.classes = answer.classes;
    showPredictions();
  }
  await showMap();
  await showDepth();
}

/** What the stages make of the input: their maps, and the probe in each. */
const showDepth = () => kind.showDepth();

/** The predictions of the model, or those with a channel edited beside them. */
function showPredictions(after, channel) {
  seen.edited = after && channel;
  fillPredictions(after ?? seen.classes, after && seen.classes);
  const { calls } = page.models[state.model].layers.find((row) => row.path === state.layer) ?? {};
  const where = `channel ${channel} of ${state.layer}${calls > 1 ? ` in all its ${calls} calls` : ""}`;
  const what = { zero: `Without ${where}`, mean: `With the mean of ${where}`, double: `With twice ${where}`, negate: `With the negative of ${where}` };
  at("classes").caption.textContent = after ? what[at("edit").value] : kind.predictions();
  at("edited").hidden = !after;
}

async function showStatistics() {
  const told = await ask("statistics", { model: state.model, layer: state.layer });
  const only = told.pictures === 1 ? `this ${page.kind}` : `${told.pictures} ${page.kind}s`;
  fillTable("statistics", [
    ["Never above zero", told.silent.length],
    ["At the largest value of the layer half of the time", told.saturated.length],
    ["Constant", told.constant.length],
    ["Most selective", told.selective.slice(0, 5).map(([channel, score]) => `${channel} (${number(score)} σ)`).join(", ")],
  ], `${told.channels} channels, ${told.positions} positions of ${only}`);
}

function ablate(channel) {
  const { layer } = state;
  return working("Running with the edit", async () => {
    const { after } = await ask("ablate", { ...which(), ...place(), layer, channels: channel, edit: at("edit").value });
    if (layer === state.layer) showPredictions(after, channel);
  });
}

/** Another model, image or layer beside this one; labelled with the range of its colours. */
async function showBeside() {
  const options = { model: at("beside-model").value, picture: at("beside-picture").value, layer: at("beside-layer").value };
  const { arrays: { mean } } = await ask("layer", { ...options, panel: "beside" });
  const ranges = [limits(seen.mean.values), limits(mean.values)];
  const shared = at("range").value === "shared" && [Math.min(ranges[0][0], ranges[1][0]), Math.max(ranges[0][1], ranges[1][1])];
  const here = [page.models[state.model].name, at("picture").selectedOptions[0].text, state.layer].join(", ");
  const there = [page.models[options.model].name, at("beside-picture").selectedOptions[0].text, options.layer].join(", ");
  [["left", seen.mean, here], ["right", mean, there]].forEach(([id, map, what], index) => {
    const [low, high] = shared || ranges[index];
    drawMap(at(id), map, [low, high]);
    const told = `${what}: mean map, ${number(low)} to ${number(high)}${shared ? ", one range for both" : ", its own range"}`;
    at(id).nextElementSibling.textContent = told;
    at(id).setAttribute("aria-label", told);
  });
}

function fillBeside() {
  const model = page.models[at("beside-model").value];
  at("beside-layer").replaceChildren(...drawnLayers(model).map((path) => new Option(path, path)));
  at("beside-layer").value = model.stages.at(-1);
}

/** The view as a file with its caption, and the lines of Python that make the same. */
async function saved(format) {
  const { shown, layer, channel, target, attention, head } = state;
  const opacity = at("opacity").value;
  return ask("picture", { ...which(), shown, layer, channel, target, attention, head, opacity, ...place(), format });
}

/** Shows a channel by its number. */
function goToChannel(event) {
  const channel = Math.trunc(Number(event.target.value));
  // From the overview: the maps of a layer just chosen may not have arrived.
  const [count] = page.models[state.model].layers.find((row) => row.path === state.layer).shape;
  if (!event.target.value || channel < 0 || channel >= count) return;
  Object.assign(at("by"), { value: "index" });
  at("shown").value = "channel";
  change({ by: "index", page: Math.floor(channel / page.channelsOfPage), channel, shown: "channel" });
}

async function align() {
  const { columns, rows, about, arrays: { cka: { values } } } = await ask("alignment", { picture: state.picture });
  at("alignment-about").textContent = about;
  at("alignment").replaceChildren(matrix(rows, columns, values));
}

/** Moves the probe by one position of the layer. */
function moved(right, down) {
  const [height, width] = seen.mean.shape;
  const inside = (value, count) => (Math.min(Math.max(Math.floor(value * count), 0), count - 1) + 0.5) / count;
  change({ x: inside((state.x ?? 0.5) + right / width, width), y: inside((state.y ?? 0.5) + down / height, height) });
}

function hovered(x, y) {
  if (!seen.values) return;
  const [height, width] = seen.values.shape;
  const column = Math.min(Math.floor(x * width), width - 1);
  const row = Math.min(Math.floor(y * height), height - 1);
  at("pointed").textContent = `${kind.describePosition([row, column])}: ${seen.values.values[row * width + column]}`;
}
