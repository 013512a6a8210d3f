"use strict";
// A histogram of one column on which a range can be dragged; the selected particles stand out.
(function () {
  const { labelledTicks, range } = TomoHet.axes;
  const BINS = 60, HEIGHT = 130, LEFT = 52, RIGHT = 10, FOOT = 38;

  TomoHet.Histogram = class {
    constructor(host, table, selection, noun) {
      Object.assign(this, { host, table, selection, noun, from: null });
      this.canvas = TomoHet.element("canvas", { role: "img" });
      host.append(this.canvas);
      this.listen();
      TomoHet.onLayout(host, () => this.refresh());
    }

    show(name) {
      this.column = this.table.columns.get(name);
      this.range = range(this.column.values, 0.01);
      this.canvas.setAttribute("aria-label", `Histogram of ${this.column.label}`);
      this.refresh();
    }

    px(v) { return LEFT + ((v - this.range[0]) / (this.range[1] - this.range[0])) * this.w; }
    unpx(px) { return this.range[0] + ((px - LEFT) / this.w) * (this.range[1] - this.range[0]); }

    count(mask) {
      const bins = new Array(BINS).fill(0), [low, high] = this.range;
      this.column.values.forEach((v, i) => {
        if (Number.isFinite(v) && (!mask || mask[i])) bins[Math.min(BINS - 1, Math.floor(((v - low) / (high - low)) * BINS))]++;
      });
      return bins;
    }

    refresh() {
      if (!this.column) return;
      const { canvas, column } = this;
      const width = Math.max(240, this.host.clientWidth), ratio = window.devicePixelRatio || 1;
      this.w = width - LEFT - RIGHT;
      canvas.width = width * ratio;
      canvas.height = HEIGHT * ratio;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${HEIGHT}px`;
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      const bins = this.count(null), most = Math.max(1, ...bins), tall = HEIGHT - FOOT - 8;
      const bars = (heights, colour) => {
        context.fillStyle = colour;
        heights.forEach((n, i) => context.fillRect(LEFT + (i * this.w) / BINS, 8 + tall * (1 - n / most), this.w / BINS - 1, (tall * n) / most));
      };
      bars(bins, TomoHet.style(this.selection.active ? "faded" : "accent"));
      if (this.selection.active) bars(this.count(this.selection.mask), TomoHet.style("accent"));
      this.drawAxis(context, width, most, tall);
      const chosen = this.selection.ranges.get(column.name);
      if (chosen) {
        context.fillStyle = TomoHet.style("wash");
        context.fillRect(this.px(chosen[0]), 4, this.px(chosen[1]) - this.px(chosen[0]), tall + 4);
      }
    }

    drawAxis(context, width, most, tall) {
      context.font = "12px system-ui, sans-serif";
      context.fillStyle = TomoHet.style("muted");
      context.fillRect(LEFT, 8 + tall, this.w, 1);
      context.textAlign = "center";
      for (const [v, text] of labelledTicks(...this.range, this.w / 90)) context.fillText(text, this.px(v), 8 + tall + 15);
      context.textAlign = "right";
      context.fillText(most.toLocaleString("en"), LEFT - 6, 16);
      context.fillText("0", LEFT - 6, 8 + tall);
      context.fillStyle = TomoHet.style("ink");
      context.textAlign = "center";
      context.fillText(this.column.label, LEFT + this.w / 2, HEIGHT - 4);
      context.save();
      context.translate(12, 8 + tall / 2);
      context.rotate(-Math.PI / 2);
      context.fillText(`${this.noun}s`, 0, 0);
      context.restore();
    }

    listen() {
      const { canvas } = this;
      const place = (event) => event.clientX - canvas.getBoundingClientRect().left;
      canvas.addEventListener("pointerdown", (event) => {
        TomoHet.capture(event);
        this.from = place(event);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (this.from == null || Math.abs(place(event) - this.from) < 4) return;
        this.selection.setRange(this.column.name, [this.from, place(event)].sort((a, b) => a - b).map((px) => this.unpx(px)));
      });
      canvas.addEventListener("pointerup", (event) => {
        if (this.from != null && Math.abs(place(event) - this.from) < 4) this.selection.setRange(this.column.name, null);
        this.from = null;
      });
    }
  };
})();
