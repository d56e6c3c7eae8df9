// Items as points: hover shows one, a click opens it, a lasso selects several.

const REACH = 9; // pixels

/** A scatter plot; `hover(number or -1, x, y)`, `open(number)` and `select(numbers)` are called. */
export class Scatter {
  constructor(canvas, { hover, open, select }) {
    Object.assign(this, { canvas, hover, open, select, points: new Float32Array(), colours: () => "", chosen: new Set(), lasso: null });
    canvas.addEventListener("pointerdown", (event) => this.#pressed(event));
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    canvas.addEventListener("pointerup", (event) => this.#released(event));
    canvas.addEventListener("pointerleave", () => this.lasso || this.hover(-1));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Shows points `[N, 2]`, which may be NaN, in the colours of a function from number to CSS. */
  fill(points, colours) {
    this.points = points;
    this.colours = colours;
    this.draw();
  }

  choose(numbers) {
    this.chosen = new Set(numbers);
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    Object.assign(canvas, { width: width * devicePixelRatio, height: height * devicePixelRatio });
    this.#place(width, height);
    this.#drawPoints();
    this.#drawAll();
  }

  /** Draws the points once; a lasso over many thousands would lag otherwise. */
  #drawPoints() {
    this.drawn = Object.assign(document.createElement("canvas"), { width: this.canvas.width, height: this.canvas.height });
    const context = this.drawn.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    const side = this.x.length > 10000 ? 2 : this.x.length > 2000 ? 3 : 5;
    for (const pass of [false, true]) {
      // The chosen ones over the others, which are pale.
      context.globalAlpha = this.chosen.size && !pass ? 0.18 : 0.8;
      for (let number = 0; number < this.x.length; number++) {
        if (Number.isNaN(this.x[number]) || this.chosen.has(number) !== pass) continue;
        context.fillStyle = this.colours(number);
        context.fillRect(this.x[number] - side / 2, this.y[number] - side / 2, side, side);
      }
    }
  }

  #drawAll() {
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.drawn, 0, 0);
    context.scale(devicePixelRatio, devicePixelRatio);
    if (this.lasso) this.#drawLasso(context);
  }

  /** Computes where the points are on the canvas, and which are in each square of it. */
  #place(width, height) {
    const count = this.points.length / 2;
    const range = [0, 1].map((axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (let number = 0; number < count; number++) {
        const value = this.points[2 * number + axis];
        if (value < low) low = value;
        if (value > high) high = value;
      }
      return [low, high > low ? high - low : 1];
    });
    const at = (axis, size) => Float32Array.from({ length: count }, (_, number) => 12 + ((this.points[2 * number + axis] - range[axis][0]) / range[axis][1]) * (size - 24));
    this.x = at(0, width);
    this.y = at(1, height).map((value) => height - value);
    this.squares = new Map();
    for (let number = 0; number < count; number++) {
      if (Number.isNaN(this.x[number])) continue;
      const key = square(this.x[number], this.y[number]);
      if (!this.squares.has(key)) this.squares.set(key, []);
      this.squares.get(key).push(number);
    }
  }

  /** The point nearest to a place, or -1. */
  nearest(x, y) {
    let [best, distance] = [-1, REACH ** 2];
    for (const right of [-REACH, 0, REACH]) {
      for (const down of [-REACH, 0, REACH]) {
        for (const number of this.squares?.get(square(x + right, y + down)) ?? []) {
          const found = (this.x[number] - x) ** 2 + (this.y[number] - y) ** 2;
          if (found < distance) [best, distance] = [number, found];
        }
      }
    }
    return best;
  }

  #pressed(event) {
    this.lasso = [[event.offsetX, event.offsetY]];
    this.canvas.setPointerCapture(event.pointerId);
  }

  #moved(event) {
    if (!this.lasso) return this.hover(this.nearest(event.offsetX, event.offsetY), event.offsetX, event.offsetY);
    this.lasso.push([event.offsetX, event.offsetY]);
    return this.#drawAll();
  }

  #released(event) {
    const lasso = this.lasso ?? [];
    this.lasso = null;
    const moved = lasso.some(([x, y]) => Math.hypot(x - lasso[0][0], y - lasso[0][1]) > 5);
    if (!moved) {
      this.#drawAll();
      const number = this.nearest(event.offsetX, event.offsetY);
      if (number >= 0) this.open(number);
      return;
    }
    const inside = [];
    for (let number = 0; number < this.x.length; number++) if (isInside(this.x[number], this.y[number], lasso)) inside.push(number);
    this.choose(inside);
    this.select(inside);
  }

  #drawLasso(context) {
    context.beginPath();
    this.lasso.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.strokeStyle = getComputedStyle(this.canvas).color;
    context.setLineDash([4, 3]);
    context.stroke();
    context.globalAlpha = 0.08;
    context.fillStyle = context.strokeStyle;
    context.fill();
    context.globalAlpha = 1;
    context.setLineDash([]);
  }
}

const square = (x, y) => `${Math.floor(x / REACH)},${Math.floor(y / REACH)}`;

/** Whether a point is inside a polygon: a ray from it crosses the outline an odd number of times. */
export function isInside(x, y, outline) {
  let inside = false;
  for (let now = 0, before = outline.length - 1; now < outline.length; before = now++) {
    const [[x1, y1], [x2, y2]] = [outline[now], outline[before]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}
