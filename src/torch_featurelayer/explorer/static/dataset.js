// The dataset by a layer: the top items of a channel, all items as points, and the neighbours of the open one.

import { ask } from "./api.js";
import { listChannels, marksOf } from "./channels.js";
import { css, drawColours, drawShade, level, limits, viridis } from "./draw.js";
import { at, download, fill, fillTable, histogram, number, sparkline, toggleCode } from "./elements.js";
import { VirtualList } from "./list.js";
import { change, dataset, page, showChoices, state, which, working } from "./page.js";
import { Scatter } from "./scatter.js";
import { Thumbnails } from "./thumbnails.js";
import { paintTokens } from "./tokens.js";

const seen = {}; // what was last received
const colours = ["#4269d0", "#efb118", "#ff725c", "#3ca951", "#a463f2", "#6cc5b0", "#ff8ab7", "#97bbf5", "#9c6b4e", "#d24e9b", "#2f8f8f", "#b5bd61"];
const OTHERS = "#9498a0"; // the colour of rarer values
const thumbnails = new Map(); // by model
const list = new VirtualList(at("list"), { height: 30, draw: drawChannel, choose: (index) => change({ channel: seen.listed[index] }) });
let gallery; // made when it is known whether items are images or texts
const scatter = new Scatter(at("scatter"), { hover: hovered, open: openItem, select: (numbers) => showSelected(numbers, "in the lasso") });

