"use strict";
// A scatter plot of particles or volumes on a canvas: lasso, pan, zoom, hover; points outside the selection fade.
(function () {
  const { labelledTicks, range } = TomoHet.axes;
  const MARGIN = { right: 10, top: 10, bottom: 40 };

  // Lay a disc (centre and radius in pixels, colour 0xRRGGBB) over an image.
  function stamp({ data, width, height }, x, y, radius, colour, alpha) {
    const x0 = Math.max(0, Math.floor(x - radius)), x1 = Math.min(width - 1, Math.ceil(x + radius));
    const y0 = Math.max(0, Math.floor(y - radius)), y1 = Math.min(height - 1, Math.ceil(y + radius));
    for (let j = y0; j <= y1; j++) {
      for (let i = x0; i <= x1; i++) {
        const inside = radius + 0.5 - Math.sqrt((i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2);
        if (inside <= 0) continue;
        const at = 4 * (j * width + i), over = alpha * Math.min(1, inside), under = (data[at + 3] / 255) * (1 - over);
        const total = over + under;
        data[at] = (((colour >> 16) & 255) * over + data[at] * under) / total;
        data[at + 1] = (((colour >> 8) & 255) * over + data[at + 1] * under) / total;
        data[at + 2] = ((colour & 255) * over + data[at + 2] * under) / total;
        data[at + 3] = 255 * total;
      }
    }
  }

  TomoHet.Scatter = class {
    constructor(host, table, selection, noun, hover) {
      Object.assign(this, { host, table, selection, noun, hover, stroke: null, dragging: null });
      this.canvas = TomoHet.element("canvas", { tabindex: "0", role: "img" });
      this.tip = TomoHet.element("div", { class: "tip", hidden: true });
      host.append(this.canvas, this.tip);
      this.listen();
      selection.onChange(() => this.draw());
      TomoHet.onLayout(host, () => this.draw());
    }

    // Show two columns, coloured by `colours` (per point: [r, g, b] packed as 0xRRGGBB).
    show(x, y, colours) {
      const moved = x !== this.x?.name || y !== this.y?.name;
      this.x = this.table.columns.get(x);
      this.y = this.table.columns.get(y);
      this.colours = colours;
      this.canvas.setAttribute("aria-label", `Scatter plot of ${this.table.n} ${this.noun}s: ${this.y.label} against ${this.x.label}`);
      if (moved) this.reset();
      else this.draw();
    }

    reset() {
      this.view = { x: range(this.x.values, 0.05), y: range(this.y.values, 0.05) };
      this.draw();
    }

    zoom(factor, px = this.width / 2, py = this.height / 2) {
      for (const [axis, at] of [["x", this.unx(px)], ["y", this.uny(py)]]) {
        this.view[axis] = this.view[axis].map((v) => at + (v - at) * factor);
      }
      this.draw();
    }

    pan(dx, dy) {
      const shift = (axis, size, d) => {
        const span = this.view[axis][1] - this.view[axis][0];
        this.view[axis] = this.view[axis].map((v) => v + (d / size) * span);
      };
      shift("x", this.w, -dx);
      shift("y", this.h, dy);
      this.draw();
    }

    measure() {
      this.width = Math.max(240, this.host.clientWidth);
      this.height = Math.round(Math.min(this.width * 0.82, 430));
      this.h = this.height - MARGIN.top - MARGIN.bottom;
      this.yticks = labelledTicks(...this.view.y, this.h / 50);
      this.left = 28 + 6.6 * Math.max(2, ...this.yticks.map(([, text]) => text.length));
      this.w = this.width - this.left - MARGIN.right;
      this.ratio = window.devicePixelRatio || 1;
    }

    px(x) { return this.left + ((x - this.view.x[0]) / (this.view.x[1] - this.view.x[0])) * this.w; }
    py(y) { return MARGIN.top + this.h - ((y - this.view.y[0]) / (this.view.y[1] - this.view.y[0])) * this.h; }
    unx(px) { return this.view.x[0] + ((px - this.left) / this.w) * (this.view.x[1] - this.view.x[0]); }
    uny(py) { return this.view.y[0] + ((MARGIN.top + this.h - py) / this.h) * (this.view.y[1] - this.view.y[0]); }

    draw() {
      if (!this.view) return;
      this.measure();
      this.stampPoints();
      this.paint();
    }

    // Put axes, the points as last stamped, and the lasso on the canvas.
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
      this.drawLasso(context);
    }

    drawAxes(context) {
      const [ink, grid] = [TomoHet.style("muted"), TomoHet.style("grid")];
      context.font = "12px system-ui, sans-serif";
      context.fillStyle = ink;
      context.textAlign = "center";
      for (const [v, text] of labelledTicks(...this.view.x, this.w / 80)) {
        context.fillStyle = grid;
        context.fillRect(this.px(v), MARGIN.top, 1, this.h);
        context.fillStyle = ink;
        context.fillText(text, this.px(v), this.height - 24);
      }
      context.textAlign = "right";
      for (const [v, text] of this.yticks) {
        context.fillStyle = grid;
        context.fillRect(this.left, this.py(v), this.w, 1);
        context.fillStyle = ink;
        context.fillText(text, this.left - 6, this.py(v) + 4);
      }
      context.fillStyle = TomoHet.style("ink");
      context.textAlign = "center";
      context.fillText(this.x.label, this.left + this.w / 2, this.height - 6);
      context.save();
      context.translate(12, MARGIN.top + this.h / 2);
      context.rotate(-Math.PI / 2);
      context.fillText(this.y.label, 0, 0);
      context.restore();
    }

    get radius() {
      return Math.max(1.3, Math.min(4, 60 / Math.sqrt(this.table.n)));
    }

    // The points as a picture of the plot area. Written pixel by pixel: paths of many thousand circles are slow.
    stampPoints() {
      const width = Math.round(this.w * this.ratio), height = Math.round(this.h * this.ratio);
      const image = new ImageData(width, height), { mask, active } = this.selection;
      const xs = this.x.values, ys = this.y.values, faded = parseInt(TomoHet.style("faded").slice(1), 16);
      // Those outside the selection first, so that they never cover a chosen one.
      for (const wanted of active ? [0, 1] : [1]) {
        for (let i = 0; i < this.table.n; i++) {
          if (mask[i] !== wanted) continue;
          const x = (this.px(xs[i]) - this.left) * this.ratio, y = (this.py(ys[i]) - MARGIN.top) * this.ratio;
          stamp(image, x, y, this.radius * this.ratio, wanted ? this.colours[i] : faded, wanted ? 0.8 : 0.5);
        }
      }
      this.points = new OffscreenCanvas(width, height);
      this.points.getContext("2d").putImageData(image, 0, 0);
    }

    drawLasso(context) {
      const own = this.selection.lasso;
      const drawn = own && own.x === this.x.name && own.y === this.y.name ? own.polygon : null;
      const line = this.stroke || drawn?.map(([x, y]) => [this.px(x), this.py(y)]);
      if (!line?.length) return;
      context.beginPath();
      line.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.strokeStyle = TomoHet.style("accent");
      context.fillStyle = TomoHet.style("wash");
      context.lineWidth = 1.5;
      context.fill();
      context.stroke();
    }

    listen() {
      const { canvas } = this;
      const place = (event) => {
        const box = canvas.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top];
      };
      canvas.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        canvas.focus({ preventScroll: true });
        TomoHet.capture(event);
        this.dragging = place(event);
        if (!event.shiftKey) this.stroke = [place(event)];
      });
      canvas.addEventListener("pointermove", (event) => {
        const [x, y] = place(event);
        if (!this.dragging) return this.point(x, y);
        if (this.stroke) {
          this.stroke.push([x, y]);
          this.paint();
        } else this.pan(x - this.dragging[0], y - this.dragging[1]);
        this.dragging = [x, y];
      });
      canvas.addEventListener("pointerup", () => this.finish());
      canvas.addEventListener("pointercancel", () => this.finish());
      canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
      canvas.addEventListener("dblclick", () => this.reset());
      canvas.addEventListener("wheel", (event) => {
        // A page that scrolls must go on scrolling: only a focused plot takes the wheel.
        if (document.activeElement !== canvas) return;
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, ...place(event));
      }, { passive: false });
      const keys = {
        "+": () => this.zoom(0.8), "=": () => this.zoom(0.8), "-": () => this.zoom(1.25), 0: () => this.reset(),
        ArrowLeft: () => this.pan(30, 0), ArrowRight: () => this.pan(-30, 0),
        ArrowUp: () => this.pan(0, 30), ArrowDown: () => this.pan(0, -30),
        Escape: () => this.selection.clear(),
      };
      canvas.addEventListener("keydown", (event) => {
        if (!keys[event.key]) return;
        event.preventDefault();
        keys[event.key]();
      });
    }

    finish() {
      const stroke = this.stroke;
      this.stroke = this.dragging = null;
      if (!stroke) return;
      const wide = range(stroke.map((p) => p[0])), high = range(stroke.map((p) => p[1]));
      // A click takes the lasso away.
      if (wide[1] - wide[0] < 5 || high[1] - high[0] < 5) return this.selection.setLasso(null);
      const { polygon, parts } = this.enclose(stroke);
      this.selection.setLasso({ x: this.x.name, y: this.y.name, polygon, parts });
    }

    // Simplify in pixels, where both axes weigh the same, then cut into convex parts in data units.
    enclose(stroke) {
      const upright = stroke.map(([x, y]) => [x, -y]);
      const { polygon } = TomoHet.lasso.fromPoints(upright, 2.5);
      return TomoHet.lasso.fromPolygon(polygon.map(([x, y]) => [this.unx(x), this.uny(-y)]));
    }

    point(px, py) {
      let best = -1, nearest = 100;
      for (let i = 0; i < this.table.n; i++) {
        const dx = this.px(this.x.values[i]) - px, dy = this.py(this.y.values[i]) - py;
        const d = dx * dx + dy * dy;
        if (d < nearest) [nearest, best] = [d, i];
      }
      this.tip.hidden = best < 0;
      if (best < 0) return;
      this.tip.replaceChildren(...this.hover(best, [this.x, this.y]));
      this.tip.style.left = `${Math.min(px + 14, this.width - 190)}px`;
      this.tip.style.top = `${Math.max(4, py - 20)}px`;
    }
  };
})();
