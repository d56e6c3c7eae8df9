// The page: the view is in `state`; every change asks for what it needs and draws it.

import { Stale, ask, cancel, remember, remembered, send } from "./api.js";
import { compose, diverging, drawColours, drawLevels, drawMap, limits, viridis } from "./draw.js";
import { at, fill, fillPredictions, fillTable, matrix, number } from "./elements.js";
import { connectTabs } from "./tabs.js";
import { Tree } from "./tree.js";

const state = { model: 0, picture: 0, layer: "", x: null, y: null, shown: "norm", by: "index", page: 0, channel: 0, target: "" };
const seen = {}; // what was last received, to draw again
let kept = { ...state }; // the last view that was drawn completely, to which Escape returns
let models = [];
let told; // the overview
const tree = new Tree(at("tree"), (path) => change({ layer: path, page: 0 }));

/** Runs what a change asks for; after 300 ms says that it is at work; a mistake is said, an outdated answer dropped. */
async function working(what, call) {
  const slow = setTimeout(() => say(`${what} …`), 300);
  try {
    await call();
    kept = { ...state };
    say("");
  } catch (error) {
    if (error.name === "AbortError") goBack();
    else if (!(error instanceof Stale)) say(error.message);
  } finally {
    clearTimeout(slow);
  }
}

function say(text) {
  at("live").textContent = text;
}

/** Shows the last complete view again, so that parts of two views are never mixed. */
function goBack() {
  Object.assign(state, kept);
  showChoices();
  working("Going back", showAll);
}

/** Writes the state into the controls. */
function showChoices() {
  for (const name of ["model", "picture", "shown", "by", "target"]) at(name).value = state[name];
}

function change(changes) {
  Object.assign(state, changes);
  const names = Object.keys(changes);
  // Another layer, image or model is a step to which the browser's Back returns.
  rememberState(names.some((name) => ["model", "picture", "layer"].includes(name)));
  if (names.some((name) => ["model", "picture"].includes(name))) return working("Running the model", showAll);
  if (names.includes("layer")) return working("Drawing", showLayer);
  if (names.some((name) => ["x", "y"].includes(name))) return working("Comparing", showProbe);
  if (names.some((name) => ["by", "page"].includes(name))) return working("Drawing", showMaps);
  return working("Drawing", showPhoto);
}

function rememberState(isStep) {
  const { x, y, ...others } = state;
  remember(x === null ? others : state, isStep);
}

const which = () => ({ model: state.model, picture: state.picture });

async function showAll() {
  const model = models[state.model];
  tree.fill(model.layers);
  at("weights").textContent = `weights: ${model.weights}`;
  at("alignment").replaceChildren(); // of another model or image
  // A stage in the middle, in which something of the image can be recognised.
  if (!model.layers.some((row) => row.path === state.layer && row.drawn)) state.layer = model.stages[(model.stages.length - 1) >> 1];
  const answer = await ask("photo", which());
  seen.photo = answer.arrays.pixels;
  seen.classes = answer.classes;
  await showLayer();
}

async function showLayer() {
  tree.select(state.layer);
  at("where").textContent = state.layer || "the model";
  showPredictions();
  await showMaps();
  await Promise.all([state.x === null ? showStages() : showProbe(), showStatistics(), showBeside()]);
}

async function showMaps() {
  const { layer, by, page } = state;
  const answer = await ask("layer", { ...which(), layer, by, page });
  seen.mean = answer.arrays.mean;
  seen.norm = answer.arrays.norm;
  const [channels, height, width] = answer.shape;
  const [, rows, columns] = seen.photo.shape;
  const odd = answer.not_finite ? `, ${answer.not_finite} values not finite (grey)` : "";
  const { calls } = models[state.model].layers.find((row) => row.path === layer);
  const last = calls > 1 ? `, the last of its ${calls} calls` : "";
  at("shape").textContent = `${channels} channels of ${height} × ${width}, a stride of ${number(rows / height)} × ${number(columns / width)} pixels${last}${odd}`;
  at("go").max = channels - 1;
  at("page").textContent = `page ${page + 1} of ${answer.pages}`;
  at("back").disabled = page === 0;
  at("next").disabled = page + 1 >= answer.pages;
  if (!answer.order.includes(state.channel)) state.channel = answer.order[0];
  seen.pca = undefined;
  await showPhoto();
  await new Promise(requestAnimationFrame); // the large map first
  showChannels(answer);
}

