// Numbers to pixels.

import { diverging, viridis } from "./colours.js";

export { diverging, viridis };

const GREY = [150, 150, 150];

/** Draws colours `[3, H, W]` of uint8, one pixel each. */
export function drawColours(canvas, { values, shape: [, height, width] }) {
  const image = new ImageData(width, height);
  const plane = width * height;
  for (let at = 0; at < plane; at++) {
    image.data.set([values[at], values[plane + at], values[2 * plane + at], 255], 4 * at);
  }
  put(canvas, image);
}

/** Draws a map `[H, W]` of float32 between two limits; what is not a number is grey. */
export function drawMap(canvas, { values, shape: [height, width] }, [low, high], colours = viridis) {
  const image = new ImageData(width, height);
  const scale = high > low ? 255 / (high - low) : 0;
  for (let at = 0; at < values.length; at++) {
    const step = Math.min(Math.max(Math.round((values[at] - low) * scale), 0), 255);
    const colour = Number.isFinite(values[at]) ? colours.subarray(3 * step, 3 * step + 3) : GREY;
    image.data.set(colour, 4 * at);
    image.data[4 * at + 3] = 255;
  }
  put(canvas, image);
}

/** Draws one of several maps `[K, H, W]` of uint8, where 0 stands for what is not a number. */
export function drawLevels(canvas, { values, shape: [, height, width] }, number) {
  const image = new ImageData(width, height);
  const start = number * width * height;
  for (let at = 0; at < width * height; at++) {
    const level = values[start + at];
    image.data.set(level ? viridis.subarray(3 * (level - 1), 3 * level) : GREY, 4 * at);
    image.data[4 * at + 3] = 255;
  }
  put(canvas, image);
}

/** The 1st and 99th percentile of finite values, and the share that lies outside. */
export function limits(values) {
  const sorted = Float32Array.from(values).filter(Number.isFinite).sort();
  if (!sorted.length) return [0, 1];
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return [at(0.01), at(0.99)];
}

function put(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}
