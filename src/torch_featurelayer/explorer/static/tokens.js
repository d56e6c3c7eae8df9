// Tokens of a text, coloured by a value of each.

import { viridis, css } from "./draw.js";

/** Writes tokens into an element; `values` between two limits are their colours, if there are any. */
export function paintTokens(element, tokens, values, [low, high] = [0, 1], colours = viridis) {
  while (element.children.length > tokens.length) element.lastChild.remove();
  tokens.forEach((text, index) => {
    const token = element.children[index] ?? element.appendChild(document.createElement("span"));
    token.className = /^\s/.test(text) || index === 0 ? "token" : "token joined";
    token.textContent = text;
    if (values) colour(token, values[index], low, high, colours);
  });
}

/** Colours an element by a value; grey for one that is not finite. */
export function colour(element, value, low, high, colours) {
  const step = high > low ? Math.min(Math.max(Math.round(((value - low) / (high - low)) * 255), 0), 255) : 0;
  const background = Number.isFinite(value) ? css(colours, step) : "rgb(150, 150, 150)";
  const [red, green, blue] = background.match(/\d+/g).map(Number);
  element.style.background = background;
  element.style.color = 0.3 * red + 0.59 * green + 0.11 * blue > 130 ? "#000" : "#fff";
}
