// Thumbnails or texts of items, asked for as they come into sight.

import { ask } from "./api.js";
import { drawColours } from "./draw.js";

const MOST = 3000; // that are kept

/** The items of a dataset: `draw` fills an element now, or when the item has arrived. */
export class Thumbnails {
  constructor(model) {
    this.model = model;
    this.known = new Map(); // by number: { id, pixels } or { id, text }
    this.waiting = new Map(); // by number: elements
    this.timer = 0;
    this.asked = 0;
  }

  /** Shows an item in an element with a canvas or a span. */
  draw(element, number) {
    element.dataset.item = number;
    const known = this.known.get(number);
    if (known) return show(element, known);
    element.classList.add("loading");
    if (!this.waiting.has(number)) this.waiting.set(number, new Set());
    this.waiting.get(number).add(element);
    this.timer ||= setTimeout(() => this.#ask(), 20);
    return undefined;
  }

  async #ask() {
    this.timer = 0;
    // Elements that were given to another item meanwhile need this one no longer.
    const wanted = [...this.waiting].filter(([number, elements]) => [...elements].some((one) => Number(one.dataset.item) === number && one.isConnected));
    const waiting = new Map(wanted);
    this.waiting.clear();
    const numbers = [...waiting.keys()];
    if (!numbers.length) return;
    const { ids, texts, arrays } = await ask("items", { model: this.model, items: numbers.join(","), panel: `thumbnails${this.asked++}` });
    numbers.forEach((number, index) => {
      const item = { id: ids[index], text: texts?.[index], pixels: arrays.thumbnails && slice(arrays.thumbnails, index) };
      this.known.set(number, item);
      for (const element of waiting.get(number)) if (Number(element.dataset.item) === number) show(element, item);
    });
    for (const number of this.known.keys()) {
      if (this.known.size <= MOST) break;
      this.known.delete(number);
    }
  }
}

function slice({ values, shape: [, ...shape] }, index) {
  const size = shape.reduce((one, other) => one * other);
  return { values: values.subarray(index * size, (index + 1) * size), shape };
}

function show(element, { id, text, pixels }) {
  element.classList.remove("loading");
  element.title = text ?? id;
  element.setAttribute("aria-label", text ?? id);
  if (pixels) drawColours(element.querySelector("canvas"), pixels);
  else element.querySelector("span").textContent = text;
}
