// The page: its header, its layers, and the two views of a model: one image or text, and a dataset.

import { ask, cancel, send } from "./api.js";
import * as datasetView from "./dataset.js";
import { at, fill } from "./elements.js";
import * as inputView from "./input.js";
import { change, dataset, draw, drawnLayers, page, rememberState, restore, state, working } from "./page.js";
import { rove } from "./roving.js";
import { connectTabs } from "./tabs.js";
import { Tree } from "./tree.js";

const tree = new Tree(at("tree"), (path) => change({ layer: path, page: 0 }));
page.select = (layer) => tree.select(layer);

let modelInTree; // whose layers are listed

/** Draws the view after a change of some parts of it, or all of it. */
page.show = async (names) => {
  if (state.view === "dataset" && !dataset()) state.view = "input";
  const isWhole = !names || names.includes("view");
  document.body.dataset.view = state.view;
  for (const name of ["input", "dataset"]) at(`${name}-view`).hidden = state.view !== name;
  if (isWhole) {
    selectView();
    document.querySelector("main").scrollTop = 0;
  }
  if (state.model !== modelInTree) showModel();
  if (page.models.length > 1 && (!names || names.includes("model") || names.includes("picture"))) working("Comparing the models", showDifferences);
  await (state.view === "dataset" ? datasetView : inputView).show(isWhole ? null : names);
};

function showModel() {
  modelInTree = state.model;
  const model = page.models[state.model];
  at("weights").textContent = `weights: ${model.weights}`;
  tree.fill(model.layers, dataset()?.layers ?? []);
  datasetView.forget();
}

/** Colours the layers by how much two models differ in them. */
async function showDifferences() {
  const { about, errors } = await ask("differences", { model: state.model, picture: state.picture });
  at("tree-note").hidden = !about;
  at("tree-note").textContent = about;
  tree.colour(errors);
}

async function uploaded(file) {
  if (!file) return;
  await working(`Reading the ${page.kind}`, async () => {
    const { picture, pictures } = await send(file);
    for (const id of ["picture", "beside-picture"]) fill(id, pictures);
    at("picture").value = picture;
    await change({ picture, x: null, y: null, ...(state.view === "dataset" ? {} : { view: "input" }) });
  });
}

function stepped(event) {
  if (!"[]".includes(event.key) || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
  const model = page.models[state.model];
  const layers = state.view === "dataset" ? drawnLayers(model).filter((path) => dataset().layers.includes(path)) : drawnLayers(model);
  const next = layers.indexOf(state.layer) + (event.key === "]" ? 1 : -1);
  if (next in layers) change({ layer: layers[next], page: 0 });
}

async function start() {
  const told = await ask("overview");
  Object.assign(page, { kind: told.kind, models: told.models, datasets: told.datasets, channelsOfPage: told.page });
  document.body.dataset.kind = page.kind;
  for (const option of document.querySelectorAll("option.of-images")) if (page.kind === "text") option.remove();
  at("picture-label").textContent = at("tab-input").textContent = page.kind === "text" ? "Text" : "Image";
  at("views").hidden = !page.datasets.some(Boolean);
  document.body.classList.toggle("pairs", page.models.length > 1);
  for (const id of ["model", "beside-model"]) fill(id, page.models.map((model) => model.name));
  for (const id of ["picture", "beside-picture"]) fill(id, told.pictures);
  at("beside-model").value = page.models.length - 1;
  at("beside-picture").value = page.models.length > 1 ? 0 : told.pictures.length - 1;
  inputView.connect();
  datasetView.connect();
  restore();
  await draw(null);
  rememberState(false);
  document.body.dataset.ready = "true";
}

for (const name of ["model", "picture"]) {
  at(name).addEventListener("change", (event) => {
    const isOtherText = name === "picture" && page.kind === "text"; // whose tokens are others
    change({ [name]: Number(event.target.value), page: 0, ...(isOtherText && { x: null, y: null }) });
  });
}
at("search").addEventListener("input", (event) => tree.filter(event.target.value));
at("upload").addEventListener("change", () => uploaded(at("upload").files[0]));
at("write").addEventListener("submit", (event) => {
  event.preventDefault();
  uploaded(new File([at("new-text").value], "text"));
  at("new-text").value = "";
});
const selectView = connectViews();
for (const id of ["channels", "linked", "top", "top-other", "neighbours"]) rove(at(id));
connectTabs(at("details"));
addEventListener("popstate", () => { restore(); working("Running the model", () => draw(null)); });
document.addEventListener("paste", (event) => uploaded(event.clipboardData.files[0]));
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("drop", over);
    if (name === "drop") uploaded(event.dataTransfer.files[0]);
  });
}
document.addEventListener("keydown", stepped);
document.addEventListener("keydown", (event) => event.key === "Escape" && cancel());
working("Running the model", start);

/** Connects the tabs of the two views; returns a function that marks that of the view. */
function connectViews() {
  const select = connectTabs(at("views"), (tab) => change({ view: tab.id === "tab-dataset" ? "dataset" : "input" }));
  return () => select(at(`tab-${state.view}`));
}
