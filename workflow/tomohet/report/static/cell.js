// Particles in their tomograms: small pictures of all tomograms, and one of them in 3-D with orientations.
import { blob } from "./blobs.js";
import { css, gradient, hex, viridis } from "./colours.js";
import { element, onceAFrame, onLayout, style } from "./dom.js";
import { turned } from "./raster.js";
import { steer } from "./steer.js";

const START = turned([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 25, 40), GREY = [140, 148, 158], FADED = 0.13, SMALL = 120;
const EDGES = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((c) => [1, 2, 4].filter((bit) => !(c & bit)).map((bit) => [c, c | bit]));

class Cell {
  constructor(host, data) {
    Object.assign(this, { host, data, tomogram: 0, column: data.columns[0] ?? null, chosen: null });
    this.redraw = onceAFrame(() => this.drawBig());
    this.section = host.closest("[data-round]") || host;
    this.rowsOf = data.tomograms.map(() => []);
    data.tomogram.forEach((t, i) => this.rowsOf[t].push(i));
    this.camera = { rotation: START, zoom: 1 };
    this.recolour();
    this.build();
    this.section.addEventListener("tomohet:selection", ({ detail }) => this.choose(detail.sets));
  }

  place(i, axis) {
    return this.data.places[3 * i + axis] * this.data.step;
  }

  recolour() {
    const { column } = this;
    const colour = !column ? () => GREY : column.colours ? (v) => (v < 0 ? GREY : hex(column.colours[v])) : (v) => (v > 254 ? GREY : viridis(v / 254));
    this.colours = Array.from({ length: this.data.n }, (_, i) => colour(column?.numbers[i]));
  }

  build() {
    const { data } = this;
    const pick = element("select", { "aria-label": "Colour of the particles" }, ...data.columns.map((c, i) => element("option", { value: i }, c.label)));
    pick.addEventListener("change", () => {
      this.column = data.columns[pick.value];
      this.recolour();
      this.draw();
    });
    this.key = element("div", { class: "colourkey" });
    this.big = element("canvas", { class: "tomogram", tabindex: "0", role: "application", "aria-roledescription": "3-D view",
      "aria-label": "Particles of the chosen tomogram. Arrow keys turn, plus and minus zoom, a click chooses a particle." });
    this.text = element("p", { class: "hint", "aria-live": "polite" });
    this.small = data.tomograms.map((t, k) => {
      const canvas = element("canvas", { "aria-hidden": "true" });
      const button = element("button", { type: "button", class: "tile", title: `${t.name}: ${t.n} particles`, onclick: () => this.show(k) }, canvas,
        element("span", {}, t.name.replace(/\.\w+$/, "")), element("small", {}, ` ${t.n.toLocaleString("en")}`));
      return { canvas, button };
    });
    steer(this.big, this);
    this.big.addEventListener("pointerdown", (event) => (this.pressed = [event.clientX, event.clientY]));
    this.big.addEventListener("pointerup", (event) => this.click(event));
    this.host.replaceChildren(element("div", { class: "controls" }, element("label", { class: "picker" }, element("span", {}, "Colour"), pick), this.key),
      element("div", { class: "tomograms" }, element("div", { class: "tiles3d" }, ...this.small.map((s) => s.button)), element("div", {}, this.big, this.text)));
    onLayout(this.host, () => this.draw());
  }

  show(tomogram) {
    this.tomogram = tomogram;
    this.draw();
  }

  // Named selections: all other particles fade.
  choose(sets) {
    const rows = new Set(sets.flatMap((s) => [...s.rows]));
    this.chosen = rows.size ? Uint8Array.from(this.data.rows, (row) => rows.has(row)) : null;
    this.draw();
  }

  click(event) {
    if (!this.pressed || Math.hypot(event.clientX - this.pressed[0], event.clientY - this.pressed[1]) > 4) return;
    const box = this.big.getBoundingClientRect(), scale = this.big.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const near = this.points.reduce((best, p) => {
      const far = Math.hypot(p.x - x, p.y - y);
      return far < best[0] ? [far, p.i] : best;
    }, [14 * scale, -1])[1];
    if (near < 0) return;
    const row = this.data.rows[near];
    this.text.textContent = `Row ${row} of the particle table at x ${this.place(near, 0).toFixed(0)}, y ${this.place(near, 1).toFixed(0)}, z ${this.place(near, 2).toFixed(0)} Å from the first particle.`;
    this.section.dispatchEvent(new CustomEvent("tomohet:particle", { detail: { row } }));
  }

  turn(dx, dy) {
    this.camera.rotation = turned(this.camera.rotation, dx, dy);
    this.redraw();
  }

  draw() {
    this.drawKey();
    this.small.forEach((s, k) => {
      s.button.setAttribute("aria-pressed", String(k === this.tomogram));
      this.drawSmall(s.canvas, k);
    });
    this.drawBig();
    const { data, tomogram } = this, t = data.tomograms[tomogram];
    this.text.textContent = `${t.name}: ${t.n.toLocaleString("en")} particles.${data.axes ? " Lines: z axis of each particle." : ""}${t.scene ? ` Open in ChimeraX: ${t.scene}` : ""}`;
  }

  drawKey() {
    const { column } = this;
    if (!column) return;
    if (!column.colours) {
      const bar = element("span", { class: "gradient", style: `background:${gradient(viridis)}` });
      return this.key.replaceChildren("0", bar, "1");
    }
    this.key.replaceChildren(...column.values.map((value, k) => element("span", { class: "key" }, element("span", { class: "swatch", style: `--c:${column.colours[k]}` }), String(value))));
  }

  alpha(i) {
    return this.chosen && !this.chosen[i] ? FADED : 1;
  }

  // From above, all tomograms on one scale.
  drawSmall(canvas, k) {
    const rows = this.rowsOf[k], context = canvas.getContext("2d"), { extent } = this;
    canvas.width = canvas.height = SMALL * Math.min(2, devicePixelRatio || 1);
    const unit = canvas.width / (1.06 * extent), [left, top] = [0, 1].map((a) => 0.03 * canvas.width - unit * Math.min(...rows.map((i) => this.place(i, a))));
    const r = Math.max(1.2, this.data.radius_A * unit * 0.9);
    for (const i of rows) {
      context.globalAlpha = this.alpha(i);
      context.fillStyle = css(this.colours[i]);
      context.beginPath();
      context.arc(left + unit * this.place(i, 0), top + unit * this.place(i, 1), r, 0, 7);
      context.fill();
    }
  }

  // Largest width of any tomogram's particles along x or y, in Å.
  get extent() {
    const wide = (rows, a) => {
      const v = rows.map((i) => this.place(i, a));
      return Math.max(...v) - Math.min(...v);
    };
    return (this.widest ||= Math.max(1, ...this.rowsOf.flatMap((rows) => (rows.length ? [wide(rows, 0), wide(rows, 1)] : []))));
  }

  drawBig() {
    const canvas = this.big, ratio = Math.min(2, devicePixelRatio || 1), context = canvas.getContext("2d"), { data } = this;
    canvas.width = Math.round((canvas.clientWidth || 600) * ratio);
    canvas.height = Math.round((canvas.clientHeight || 460) * ratio);
    const rows = this.rowsOf[this.tomogram];
    if (!rows.length) return;
    const bounds = [0, 1, 2].map((a) => [Math.min, Math.max].map((f) => f(...rows.map((i) => this.place(i, a)))));
    const middle = bounds.map(([low, high]) => (low + high) / 2), half = bounds.map(([low, high]) => (high - low) / 2);
    // At the first view the box just fits.
    const wide = START.map((row) => row.reduce((sum, v, a) => sum + Math.abs(v) * half[a], 0));
    const { rotation, zoom } = this.camera, unit = 0.45 * zoom * Math.min(canvas.width / wide[0], canvas.height / wide[1]);
    const project = (v) => {
      const [x, y, z] = rotation.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
      return { x: canvas.width / 2 + unit * x, y: canvas.height / 2 + unit * y, z };
    };
    this.drawFrame(context, half, project, ratio);
    const reach = Math.hypot(...half), r = Math.max(2 * ratio, data.radius_A * unit);
    this.points = rows.map((i) => ({ i, ...project([0, 1, 2].map((a) => this.place(i, a) - middle[a])) })).sort((a, b) => b.z - a.z);
    for (const { i, x, y, z } of this.points) {
      const near = 0.5 - z / (2 * reach), [red, green, blue] = this.colours[i];
      context.globalAlpha = this.alpha(i) * (0.45 + 0.55 * near);
      context.fillStyle = context.strokeStyle = `rgb(${red} ${green} ${blue})`;
      context.beginPath();
      context.arc(x, y, r * (0.75 + 0.5 * near), 0, 7);
      context.fill();
      if (!data.axes) continue;
      const tip = project([0, 1, 2].map((a) => this.place(i, a) - middle[a] + (2.4 * data.radius_A * (data.axes[3 * i + a] - 127)) / 127));
      context.lineWidth = Math.max(1.2 * ratio, r / 3);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(tip.x, tip.y);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  // The box around the particles, with its widths in nm.
  drawFrame(context, half, project, ratio) {
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((c) => project(half.map((h, a) => ((c >> a) & 1 ? h : -h))));
    context.strokeStyle = context.fillStyle = style("muted");
    context.globalAlpha = 0.55;
    context.lineWidth = ratio;
    context.beginPath();
    for (const [a, b] of EDGES) {
      context.moveTo(corners[a].x, corners[a].y);
      context.lineTo(corners[b].x, corners[b].y);
    }
    context.stroke();
    context.globalAlpha = 1;
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    [1, 2, 4].forEach((bit, a) => context.fillText(`${"xyz"[a]} ${(half[a] / 5).toFixed(0)} nm`, (corners[0].x + corners[bit].x) / 2, (corners[0].y + corners[bit].y) / 2 - 5 * ratio));
  }
}

export async function cell(host, payload) {
  const columns = payload.columns.map(async (c) => ({ ...c, numbers: await blob(c.blob) }));
  const [rows, places, tomogram, axes] = await Promise.all([blob(payload.rows), blob(payload.places), blob(payload.tomogram), payload.axes && blob(payload.axes)]);
  host.cell = new Cell(host, { ...payload, rows, places, tomogram, axes, columns: await Promise.all(columns) });
  host.cell.draw();
}
