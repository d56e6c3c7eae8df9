// The elements of the page, and what is written into them.

import { css, viridis } from "./draw.js";

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
