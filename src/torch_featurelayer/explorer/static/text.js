// A text: its tokens in the colours of a map, and a heat map of the stages over the tokens.

import { ask } from "./api.js";
import { diverging, limits, viridis } from "./draw.js";
import { at, number } from "./elements.js";
import { place, state, which } from "./page.js";
import { colour, paintTokens } from "./tokens.js";

let tokens = [];
let classes = [];
let handlers;

export function connect(given) {
  handlers = given;
  at("tokens").addEventListener("click", (event) => {
    const index = [...at("tokens").children].indexOf(event.target);
    if (index >= 0) given.probe((index + 0.5) / tokens.length, 0.5);
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
export const describePosition = ([, column]) => `Token ${column}, “${(tokens[column] ?? "").trim()}”.`;
export const predictions = () => (state.x === null || !classes.length ? "Most probable" : `Most probable after “${(tokens[probed()] ?? "").trim()}”`);
export const reveal = () => at("tokens").scrollIntoView({ block: "nearest" });

const probed = () => (state.x === null ? -1 : Math.min(Math.floor(state.x * tokens.length), tokens.length - 1));

/** Writes the tokens in the colours of the map. */
export function paint(map, label) {
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

/** A statistic of each token in each stage; a cell chooses its layer and its token. */
export async function showDepth() {
  const of = ["norm", "mean", "channel", "cosine"].includes(state.shown) ? state.shown : "norm";
  const { layers, arrays } = await ask("heat_map", { ...which(), ...place(), of, channel: state.channel });
  const { values, shape: [, width] } = arrays.values;
  const table = document.createElement("table");
  table.createCaption().textContent = `${{ norm: "Norm of the channels", mean: "Mean of the channels", channel: `Channel ${state.channel}`, cosine: "Cosine to the probe" }[of]}; the colours of each row ${of === "cosine" ? "from −1 to 1" : "in its own range"}`;
  const head = table.createTHead().insertRow();
  head.append(document.createElement("td"));
  tokens.forEach((text) => head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: text.trim() })));
  layers.forEach((layer, row) => {
    const line = table.insertRow();
    line.append(Object.assign(document.createElement("th"), { scope: "row", textContent: layer }));
    line.setAttribute("aria-current", String(layer === state.layer));
    const part = values.subarray(row * width, (row + 1) * width);
    const [low, high] = of === "cosine" ? [-1, 1] : limits(part);
    part.forEach((value, index) => {
      const cell = line.insertCell();
      cell.title = `${layer}, ${tokens[index].trim()}: ${number(value)}`;
      cell.className = index === probed() ? "probed" : "";
      colour(cell, value, low, high, of === "cosine" ? diverging : viridis);
      cell.addEventListener("click", () => handlers.choose({ layer, x: (index + 0.5) / width, y: 0.5, page: 0 }));
    });
  });
  at("heat").replaceChildren(table);
}