/** Fills the grid; its buttons are kept from layer to layer, since making them takes longer than drawing. */
function showChannels({ order, arrays, low, high }) {
  const grid = at("channels");
  while (grid.children.length < order.length) grid.append(cell());
  [...grid.children].forEach((button, place) => {
    button.hidden = place >= order.length;
    if (button.hidden) return;
    const [canvas, told] = button.children;
    drawLevels(canvas, arrays.channels, place);
    button.dataset.channel = order[place];
    told.textContent = `${order[place]}: ${number(low[place])} to ${number(high[place])}`;
    button.setAttribute("aria-label", `Channel ${order[place]}, ${number(low[place])} to ${number(high[place])}`);
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
    at("photo").scrollIntoView({ block: "nearest" });
  });
  return button;
}

/** The image, and beside it the map that was chosen. */
async function showPhoto() {
  const { layer, channel } = state;
  const over = document.createElement("canvas");
  let told = "the image";
  seen.values = null;
  at("pointed").textContent = "Point at a map to read its values.";
  markChannel();
  at("scale").hidden = ["pca", "photo"].includes(state.shown);
  at("scale").classList.toggle("signed", state.shown === "cosine");
  if (["norm", "mean"].includes(state.shown)) told = scaled(over, seen[state.shown], `${state.shown} of the channels`);
  if (state.shown === "channel") {
    const answer = await ask("channel", { ...which(), layer, channel });
    told = scaled(over, answer.arrays.values, `channel ${channel}`);
  }
  if (state.shown === "pca") {
    seen.pca ??= (await ask("pca", { ...which(), layer })).arrays.pixels;
    drawColours(over, seen.pca);
    told = "three principal components as colours; colours of another layer are not comparable";
  }
  if (state.shown === "cam" && state.target !== "") {
    const options = { ...which(), layer, target: state.target };
    const key = JSON.stringify(options);
    if (seen.cam?.key !== key) seen.cam = { key, answer: await ask("cam", options) }; // kept while the opacity changes
    const { answer } = seen.cam;
    drawMap(over, answer.arrays.values, [0, 1], viridis);
    seen.values = answer.arrays.values;
    told = `Grad-CAM of ${answer.target}: 0 (dark) to 1 (bright)`;
  }
  if (state.shown === "cosine" && seen.cosine) {
    drawMap(over, seen.cosine, [-1, 1], diverging);
    seen.values = seen.cosine;
    told = "cosine to the probe: blue −1, white 0, red 1";
  }
  at("target-label").hidden = state.shown !== "cam";
  showValues();
  const alone = over.width === 300 && over.height === 150; // nothing was drawn: the size canvases are born with
  compose(at("image"), seen.photo, null, 1, state);
  compose(at("photo"), seen.photo, alone ? null : over, Number(at("opacity").value), state);
  at("photo-caption").textContent = told;
  at("photo").setAttribute("aria-label", `${layer}: ${told}. ${at("shape").textContent}.`);
}

/** The numbers of the map as a table, for those who read it rather than see it; only while it is open. */
function showValues() {
  const table = document.createElement("table");
  if (at("values").open && seen.values) {
    const { values, shape: [height, width] } = seen.values;
    table.createCaption().textContent = at("photo-caption").textContent;
    for (let row = 0; row < Math.min(height, 32); row++) {
      const line = table.insertRow();
      for (let column = 0; column < Math.min(width, 32); column++) line.insertCell().textContent = number(values[row * width + column]);
    }
  }
  at("values-table").replaceChildren(table);
}

function scaled(canvas, map, what) {
  const [low, high] = limits(map.values);
  const outside = map.values.filter((value) => value < low || value > high).length / map.values.length;
  drawMap(canvas, map, [low, high], viridis);
  seen.values = map;
  return `${what}: ${number(low)} (dark) to ${number(high)} (bright), ${(100 * outside).toFixed(0)} % beyond`;
}

async function showProbe() {
  if (state.x === null) return;
  const { layer, x, y, picture } = state;
  const place = { x, y };
  const answer = await ask("probe", { ...which(), layer, ...place });
  seen.cosine = answer.arrays.cosine;
  const [row, column] = answer.position;
  at("position").textContent = `Row ${row}, column ${column} of this layer.`;
  fillTable("active", answer.active.map(([channel, value]) => [`channel ${channel}`, number(value)]));
  await showPhoto();
  const linked = await ask("linked_maps", { picture, ...place });
  at("linked").replaceChildren(...linked.maps.map((map, index) => stage(map, linked.arrays[index], [-1, 1], diverging)));
}

/** The norm of each stage, before a probe is set. */
async function showStages() {
  const { maps, arrays } = await ask("stages", which());
  at("linked").replaceChildren(...maps.map((map, index) => stage(map, arrays[index], limits(arrays[index].values), viridis)));
}

