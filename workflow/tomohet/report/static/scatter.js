// A plot of two columns: axes, points, zoom, and the tools that draw a box or an outline.
import { labelledTicks, range } from "./axes.js";
import { capture, element, onceAFrame, onLayout, style } from "./dom.js";
import { cells, discs, MOST_DISCS, nearest } from "./points.js";

const MARGIN = { right: 12, top: 10, bottom: 44 };

export class Scatter {
  // options: { height(width), equal, label(), hover(row), clicked(row), drawn({kind, stroke | box}) }
  constructor(host, table, options) {
    Object.assign(this, { host, table, options, tool: "lasso", stroke: null, from: null, rows: null });
    this.canvas = element("canvas", { tabindex: "0", role: "application", "aria-roledescription": "scatter plot" });
    this.tip = element("div", { class: "tip", hidden: true });
    host.append(this.canvas, this.tip);
    this.redraw = onceAFrame(() => this.draw());
    this.repoint = onceAFrame(() => this.point());
    this.listen();
    onLayout(host, () => this.draw());
  }

  // Show two loaded columns. look: { colours (0xRRGGBB of each row), mask or null, outlines in data units }.
  show(x, y, look, rows = null) {
    const moved = x !== this.x || y !== this.y || rows !== this.rows;
    Object.assign(this, { x, y, look, rows, xs: this.table.columns.get(x).values, ys: this.table.columns.get(y).values });
    this.canvas.setAttribute("aria-label", this.options.label(this));
    if (moved) this.reset();
    else this.redraw();
  }

  reset() {
    const of = (values) => (this.rows ? Array.from(this.rows, (i) => values[i]) : values);
    this.view = { x: range(of(this.xs), 0.04), y: range(of(this.ys), 0.04) };
    if (this.options.equal) this.equalise();
    this.draw();
  }

  // Widen the narrower axis so that one unit is equally long along both.
  equalise() {
    this.measure();
    const scale = Math.max((this.view.x[1] - this.view.x[0]) / this.w, (this.view.y[1] - this.view.y[0]) / this.h);
    for (const [axis, size] of [["x", this.w], ["y", this.h]]) {
      const middle = (this.view[axis][0] + this.view[axis][1]) / 2, half = (scale * size) / 2;
      this.view[axis] = [middle - half, middle + half];
    }
  }

  zoom(factor, px = this.left + this.w / 2, py = MARGIN.top + this.h / 2) {
    for (const [axis, at] of [["x", this.unx(px)], ["y", this.uny(py)]]) {
      this.view[axis] = this.view[axis].map((v) => at + (v - at) * factor);
    }
    this.redraw();
  }

  pan(dx, dy) {
    for (const [axis, shift] of [["x", -dx / this.w], ["y", dy / this.h]]) {
      const span = this.view[axis][1] - this.view[axis][0];
      this.view[axis] = this.view[axis].map((v) => v + shift * span);
    }
    this.redraw();
  }

  measure() {
    this.width = Math.max(240, this.host.clientWidth);
    this.height = Math.round(this.options.height(this.width));
    this.h = this.height - MARGIN.top - MARGIN.bottom;
    this.yticks = labelledTicks(...this.view.y, this.h / 50);
    this.left = 28 + 6.6 * Math.max(2, ...this.yticks.map(([, text]) => text.length));
    this.w = this.width - this.left - MARGIN.right;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
  }

  px(x) { return this.left + ((x - this.view.x[0]) / (this.view.x[1] - this.view.x[0])) * this.w; }
  py(y) { return MARGIN.top + this.h - ((y - this.view.y[0]) / (this.view.y[1] - this.view.y[0])) * this.h; }
  unx(px) { return this.view.x[0] + ((px - this.left) / this.w) * (this.view.x[1] - this.view.x[0]); }
  uny(py) { return this.view.y[0] + ((MARGIN.top + this.h - py) / this.h) * (this.view.y[1] - this.view.y[0]); }

  // From values to pixels of the plot area, `scale` pixels to one of the page.
  place(scale, left = 0, top = 0) {
    const ax = (scale * this.w) / (this.view.x[1] - this.view.x[0]), ay = (-scale * this.h) / (this.view.y[1] - this.view.y[0]);
    return { ax, bx: left * scale - ax * this.view.x[0], ay, by: (top + this.h) * scale - ay * this.view.y[0] };
  }

  get crowded() { return (this.rows ? this.rows.length : this.table.n) > MOST_DISCS; }

  draw() {
    if (!this.view || !this.host.clientWidth) return;
    this.measure();
    const width = Math.round(this.w * this.ratio), height = Math.round(this.h * this.ratio), image = new ImageData(width, height);
    const n = this.rows ? this.rows.length : this.table.n, faded = parseInt(style("faded").slice(1), 16);
    const look = { ...this.look, faded, radius: this.ratio * Math.max(1.4, Math.min(4, 75 / Math.sqrt(n))), cell: this.ratio > 1 ? 3 : 2 };
    (this.crowded ? cells : discs)(image, this.xs, this.ys, this.rows, this.place(this.ratio), look);
    this.points = new OffscreenCanvas(width, height);
    this.points.getContext("2d").putImageData(image, 0, 0);
    this.paint();
  }

