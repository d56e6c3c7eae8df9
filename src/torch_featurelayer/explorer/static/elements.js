// The elements of the page, and what is written into them.

import { css, viridis } from "./draw.js";

const SVG = "http://www.w3.org/2000/svg";

export const at = (id) => document.getElementById(id);

/** A number with three digits; values that are not finite come as null. */
export const number = (value) => (Number.isFinite(value) ? Number(value.toPrecision(3)).toString() : "not finite");

const percent = (share) => `${(100 * share).toFixed(1)} %`;

export function fill(id, names) {
  at(id).replaceChildren(...names.map((name, value) => new Option(name, value)));
}

export function fillTable(id, rows, caption) {
  const body = at(id).tBodies[0];
  body.replaceChildren();
  if (caption) at(id).caption.textContent = caption;
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
}

/** Predictions as bars; `before` are those of the unchanged model, whose shares are marked. */
export function fillPredictions(classes, before) {
  const earlier = before && new Map(before);
  const body = at("classes").tBodies[0];
  while (body.rows.length > classes.length) body.deleteRow(-1);
  classes.forEach(([name, share], place) => {
    const row = body.rows[place] ?? predictionRow(body); // kept, so that bars move
    const [bar, value, label, moved] = row.cells;
    const was = earlier?.get(name);
    bar.firstChild.children[0].style.width = `${100 * (share ?? 0)}%`;
    bar.firstChild.children[1].hidden = was === undefined;
    if (was !== undefined) bar.firstChild.children[1].style.left = `${100 * was}%`;
    value.textContent = share === null ? "not finite" : percent(share);
    label.textContent = name;
    moved.textContent = !earlier ? "" : was === undefined ? "new" : `${share >= was ? "+" : "−"}${(100 * Math.abs(share - was)).toFixed(1)}`;
  });
  if (!classes.length) fillTable("classes", [["this model has no classes"]]);
}

function predictionRow(body) {
  const row = body.insertRow();
  const bar = Object.assign(document.createElement("div"), { className: "bar" });
  bar.append(document.createElement("i"), document.createElement("b"));
  row.insertCell().append(bar);
  for (let cell = 0; cell < 3; cell++) row.insertCell();
  return row;
}

/** A table of values from 0 to 1, each in its colour. */
export function matrix(rows, columns, values) {
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const name of ["", ...columns]) head.append(heading(name, "col"));
  rows.forEach((name, row) => {
    const line = table.insertRow();
    line.append(heading(name, "row"));
    for (let column = 0; column < columns.length; column++) {
      const value = values[row * columns.length + column];
      const cell = line.insertCell();
      cell.textContent = value.toFixed(2);
      cell.style.background = css(viridis, Math.round(value * 255));
      cell.style.color = value > 0.6 ? "#000" : "#fff";
    }
  });
  return table;
}

function heading(name, scope) {
  return Object.assign(document.createElement("th"), { textContent: name, scope });
}

/** Hands a file that the server drew to the browser. */
export function download({ name, arrays }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([arrays.file.values]));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Shows or hides Python code, which is read when it is shown. */
export async function toggleCode(button, code, read) {
  const open = code.hidden;
  button.setAttribute("aria-expanded", String(open));
  code.hidden = !open;
  if (open) code.textContent = (await read()).code;
}

/** The numbers of values in bins, as bars with the first and the last edge below. */
export function histogram(counts, edges) {
  const most = Math.max(...counts, 1);
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${counts.length} 10`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `Distribution from ${number(edges[0])} to ${number(edges.at(-1))}, most values near ${number(edges[counts.indexOf(Math.max(...counts))])}`);
  counts.forEach((count, bin) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = (10 * count) / most;
    for (const [name, value] of Object.entries({ x: bin + 0.05, y: 10 - height, width: 0.9, height })) bar.setAttribute(name, value);
    const told = document.createElementNS(SVG, "title");
    told.textContent = `${number(edges[bin])} to ${number(edges[bin + 1])}: ${Math.round(count).toLocaleString("en")}`;
    bar.append(told);
    picture.append(bar);
  });
  const scale = Object.assign(document.createElement("p"), { className: "quiet" });
  scale.append(Object.assign(document.createElement("span"), { textContent: number(edges[0]) }), Object.assign(document.createElement("span"), { textContent: number(edges.at(-1)) }));
  const whole = document.createElement("div");
  whole.append(picture, scale);
  return whole;
}

/** Draws one of several histograms `[C, bins]` of uint8 as small bars. */
export function sparkline(canvas, values, row, bins, colour) {
  Object.assign(canvas, { width: bins * 2, height: 18 });
  const context = canvas.getContext("2d");
  context.fillStyle = colour;
  for (let bin = 0; bin < bins; bin++) {
    const height = Math.ceil((values[row * bins + bin] / 255) * 18);
    context.fillRect(bin * 2, 18 - height, 2, height);
  }
}
