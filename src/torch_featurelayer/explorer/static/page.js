// The view, and what every part of the page does with it: change it, say that something is at work, remember it.

import { Stale, remember, remembered } from "./api.js";
import { at } from "./elements.js";

/** The view: what the address holds. */
export const state = {
  view: "input", model: 0, picture: 0, layer: "", channel: 0,
  x: null, y: null, shown: "norm", by: "index", page: 0, target: "", attention: "", head: 0,
  sort: "index", filter: "", projection: "pca", colour: "", other: "",
};
const texts = ["view", "layer", "shown", "by", "target", "attention", "sort", "filter", "projection", "colour", "other"];
const steps = ["view", "model", "picture", "layer"]; // changes to which the browser's Back returns

/** What the server has. `show` draws the view after a change of some parts of it, or all of it; `select` marks a layer. */
export const page = { kind: "image", models: [], datasets: [], channelsOfPage: 0, show: async () => {}, select: () => {} };

let kept = { ...state }; // the last view that was drawn completely

export const which = () => ({ model: state.model, picture: state.picture });
export const place = () => (state.x === null ? {} : { x: state.x, y: state.y });
export const dataset = (model = state.model) => page.datasets[model];
export const drawnLayers = (model) => model.layers.filter((row) => row.drawn && row.path).map((row) => row.path);

/** Changes the view, and draws what that changes. */
export function change(changes) {
  Object.assign(state, changes);
  const names = Object.keys(changes);
  rememberState(names.some((name) => steps.includes(name)));
  return working(names.includes("model") || names.includes("picture") ? "Running the model" : "Drawing", () => draw(names));
}

/** Draws the view after a change of some parts of it, or all of it; Escape returns to the last one that was drawn completely. */
export async function draw(names) {
  await page.show(names);
  kept = { ...state };
}

/** Runs what a change asks for; after 300 ms says that it is at work; an error is said, an outdated answer dropped. */
export async function working(what, call) {
  const slow = setTimeout(() => say(`${what} …`), 300);
  try {
    await call();
    say("");
  } catch (error) {
    if (error.name === "AbortError") goBack();
    else if (!(error instanceof Stale)) say(error.message);
  } finally {
    clearTimeout(slow);
  }
}

export function say(text) {
  at("live").textContent = text;
}

/** Writes the view into the address. */
export function rememberState(isStep) {
  const given = Object.entries(state).filter(([, value]) => value !== null && value !== "");
  remember(Object.fromEntries(given), isStep);
}

/** Takes over the view of the address. */
export function restore() {
  Object.assign(state, { x: null, y: null });
  for (const [name, value] of Object.entries(remembered())) {
    if (name in state && (texts.includes(name) || Number.isFinite(Number(value)))) state[name] = texts.includes(name) ? value : Number(value);
  }
  showChoices();
}

/** Writes the view into the controls. */
export function showChoices() {
  for (const control of document.querySelectorAll("[data-state]")) control.value = state[control.dataset.state];
}

/** Shows the last complete view again, so that parts of two views are never mixed. */
function goBack() {
  Object.assign(state, kept);
  showChoices();
  working("Going back", () => draw(null));
}
