// Tokens of a text, coloured by a value of each.

import { css, level, viridis } from "./draw.js";

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
  const background = Number.isFinite(value) ? css(colours, level(value, low, high)) : "rgb(150, 150, 150)";
  element.style.background = background;
  element.style.color = luminance(background) > 0.179 ? "#000" : "#fff"; // the contrast is then at least 4.5 (WCAG 2)
}

/** The relative luminance of a colour, as WCAG 2 defines it. */
function luminance(background) {
  const [red, green, blue] = background.match(/\d+/g).map((part) => {
    const share = Number(part) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
