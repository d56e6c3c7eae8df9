// An image: the map over it, and the maps of the stages.

import { ask } from "./api.js";
import { compose, diverging, drawColours, drawMap, limits, viridis } from "./draw.js";
import { at, number } from "./elements.js";
import { change, page, place, state, which } from "./page.js";

let pixels; // of the image

export function connect(handlers) {
  at("photo").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    handlers.move(...step);
    event.preventDefault();
  });
  at("enlarge").addEventListener("click", () => {
    const large = at("photo").closest(".views").classList.toggle("large");
    at("enlarge").setAttribute("aria-pressed", String(large));
  });
  const inside = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  for (const id of ["image", "photo"]) {
    at(id).addEventListener("pointermove", (event) => handlers.point(...inside(event)));
    at(id).addEventListener("click", (event) => probe(...inside(event)));
  }
}

const probe = (x, y) => change({ x, y });

/** Asks for the image; returns the predictions for it. */
export async function load() {
  const answer = await ask("photo", which());
  pixels = answer.arrays.pixels;
  return answer.classes;
}

export function describe([channels, height, width]) {
  const [, rows, columns] = pixels.shape;
  return `${channels} channels of ${height} × ${width}, a stride of ${number(rows / height)} × ${number(columns / width)} pixels`;
}

export const describePosition = ([row, column]) => `Row ${row}, column ${column}`;
export const describeProbe = (position) => `${describePosition(position)} of this layer.`;
export const predictions = () => "Most probable classes";
export const reveal = () => at("photo").scrollIntoView({ block: "nearest" });

/** Draws the image, and beside it the map over it. */
export function paint(map, label) {
  let over = null;
  if (map) {
    over = document.createElement("canvas");
    if (map.pixels) drawColours(over, map.pixels);
    else drawMap(over, map.values, map.limits, map.colours);
  }
  compose(at("image"), pixels, null, 1, state);
  compose(at("photo"), pixels, over, Number(at("opacity").value), state);
  at("photo").setAttribute("aria-label", label);
}

/** The stages do not depend on what is shown of the layer. */
export const follows = () => {};

/** The norm of each stage, or the cosines to the probe in each. */
export async function showDepth() {
  if (state.x === null) {
    const { maps, arrays } = await ask("stages", which());
    at("linked").replaceChildren(...maps.map((map, index) => stage(map, arrays[index], limits(arrays[index].values), viridis)));
    return;
  }
  const { maps, arrays } = await ask("linked_maps", { ...which(), ...place() });
  at("linked").replaceChildren(...maps.map((map, index) => stage(map, arrays[index], [-1, 1], diverging)));
}

/** A stage in the strip: its map, and the mark of the probe; it chooses its layer. */
function stage({ model, layer, position }, map, range, colours) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const canvas = document.createElement("canvas");
  drawMap(canvas, map, range, colours);
  const frame = document.createElement("span");
  frame.append(canvas);
  const told = document.createElement("small");
  told.textContent = `${page.models.length > 1 ? `${page.models[model].name} ` : ""}${layer}`;
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