/** A stage in the strip: its map, and the mark of the probe; it chooses its layer. */
function stage({ model, layer, position }, map, range, colours) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const canvas = document.createElement("canvas");
  drawMap(canvas, map, range, colours);
  const frame = document.createElement("span");
  frame.append(canvas);
  const told = document.createElement("small");
  told.textContent = `${models.length > 1 ? models[model].name + " " : ""}${layer}`;
  let what = `Norm of the channels of ${layer}`;
  if (position) {
    const [height, width] = map.shape;
    const mark = document.createElement("i");
    mark.style.left = `${(100 * (position[1] + 0.5)) / width}%`;
    mark.style.top = `${(100 * (position[0] + 0.5)) / height}%`;
    frame.append(mark);
    what = `${told.textContent}: cosine of each position to that at row ${position[0]}, column ${position[1]}`;
  }
  button.setAttribute("aria-label", what);
  button.setAttribute("aria-current", String(model === state.model && layer === state.layer));
  button.addEventListener("click", () => {
    at("model").value = model;
    change(model === state.model ? { layer, page: 0 } : { model, layer, page: 0 });
  });
  button.append(frame, told);
  return button;
}

/** The predictions of the model, or those without a channel beside them. */
function showPredictions(after, channel) {
  fillPredictions(after ?? seen.classes, after && seen.classes);
  at("classes").caption.textContent = after ? `Without channel ${channel} of ${state.layer}` : "Most probable classes";
  at("restore").hidden = !after;
}

async function showStatistics() {
  const told = await ask("statistics", { model: state.model, layer: state.layer });
  const only = told.pictures === 1 ? "this image" : `${told.pictures} images`;
  fillTable("statistics", [
    ["Never above zero", told.silent.length],
    ["At the largest value of the layer half of the time", told.saturated.length],
    ["Constant", told.constant.length],
    ["Most selective", told.selective.slice(0, 5).map(([channel, score]) => `${channel} (${number(score)} σ)`).join(", ")],
  ], `${told.channels} channels, ${told.positions} positions of ${only}`);
}

function ablate(channel) {
  const { layer } = state;
  return working("Running without the channel", async () => {
    const { after } = await ask("ablate", { ...which(), layer, channels: channel });
    if (layer === state.layer) showPredictions(after, channel);
  });
}

/** Another model, image or layer beside this one; labelled with the range of its colours. */
async function showBeside() {
  const options = { model: at("beside-model").value, picture: at("beside-picture").value, layer: at("beside-layer").value };
  const { arrays: { mean } } = await ask("layer", { ...options, panel: "beside" });
  const ranges = [limits(seen.mean.values), limits(mean.values)];
  const shared = at("range").value === "shared" && [Math.min(ranges[0][0], ranges[1][0]), Math.max(ranges[0][1], ranges[1][1])];
  const here = [models[state.model].name, at("picture").selectedOptions[0].text, state.layer].join(", ");
  const there = [models[options.model].name, at("beside-picture").selectedOptions[0].text, options.layer].join(", ");
  [["left", seen.mean, here], ["right", mean, there]].forEach(([id, map, what], place) => {
    const [low, high] = shared || ranges[place];
    drawMap(at(id), map, [low, high]);
    const told = `${what}: mean map, ${number(low)} to ${number(high)}${shared ? ", one range for both" : ", its own range"}`;
    at(id).nextElementSibling.textContent = told;
    at(id).setAttribute("aria-label", told);
  });
}

const drawnPaths = (model) => model.layers.filter((row) => row.drawn && row.path).map((row) => row.path);

function fillBeside() {
  const model = models[at("beside-model").value];
  const drawn = drawnPaths(model);
  at("beside-layer").replaceChildren(...drawn.map((path) => new Option(path, path)));
  at("beside-layer").value = model.stages.at(-1);
}

/** The view as a file with its caption, and the lines of Python that make the same. */
async function saved(format) {
  const { shown, layer, channel, target, x, y } = state;
  const place = x === null ? {} : { x, y };
  return ask("picture", { ...which(), shown, layer, channel, target, ...place, format });
}

async function download(format) {
  const { name, arrays } = await saved(format);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([arrays.file.values]));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function showCode() {
  const open = at("code").hidden;
  at("show-code").setAttribute("aria-expanded", String(open));
  at("code").hidden = !open;
  if (open) at("code").textContent = (await saved("svg")).code;
}

/** Shows a channel by its number. */
function goToChannel(event) {
  const channel = Math.trunc(Number(event.target.value));
  // From the overview: the maps of a layer just chosen may not have arrived.
  const [count] = models[state.model].layers.find((row) => row.path === state.layer).shape;
  if (!event.target.value || channel < 0 || channel >= count) return;
  Object.assign(at("by"), { value: "index" });
  at("shown").value = "channel";
  change({ by: "index", page: Math.floor(channel / told.page), channel, shown: "channel" });
}

