// A histogram of one column on which a range is dragged, or set by keys; chosen particles stand out.
import { labelledTicks, range } from "./axes.js";
import { capture, element, onceAFrame, onLayout, style } from "./dom.js";

const BINS = 60, HEIGHT = 140, LEFT = 76, RIGHT = 12, FOOT = 40, TOP = 8;

export class Histogram {
  // options: { noun, ranged(name, [low, high] or null) }
  constructor(host, table, options) {
    Object.assign(this, { host, table, options, from: null, chosen: null });
    this.canvas = element("canvas", { tabindex: "0", role: "application", "aria-roledescription": "histogram" });
    host.append(this.canvas);
    this.redraw = onceAFrame(() => this.draw());
    this.listen();
    onLayout(host, () => this.draw());
  }

  // Show a loaded column; mask: rows that stand out, or null; chosen: the range [low, high] or null.
  show(name, mask, chosen) {
    if (name !== this.name) {
      Object.assign(this, { name, column: this.table.columns.get(name) });
      this.range = range(this.column.values, 0.01);
      this.all = this.count(null);
      this.canvas.setAttribute("aria-label", `Histogram of ${this.column.label}. Arrow keys choose a range, with Shift its upper end.`);
    }
    Object.assign(this, { mask, chosen });
    this.redraw();
  }

  px(v) { return LEFT + ((v - this.range[0]) / (this.range[1] - this.range[0])) * this.w; }
  unpx(px) { return this.range[0] + ((px - LEFT) / this.w) * (this.range[1] - this.range[0]); }

  // Particles in each bin; a row stands for `table.weight` of them.
  count(mask) {
    const bins = new Float64Array(BINS), { values } = this.column, [low, high] = this.range, scale = BINS / (high - low);
    for (let i = 0; i < values.length; i++) {
      if (mask && !mask[i]) continue;
      const k = Math.floor((values[i] - low) * scale);
      if (k >= 0 && k <= BINS) bins[Math.min(BINS - 1, k)]++;
    }
    return bins.map((n) => n * this.table.weight);
  }

  draw() {
    if (!this.column || !this.host.clientWidth) return;
    const { canvas } = this, width = Math.max(240, this.host.clientWidth), ratio = window.devicePixelRatio || 1;
    this.w = width - LEFT - RIGHT;
    canvas.width = width * ratio;
    canvas.height = HEIGHT * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const most = Math.max(1, ...this.all), tall = HEIGHT - FOOT - TOP;
    const bars = (heights, colour) => {
      context.fillStyle = colour;
      heights.forEach((n, i) => context.fillRect(LEFT + (i * this.w) / BINS, TOP + tall * (1 - n / most), this.w / BINS - 1, (tall * n) / most));
    };
    bars(this.all, style(this.mask ? "faded" : "accent"));
    if (this.mask) bars(this.count(this.mask), style("accent"));
    this.drawAxis(context, most, tall);
    if (!this.chosen) return;
    const [left, right] = this.chosen.map((v) => this.px(v));
    context.fillStyle = style("wash");
    context.fillRect(left, TOP - 4, right - left, tall + 4);
    context.fillStyle = style("accent");
    for (const x of [left, right]) context.fillRect(x - 0.75, TOP - 4, 1.5, tall + 4);
  }

  drawAxis(context, most, tall) {
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = style("muted");
    context.fillRect(LEFT, TOP + tall, this.w, 1);
    context.textAlign = "center";
    for (const [v, text] of labelledTicks(...this.range, this.w / 80)) context.fillText(text, this.px(v), TOP + tall + 15);
    context.textAlign = "right";
    for (const [v, text] of labelledTicks(0, most, 3, true)) context.fillText(text, LEFT - 6, TOP + tall * (1 - v / most) + 4);
    context.fillStyle = style("ink");
    context.textAlign = "center";
    context.fillText(this.column.label, LEFT + this.w / 2, HEIGHT - 6);
    context.save();
    context.translate(12, TOP + tall / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(`${this.options.noun}s`, 0, 0);
    context.restore();
  }

  listen() {
    const { canvas } = this, at = (event) => event.clientX - canvas.getBoundingClientRect().left;
    canvas.addEventListener("pointerdown", (event) => {
      capture(event);
      this.from = at(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.from == null || Math.abs(at(event) - this.from) < 4) return;
      this.tell([this.from, at(event)].sort((a, b) => a - b).map((px) => this.unpx(px)));
    });
    canvas.addEventListener("pointerup", (event) => {
      if (this.from == null) return;
      this.tell(Math.abs(at(event) - this.from) < 4 ? null : this.chosen, true);
      this.from = null;
    });
    canvas.addEventListener("pointercancel", () => (this.from = null));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const width = (this.range[1] - this.range[0]) / BINS, [low, high] = this.chosen || this.range;
      const moved = event.shiftKey ? [low, high + step * width] : [low + step * width, high];
      if (moved[0] < moved[1]) this.tell(moved);
    });
  }

  // Pass a range on: at once, or while it is being dragged at most once a frame.
  tell(range, atOnce = false) {
    this.chosen = range && range.map((v) => Number(v.toPrecision(5)));
    const pass = () => this.options.ranged(this.name, this.chosen);
    cancelAnimationFrame(this.passing);
    if (atOnce) pass();
    else this.passing = requestAnimationFrame(pass);
    this.redraw();
  }
}