/** Connects the controls, when it is known what there is. */
export function connect() {
  const isText = page.kind === "text";
  const tile = isText ? { height: 26 } : { height: 74, width: 74 };
  gallery = new VirtualList(at("gallery"), { ...tile, draw: drawItem, choose: (index) => openItem(seen.selected[index]) });
  for (const name of ["sort", "projection", "colour", "other"]) at(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
  at("filter").addEventListener("input", (event) => change({ filter: event.target.value }));
  at("cover").addEventListener("input", () => { for (const one of document.querySelectorAll(".tile .over")) one.style.opacity = at("cover").value; });
  at("group").addEventListener("change", (event) => selectGroup(event.target.value));
  for (const format of ["png", "svg"]) at(`top-${format}`).addEventListener("click", () => working("Saving", async () => download(await saved(format))));
  at("top-code").addEventListener("click", () => working("Writing", () => toggleCode(at("top-code"), at("top-python"), () => saved("svg"))));
}

/** Draws what depends on the parts of the view that have changed; everything without names. */
export async function show(names) {
  const has = (...some) => !names || names.includes("view") || some.some((name) => names.includes(name));
  if (!dataset()) throw new Error(`${page.models[state.model].name} has no dataset`);
  if (has("model")) fillChoices();
  if (!dataset().layers.includes(state.layer)) state.layer = nearest(state.layer);
  page.select(state.layer);
  at("dataset-where").textContent = state.layer;
  if (has("model", "layer")) await showChannels();
  else if (has("sort", "filter")) fillList();
  const parts = [];
  if (has("model", "layer", "channel", "other")) parts.push(showTop());
  if (has("model", "layer", "projection", "colour")) parts.push(showPoints(has("model", "layer", "projection"), has("model", "colour")));
  if (has("model", "layer", "picture")) parts.push(showNeighbours());
  await Promise.all(parts);
}

/** The layer with data next to a layer without. */
function nearest(layer) {
  const { layers } = dataset();
  const order = page.models[state.model].layers.map((row) => row.path);
  const place = (path) => (path === "" ? order.length : order.indexOf(path));
  const wanted = layer ? place(layer) : place(layers[(layers.length - 1) >> 1]);
  return layers.reduce((best, path) => (Math.abs(place(path) - wanted) < Math.abs(place(best) - wanted) ? path : best));
}

function fillChoices() {
  const { columns, comparable } = dataset();
  at("colour").replaceChildren(new Option("no column", ""), ...columns.map((name) => new Option(name, name)));
  if (!columns.includes(state.colour)) state.colour = ["label", "folder"].find((name) => columns.includes(name)) ?? "";
  at("colour").value = state.colour;
  at("colour-label").hidden = !columns.length;
  at("by-layer").hidden = !comparable.length;
  at("neighbours").parentElement.hidden = !comparable.length;
  const others = page.models.flatMap((model, index) => (index !== state.model && page.datasets[index] ? [new Option(model.name, index)] : []));
  at("other").replaceChildren(new Option("nothing", ""), ...others);
  at("other").parentElement.hidden = !others.length;
  at("other").value = state.other;
}

async function showChannels() {
  const answer = await ask("channels", { model: state.model, layer: state.layer });
  seen.channels = answer.arrays;
  if (state.channel >= answer.channels) state.channel = 0;
  const odd = [[answer.dead, "dead"], [answer.outliers, "outliers"], [answer.nonfinite, "values not finite"]];
  const told = odd.filter(([count]) => count).map(([count, what]) => `${count} ${what}`);
  at("dataset-about").textContent = [
    `${answer.channels} channels over ${answer.positions.toLocaleString("en")} positions of ${dataset().items.toLocaleString("en")} ${page.kind}s of ${dataset().name}`, ...told,
  ].join(", ");
  fillList();
}

function fillList() {
  seen.listed = listChannels(seen.channels, state.sort, state.filter);
  at("list-value").textContent = state.sort === "index" ? "mean" : at("sort").selectedOptions[0].text;
  at("listed").textContent = `${seen.listed.length} of ${seen.channels.mean.shape[0]} channels`;
  seen.accent = getComputedStyle(at("histogram")).color; // once, since reading it computes the layout
  list.fill(seen.listed.length, seen.listed.indexOf(state.channel));
}

function drawChannel(option, index) {
  const channel = seen.listed[index];
  if (!option.firstChild) option.append(document.createElement("b"), document.createElement("canvas"), document.createElement("span"), document.createElement("small"));
  const [name, canvas, value, told] = option.children;
  const { [state.sort === "index" ? "mean" : state.sort]: { values }, histograms } = seen.channels;
  const what = state.sort === "index" ? "mean" : at("sort").selectedOptions[0].text;
  const marks = marksOf(seen.channels, channel);
  name.textContent = channel;
  sparkline(canvas, histograms.values, channel, histograms.shape[1], seen.accent);
  value.textContent = number(values[channel]);
  told.textContent = marks.join(", ");
  option.setAttribute("aria-label", [`Channel ${channel}, ${what} ${number(values[channel])}`, ...marks].join(", "));
}

/** The top items of the channel, and then its map over each. */
async function showTop() {
  const { channel, layer } = state;
  list.select(seen.listed.indexOf(channel));
  const [answer] = await Promise.all([top(state.model, "top"), showOther()]);
  at("top-title").textContent = `Top ${page.kind}s of channel ${channel}`;
  at("histogram").replaceChildren(histogram(answer.arrays.counts.values, answer.arrays.edges.values));
  const value = (name) => number(seen.channels[name].values[channel]);
  const marks = marksOf(seen.channels, channel);
  fillTable("facts", [
    ["mean", value("mean")], ["standard deviation", value("std")], ["smallest", value("min")], ["largest", value("max")],
    ["share of zeros", value("zeros")], ["kurtosis", value("kurtosis")], ...marks.map((mark) => ["marked as", mark]),
  ], `Channel ${channel} of ${layer}`);
}

/** The same channel of the other model. */
async function showOther() {
  const other = state.other === "" ? undefined : dataset(Number(state.other));
  at("top-other").replaceChildren();
  at("top-other-title").textContent = "";
  if (!other) return;
  const { name } = page.models[state.other];
  if (!other.layers.includes(state.layer)) {
    at("top-other-title").textContent = `${name} has no data of ${state.layer}.`;
    return;
  }
  at("top-other-title").textContent = `The same channel of ${name}`;
  await top(Number(state.other), "top-other");
}

/** Fills tiles with the top items of the channel of a model, and draws the maps over them when they have arrived. */
async function top(model, id) {
  const { layer, channel } = state;
  const options = { model, layer, channel, count: page.kind === "text" ? 8 : 12, panel: id };
  // Asked for at once; not waited for, since the items come first.
  const maps = ask("top_maps", options);
  maps.catch(() => {}); // said by `working`
  const answer = await ask("top", options);
  // An item that was opened for a channel shows that channel.
  const shown = { shown: "channel", channel, by: "index", page: Math.floor(channel / page.channelsOfPage) };
  const tiles = answer.items.map(([item, name, value], index) => tile(model, item, name, number(value), answer, index, shown));
  at(id).replaceChildren(...tiles);
  if (tiles.length) working("Running the model", async () => cover(tiles, answer, await maps));
  else at(id).textContent = "No items were kept for this channel.";
  return answer;
}

function cover(tiles, answer, maps) {
  if (!maps.arrays[0]) {
    at("top-scale").textContent = "this layer has no maps";
    return;
  }
  tiles.forEach((button, index) => {
    const map = maps.arrays[index];
    if (page.kind === "text") paintTokens(button.querySelector(".text"), answer.tokens[index], map.values, [maps.low, maps.high]);
    else drawShade(button.querySelector(".over"), map, [maps.low, maps.high]);
  });
  at("top-scale").textContent = `${page.kind === "text" ? "colours" : "shade"}: ${number(maps.low)} (dark) to ${number(maps.high)} (bright)`;
}

/** An item as a button that opens it: its image with a canvas for a map over it, or its text. */
function tile(model, item, name, value, answer, index, shown) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "tile", title: name });
  const told = Object.assign(document.createElement("small"), { textContent: `${value} · ${name.split("/").at(-1)}` });
  if (answer.tokens) {
    const text = Object.assign(document.createElement("span"), { className: "text" });
    paintTokens(text, answer.tokens[index]);
    button.append(text, told);
  } else {
    const frame = document.createElement("span");
    const over = Object.assign(document.createElement("canvas"), { className: "over", width: 0, height: 0 });
    over.style.opacity = at("cover").value;
    const below = document.createElement("canvas");
    drawColours(below, answer.arrays[`image${index}`]);
    frame.append(below, over);
    button.append(frame, told);
  }
  button.setAttribute("aria-label", `${name}, ${value}`);
  button.addEventListener("click", () => openItem(item, model, shown));
  return button;
}

