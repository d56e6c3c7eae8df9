// A text: its tokens in the colours of a map, and a heat map of the stages over the tokens.

import { ask } from "./api.js";
import { diverging, limits, viridis } from "./draw.js";
import { at, number } from "./elements.js";
import { change, place, state, which } from "./page.js";
import { colour, paintTokens } from "./tokens.js";

let tokens = [];
let classes = [];
let matrix; // of attention, if it is shown

export function connect(given) {
  at("tokens").addEventListener("click", (event) => {
    const index = [...at("tokens").children].indexOf(event.target);
    if (index >= 0) change(probe(index));
  });
  at("tokens").addEventListener("pointermove", (event) => {
    const index = [...at("tokens").children].indexOf(event.target);
    if (index >= 0) given.point((index + 0.5) / tokens.length, 0.5);
  });
  at("tokens").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    given.move(step, 0);
    event.preventDefault();
  });
}

/** Asks for the tokens; returns the predictions for the text. */
export async function load() {
  const answer = await ask("text", { ...which(), ...place() });
  tokens = answer.tokens;
  classes = answer.classes;
  return classes;
}

export const describe = ([channels, , count]) => `${channels} channels of ${count} tokens`;
export const describePosition = ([, column]) => `Token ${column}, “${(tokens[column] ?? "").trim()}”`;
export const describeProbe = (position) => `${describePosition(position)}.`;
export const predictions = () => (state.x === null || !classes.length ? "Most probable" : `Most probable after “${(tokens[probed()] ?? "").trim()}”`);
export const reveal = () => at("tokens").scrollIntoView({ block: "nearest" });

const probed = () => (state.x === null ? -1 : Math.min(Math.floor(state.x * tokens.length), tokens.length - 1));

/** Writes the tokens in the colours of the map. */
export function paint(map, label) {
  matrix = map?.matrix;
  paintTokens(at("tokens"), tokens, map?.values?.values, map?.limits, map?.colours);
  [...at("tokens").children].forEach((token, index) => {
    token.id = `token-${index}`;
    token.setAttribute("role", "option");
    token.setAttribute("aria-selected", String(index === probed()));
    token.setAttribute("aria-label", `${tokens[index].trim()}${map ? `, ${number(map.values.values[index])}` : ""}`);
  });
  at("tokens").setAttribute("aria-label", label);
  if (probed() >= 0) at("tokens").setAttribute("aria-activedescendant", `token-${probed()}`);
}

/** A statistic of each token in each stage, or the attention of each token to each; a cell chooses its layer and token. */
export async function showDepth() {
  const isMatrix = state.shown === "attention" && matrix;
  at("linked-title").textContent = isMatrix ? "From each token to each" : "Through the depth of the model";
  if (isMatrix) return showMatrix();
  const of = ["norm", "mean", "channel", "cosine"].includes(state.shown) ? state.shown : "norm";
  const { layers, arrays } = await ask("heat_map", { ...which(), ...place(), of, channel: state.channel });
  const names = { norm: "Norm of the channels", mean: "Mean of the channels", channel: `Channel ${state.channel}`, cosine: "Cosine to the probe" };
  const signed = of === "cosine";
  return at("heat").replaceChildren(table({
    caption: `${names[of]}; the colours of each row ${signed ? "from −1 to 1" : "in its own range"}`,
    rows: layers,
    values: arrays.values,
    range: (part) => (signed ? [-1, 1] : limits(part)),
    colours: signed ? diverging : viridis,
    isCurrent: (layer) => layer === state.layer,
    choose: (row, column) => change({ layer: layers[row], ...probe(column), page: 0 }),
  }));
}

export const follows = showDepth; // what is shown of the layer is shown of every stage

function showMatrix() {
  at("heat").replaceChildren(table({
    caption: `Attention of head ${state.head} in ${state.attention}: from the token of a row to that of a column`,
    rows: tokens.map((text) => text.trim()),
    values: matrix,
    range: () => [0, Math.max(...matrix.values)],
    colours: viridis,
    isCurrent: (_, row) => row === probed(),
    choose: (row) => change(probe(row)),
  }));
}

const probe = (token) => ({ x: (token + 0.5) / tokens.length, y: 0.5 });

/** A table of values `[rows, tokens]` as coloured cells. */
function table({ caption, rows, values: { values }, range, colours, isCurrent, choose }) {
  const element = document.createElement("table");
  element.createCaption().textContent = caption;
  const head = element.createTHead().insertRow();
  head.append(document.createElement("td"));
  for (const text of tokens) head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: text.trim() }));
  const body = element.createTBody();
  rows.forEach((name, row) => {
    const line = body.insertRow();
    line.append(Object.assign(document.createElement("th"), { scope: "row", textContent: name }));
    line.setAttribute("aria-current", String(isCurrent(name, row)));
    const part = values.subarray(row * tokens.length, (row + 1) * tokens.length);
    const [low, high] = range(part);
    part.forEach((value, column) => {
      const cell = line.insertCell();
      cell.title = `${name}, ${tokens[column].trim()}: ${number(value)}`;
      cell.className = column === probed() ? "probed" : "";
      colour(cell, value, low, high, colours);
      cell.addEventListener("click", () => choose(row, column));
    });
  });
  return element;
}