async function align() {
  const { arrays: { cka: { values } } } = await ask("alignment", { picture: state.picture });
  const columns = models.at(-1).stages;
  at("alignment").replaceChildren(matrix(models[0].stages, columns, values));
}

function moved(event) {
  const [height, width] = seen.mean.shape;
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!(event.key in steps)) return;
  const [right, down] = steps[event.key];
  const inside = (value, count) => (Math.min(Math.max(Math.floor(value * count), 0), count - 1) + 0.5) / count;
  change({ x: inside((state.x ?? 0.5) + right / width, width), y: inside((state.y ?? 0.5) + down / height, height) });
  event.preventDefault();
}

function stepped(event) {
  if (!"[]".includes(event.key) || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
  const drawn = drawnPaths(models[state.model]);
  const next = drawn.indexOf(state.layer) + (event.key === "]" ? 1 : -1);
  if (next in drawn) change({ layer: drawn[next], page: 0 });
}

function hovered(event) {
  if (!seen.values) return;
  const [height, width] = seen.values.shape;
  const box = event.currentTarget.getBoundingClientRect();
  const column = Math.min(Math.floor(((event.clientX - box.left) / box.width) * width), width - 1);
  const row = Math.min(Math.floor(((event.clientY - box.top) / box.height) * height), height - 1);
  at("pointed").textContent = `Row ${row}, column ${column}: ${seen.values.values[row * width + column]}`;
}

async function uploaded(file) {
  if (!file) return;
  await working("Reading the image", async () => {
    const { picture, pictures } = await send(file);
    for (const id of ["picture", "beside-picture"]) fill(id, pictures);
    at("picture").value = picture;
    await change({ picture });
  });
}

/** Takes over the view of the address. */
function restore() {
  Object.assign(state, { x: null, y: null });
  for (const [name, value] of Object.entries(remembered())) {
    if (name in state) state[name] = ["layer", "shown", "by", "target"].includes(name) ? value : Number(value);
  }
  showChoices();
}

async function start() {
  told = await ask("overview");
  models = told.models;
  for (const id of ["model", "beside-model"]) fill(id, models.map((model) => model.name));
  for (const id of ["picture", "beside-picture"]) fill(id, told.pictures);
  at("beside-model").value = models.length - 1;
  at("beside-picture").value = models.length > 1 ? 0 : told.pictures.length - 1;
  fillBeside();
  restore();
  await showAll();
  rememberState(false);
  at("photo").dataset.ready = "true";
}

for (const name of ["model", "picture"]) at(name).addEventListener("change", (event) => change({ [name]: Number(event.target.value), page: 0 }));
for (const name of ["shown", "by"]) at(name).addEventListener("change", (event) => change({ [name]: event.target.value, ...(name === "by" && { page: 0 }) }));
at("target").addEventListener("change", (event) => change({ target: event.target.value.trim() }));
at("beside-model").addEventListener("change", () => { fillBeside(); working("Comparing", showBeside); });
for (const id of ["beside-picture", "beside-layer", "range"]) at(id).addEventListener("change", () => working("Comparing", showBeside));
for (const format of ["png", "svg"]) at(`save-${format}`).addEventListener("click", () => working("Saving", () => download(format)));
at("show-code").addEventListener("click", () => working("Writing", showCode));
at("values").addEventListener("toggle", showValues);
at("opacity").addEventListener("input", () => working("Drawing", showPhoto));
at("search").addEventListener("input", (event) => tree.filter(event.target.value));
at("back").addEventListener("click", () => change({ page: state.page - 1 }));
at("next").addEventListener("click", () => change({ page: state.page + 1 }));
at("align").addEventListener("click", () => working("Comparing stages", align));
at("upload").addEventListener("change", () => uploaded(at("upload").files[0]));
at("go").addEventListener("change", goToChannel);
at("restore").addEventListener("click", () => showPredictions());
connectTabs(document.querySelector("[role=tablist]"));
addEventListener("popstate", () => { restore(); working("Running the model", showAll); });
document.addEventListener("paste", (event) => uploaded(event.clipboardData.files[0]));
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("drop", over);
    if (name === "drop") uploaded(event.dataTransfer.files[0]);
  });
}
at("photo").addEventListener("keydown", moved);
for (const id of ["image", "photo"]) {
  at(id).addEventListener("pointermove", hovered);
  at(id).addEventListener("click", (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    change({ x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height });
  });
}
document.addEventListener("keydown", stepped);
document.addEventListener("keydown", (event) => event.key === "Escape" && cancel());
working("Running the model", start);