async function showPoints(isOther, isRecoloured) {
  const { model, layer, projection, colour } = state;
  if (!dataset().comparable.includes(layer)) {
    scatter.fill(new Float32Array(), () => "");
    at("selected").textContent = `There is not one feature of ${layer} for each ${page.kind}.`;
    return;
  }
  const asked = [isOther && ask("points", { model, layer, projection }), isRecoloured && colour && ask("column", { model, column: colour })];
  const [points, column] = await Promise.all(asked);
  if (points) seen.points = points.arrays.points.values;
  if (isRecoloured) seen.column = column || null;
  scatter.fill(seen.points, colouring());
  showLegend();
  if (!seen.selected) showSelected([...Array(dataset().items).keys()], "in all");
}

/** The colour of an item by the column. */
function colouring() {
  const plain = getComputedStyle(document.body).getPropertyValue("--accent");
  if (!seen.column) return () => colours[0];
  const { codes, numbers } = seen.column.arrays;
  if (codes) return (item) => (codes.values[item] < 0 ? OTHERS : colours[codes.values[item] % colours.length]);
  const [low, high] = limits(numbers.values);
  return (item) => (Number.isNaN(numbers.values[item]) ? plain : css(viridis, level(numbers.values[item], low, high)));
}

function showLegend() {
  const values = seen.column?.values;
  const swatches = (values ?? []).map(([name, count], index) => swatch(colours[index % colours.length], `${name} (${count})`));
  if (seen.column?.others) swatches.push(swatch(OTHERS, `${seen.column.others} rarer values`));
  if (seen.column?.arrays.numbers) {
    const [low, high] = limits(seen.column.arrays.numbers.values);
    swatches.push(`${state.colour}: ${number(low)} (dark) to ${number(high)} (bright)`);
  }
  at("legend").replaceChildren(...swatches);
  at("group-label").hidden = !values;
  at("group").replaceChildren(new Option("all", ""), ...(values ?? []).map(([name], index) => new Option(name, index)));
}

function swatch(colour, text) {
  const element = document.createElement("span");
  const dot = document.createElement("i");
  dot.style.background = colour;
  element.append(dot, text);
  return element;
}

/** Selects the items with a value of the column: what a lasso does, for those without a pointer. */
function selectGroup(value) {
  const all = [...Array(dataset().items).keys()];
  const chosen = value === "" ? all : all.filter((item) => seen.column.arrays.codes.values[item] === Number(value));
  scatter.choose(value === "" ? [] : chosen);
  showSelected(chosen, value === "" ? "in all" : `with ${state.colour} ${at("group").selectedOptions[0].text}`);
}

function showSelected(numbers, how) {
  seen.selected = numbers;
  at("selected").textContent = `${numbers.length.toLocaleString("en")} ${page.kind}s ${how}`;
  gallery.fill(numbers.length);
}

function drawItem(option, index) {
  if (!option.firstChild) option.append(document.createElement(page.kind === "text" ? "span" : "canvas"));
  itemsOf(state.model).draw(option, seen.selected[index]);
}

function itemsOf(model) {
  if (!thumbnails.has(model)) thumbnails.set(model, new Thumbnails(model));
  return thumbnails.get(model);
}

function hovered(item, x, y) {
  const box = at("hovered");
  box.hidden = item < 0;
  if (item < 0) return;
  box.querySelector("canvas").hidden = page.kind === "text";
  Object.assign(box.style, { left: `${x + 14}px`, top: `${y + 14}px` });
  const value = seen.column?.arrays.codes && seen.column.values[seen.column.arrays.codes.values[item]]?.[0];
  itemsOf(state.model).draw(box, item);
  if (page.kind !== "text") box.querySelector("span").textContent = [value, itemsOf(state.model).known.get(item)?.id].filter(Boolean).join(" · ");
}

async function showNeighbours() {
  const { layer } = state;
  if (!dataset().comparable.includes(layer)) return;
  const answer = await ask("neighbours", { ...which(), layer });
  at("neighbours-title").textContent = `Nearest to ${at("picture").selectedOptions[0]?.text ?? `this ${page.kind}`} by ${layer}`;
  at("neighbours").replaceChildren(...answer.items.map(([item, name, score], index) => tile(state.model, item, name, number(score), answer, index)));
}

/** Opens an item as the image or text to look into. */
function openItem(item, model = state.model, shown = {}) {
  return working("Opening", async () => {
    const { picture, pictures } = await ask("open_item", { model, item });
    fill("picture", pictures);
    at("picture").value = picture;
    await change({ view: "input", model, picture, ...shown });
    showChoices();
  });
}

/** Forgets what belongs to another dataset. */
export function forget() {
  seen.selected = undefined;
  scatter.choose([]);
}

async function saved(format) {
  const { model, layer, channel } = state;
  return ask("top_picture", { model, layer, channel, format });
}
