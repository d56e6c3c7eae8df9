// The elements of the page, and what is written into them.

import { css, viridis } from "./draw.js";

export const at = (id) => document.getElementById(id);

export const number = (value) => (Number.isFinite(value) ? Number(value.toPrecision(3)).toString() : String(value));

export function fill(id, names) {
  at(id).replaceChildren(...names.map((name, value) => new Option(name, value)));
}

export function fillTable(id, rows) {
  const body = at(id).tBodies[0];
  body.replaceChildren();
  at(id).caption.textContent = id === "classes" ? "Most probable classes" : "Most active channels";
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
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
