// Numbers to pixels, a whole pixel at a time: 0xAABBGGRR, as little-endian canvases hold them.

import { diverging as divergingSteps, viridis as viridisSteps } from "./colours.js";

const packed = (red, green, blue) => (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
const table = (steps) => Uint32Array.from({ length: 256 }, (_, step) => packed(...steps.subarray(3 * step, 3 * step + 3)));
const GREY = packed(150, 150, 150);

export const viridis = table(viridisSteps);
export const diverging = table(divergingSteps);

/** A colour of a table, as CSS writes it. */
export function css(colours, step) {
  const colour = colours[step];
  return `rgb(${colour & 255}, ${(colour >> 8) & 255}, ${(colour >> 16) & 255})`;
}

/** The step of a value in a table of colours between two limits. */
export function level(value, low, high) {
  return high > low ? Math.min(Math.max(Math.round(((value - low) / (high - low)) * 255), 0), 255) : 0;
}

/** Draws colours `[3, H, W]` of uint8, one pixel each. */
export function drawColours(canvas, { values, shape: [, height, width] }) {
  const plane = width * height;
  draw(canvas, width, height, (at) => packed(values[at], values[plane + at], values[2 * plane + at]));
}

/** Draws a map `[H, W]` of float32 between two limits; what is not a number is grey. */
export function drawMap(canvas, { values, shape: [height, width] }, [low, high], colours = viridis) {
  const scale = high > low ? 255 / (high - low) : 0;
  const step = (value) => Math.min(Math.max(Math.round((value - low) * scale), 0), 255);
  draw(canvas, width, height, (at) => (Number.isFinite(values[at]) ? colours[step(values[at])] : GREY));
}

/** Draws a map `[H, W]` as a shade between two limits: black where it is low, clear where it is high. */
export function drawShade(canvas, { values, shape: [height, width] }, [low, high]) {
  const scale = high > low ? 255 / (high - low) : 0;
  const step = (value) => (Number.isFinite(value) ? Math.min(Math.max(Math.round((high - value) * scale), 0), 255) : 255);
  draw(canvas, width, height, (at) => (step(values[at]) << 24) >>> 0);
}

/** Draws one of several maps `[K, H, W]` of uint8, where 0 stands for what is not a number. */
export function drawLevels(canvas, { values, shape: [, height, width] }, number) {
  const start = number * width * height;
  draw(canvas, width, height, (at) => (values[start + at] ? viridis[values[start + at]] : GREY));
}

/** The 1st and 99th percentile of finite values. */
export function limits(values) {
  const sorted = Float32Array.from(values).filter(Number.isFinite).sort();
  if (!sorted.length) return [0, 1];
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return [at(0.01), at(0.99)];
}

function draw(canvas, width, height, colour) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at++) pixels[at] = colour(at);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
}

/** Draws the photo, something over it (or null), and a cross where the probe is. */
export function compose(canvas, pixels, over, opacity, { x, y }) {
  const photo = document.createElement("canvas");
  drawColours(photo, pixels);
  const context = canvas.getContext("2d");
  canvas.height = Math.round((canvas.width * photo.height) / photo.width);
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  if (over) {
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = false;
    context.drawImage(over, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
  }
  if (x !== null) cross(context, x * canvas.width, y * canvas.height);
}

function cross(context, x, y) {
  for (const [width, colour] of [[4, "#000"], [2, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(x - 9, y);
    context.lineTo(x + 9, y);
    context.moveTo(x, y - 9);
    context.lineTo(x, y + 9);
    context.stroke();
  }
}