  // Put axes, the points as last drawn, and outlines on the canvas.
  paint() {
    const { canvas, ratio } = this;
    canvas.width = this.width * ratio;
    canvas.height = this.height * ratio;
    canvas.style.width = `${this.width}px`;
    canvas.style.height = `${this.height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.drawAxes(context);
    context.drawImage(this.points, this.left, MARGIN.top, this.w, this.h);
    this.drawOutlines(context);
  }

  drawAxes(context) {
    const [ink, grid, title] = [style("muted"), style("grid"), style("ink")];
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    for (const [v, text] of labelledTicks(...this.view.x, this.w / 80)) {
      context.fillStyle = grid;
      context.fillRect(this.px(v), MARGIN.top, 1, this.h);
      context.fillStyle = ink;
      context.fillText(text, this.px(v), this.height - 26);
    }
    context.textAlign = "right";
    for (const [v, text] of this.yticks) {
      context.fillStyle = grid;
      context.fillRect(this.left, this.py(v), this.w, 1);
      context.fillStyle = ink;
      context.fillText(text, this.left - 6, this.py(v) + 4);
    }
    context.fillStyle = title;
    context.textAlign = "center";
    const [x, y] = [this.x, this.y].map((name) => this.table.columns.get(name).label);
    context.fillText(this.options.xnote ? `${x}  ·  ${this.options.xnote}` : x, this.left + this.w / 2, this.height - 8);
    context.save();
    context.translate(12, MARGIN.top + this.h / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(y, 0, 0);
    context.restore();
  }

  // Outlines of selections on these axes (data units), and the stroke under the pointer (pixels).
  drawOutlines(context) {
    const inPixels = (this.look.outlines || []).filter((o) => o.x === this.x && o.y === this.y)
      .map(({ corners, colour }) => ({ colour, line: corners.map(([x, y]) => [this.px(x), this.py(y)]) }));
    if (this.stroke) inPixels.push({ colour: style("accent"), line: this.tool === "box" ? boxOf(this.stroke) : this.stroke });
    context.save();
    context.beginPath();
    context.rect(this.left, MARGIN.top, this.w, this.h);
    context.clip();
    for (const { line, colour } of inPixels) {
      context.beginPath();
      line.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.strokeStyle = colour;
      context.lineWidth = 1.6;
      context.fillStyle = style("wash");
      context.fill("evenodd");
      context.stroke();
    }
    context.restore();
  }

  listen() {
    const { canvas } = this;
    const placed = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.focus({ preventScroll: true });
      capture(event);
      this.from = placed(event);
      if (!event.shiftKey && this.tool !== "pan") this.stroke = [this.from];
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = placed(event);
      this.pointer = now;
      if (!this.from) return this.repoint();
      if (this.stroke) {
        this.stroke.push(now);
        this.paint();
      } else {
        this.pan(now[0] - this.from[0], now[1] - this.from[1]);
        this.from = now;
      }
    });
    canvas.addEventListener("pointerup", () => this.finish());
    canvas.addEventListener("pointercancel", () => (this.stroke = this.from = null));
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.tip.hidden = true;
    });
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      // A page that scrolls must go on scrolling: only a focused plot takes the wheel.
      if (document.activeElement !== canvas) return;
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, ...placed(event));
    }, { passive: false });
    const keys = {
      "+": () => this.zoom(0.8), "=": () => this.zoom(0.8), "-": () => this.zoom(1.25), 0: () => this.reset(),
      ArrowLeft: () => this.pan(30, 0), ArrowRight: () => this.pan(-30, 0), ArrowUp: () => this.pan(0, 30), ArrowDown: () => this.pan(0, -30),
      Enter: () => this.options.drawn({ kind: "box", box: this.view, by: "key" }),
    };
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  finish() {
    const stroke = this.stroke;
    this.stroke = this.from = null;
    if (!stroke) return;
    const wide = range(stroke.map((p) => p[0])), high = range(stroke.map((p) => p[1]));
    if (wide[1] - wide[0] < 5 && high[1] - high[0] < 5) {
      this.paint();
      const row = nearest(this.xs, this.ys, this.rows, this.place(1, this.left, MARGIN.top), ...stroke[0], 10);
      return row >= 0 && this.options.clicked(row);
    }
    if (this.tool === "box") {
      const [from, , to] = boxOf(stroke), ascending = (a, b) => [Math.min(a, b), Math.max(a, b)];
      const box = { x: ascending(this.unx(from[0]), this.unx(to[0])), y: ascending(this.uny(from[1]), this.uny(to[1])) };
      this.options.drawn({ kind: "box", box });
    } else this.options.drawn({ kind: "outline", stroke, toData: ([x, y]) => [this.unx(x), this.uny(y)] });
  }

  // Tell what lies under the pointer.
  point() {
    if (!this.pointer || !this.view) return;
    const [px, py] = this.pointer;
    const row = nearest(this.xs, this.ys, this.rows, this.place(1, this.left, MARGIN.top), px, py, 10);
    this.tip.hidden = row < 0;
    if (row < 0) return;
    this.tip.replaceChildren(...this.options.hover(row));
    this.tip.style.left = `${Math.min(px + 14, this.width - 190)}px`;
    this.tip.style.top = `${Math.max(4, py - 20)}px`;
  }
}

// The rectangle between the ends of a stroke.
function boxOf(stroke) {
  const [[x0, y0], [x1, y1]] = [stroke[0], stroke[stroke.length - 1]];
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}
