// Volumes side by side: isosurfaces under one camera and one level, and a slice that moves through all.
import { blob } from "./blobs.js";
import { gradient, hex } from "./colours.js";
import { element, onceAFrame, reduced } from "./dom.js";
import { choice, slider } from "./inputs.js";
import { projection, section } from "./planes.js";
import { Raster, showInside, START, turned } from "./raster.js";
import { divergingOf } from "./scales.js";
import { steer } from "./steer.js";
import { isosurface } from "./surface.js";

const SURFACE = [176, 190, 208], PROJECTED = 4; // of a projection's differences, which are thinned by the depth of the box

class Viewer {
  constructor(host, set, volumes) {
    Object.assign(this, { host, set, volumes, box: set.box, level: set.level });
    this.measure();
    this.fit = this.fittingZoom();
    this.camera = { rotation: START, zoom: this.fit };
    Object.assign(this, { axis: 0, index: this.tellingSection(), tint: "plain", meshes: [] });
    this.projected = set.count > 1 && set.kind !== "pieces"; // one section would miss what differs in most volumes
    // Draw what is in sight; coarse while the camera moves.
    this.redraw = onceAFrame((moving = false) => this.seen.forEach((i) => this.drawPanel(i, moving)));
    this.build();
  }

  volume(i) {
    return this.volumes.subarray(i * this.box ** 3, (i + 1) * this.box ** 3);
  }

  // Mean and variance of the volumes, voxel by voxel, each weighted by its particles; and the difference that
  // gets the full colour.
  measure() {
    const { captions } = this.set, size = this.box ** 3, all = captions.reduce((sum, c) => sum + (c.n ?? 1), 0) || 1;
    [this.mean, this.variance] = [new Float32Array(size), new Float32Array(size)];
    captions.forEach((c, i) => this.volume(i).forEach((v, k) => (this.mean[k] += (v * (c.n ?? 1)) / all)));
    captions.forEach((c, i) => this.volume(i).forEach((v, k) => (this.variance[k] += ((v - this.mean[k]) ** 2 * (c.n ?? 1)) / all)));
    this.spread = 4 * Math.sqrt(this.variance.reduce((sum, v) => sum + v, 0) / size) || 1;
  }

  // The z section in which the volumes differ most; the middle one of a single volume.
  tellingSection() {
    const { box } = this, sums = new Float64Array(box);
    this.variance.forEach((v, k) => (sums[Math.floor(k / (box * box))] += v));
    const most = Math.max(...sums);
    return most > 0 ? sums.indexOf(most) : Math.floor(box / 2);
  }

  // Whether a voxel belongs to what shall be in view.
  inView(voxel) {
    return this.mean[voxel] > this.level;
  }

  // The zoom at which the farthest voxel in view is near a panel's edge.
  fittingZoom() {
    const { box } = this, half = (box - 1) / 2;
    let far = 1;
    this.mean.forEach((_, i) => {
      if (!this.inView(i)) return;
      const x = (i % box) - half, y = (Math.floor(i / box) % box) - half, z = Math.floor(i / (box * box)) - half;
      far = Math.max(far, x * x + y * y + z * z);
    });
    return Math.max(1, Math.min(4, (0.46 * box) / Math.sqrt(far)));
  }

  build() {
    this.side = Math.min(this.box, 2 * Math.ceil((0.55 * this.box) / this.fit));
    const { set } = this, many = set.count > 1 && set.kind !== "pieces";
    const level = (v) => `${((set.low + (v / 255) * (set.high - set.low)) / set.rms).toFixed(1)} × RMS`;
    const place = (v) => `${((v - this.box / 2) * set.pixel_size_A).toFixed(0).replace("-", "−")} Å`;
    const at = slider("at", { min: 0, max: this.box - 1, value: this.index }, place, (v) => this.setSlice(this.axis, v));
    at.hidden = this.projected;
    const pictures = [["projection", "projection"], ["section", "section"]];
    this.key = element("p", { class: "colourkey", hidden: true });
    const controls = element("div", { class: "controls" },
      slider("Level", { min: 1, max: 254, value: this.level }, level, (v) => this.setLevel(v)),
      ...(many ? [choice("Picture", pictures, (v) => {
        this.projected = v === "projection";
        at.hidden = this.projected;
        this.redraw();
      })] : []),
      choice("Along", [["0", "z"], ["1", "y"], ["2", "x"]], (v) => this.setSlice(Number(v), this.index)), at,
      ...(many ? [choice("Show", [["plain", "density"], ["difference", "difference from the mean of all particles"]], (v) => this.setTint(v))] : []),
      element("button", { type: "button", onclick: () => this.resetCamera() }, "Reset view"));
    this.panels = set.captions.map((caption, i) => this.panel(caption, i));
    this.host.replaceChildren(controls, this.key, ...(reduced(set) ? [element("p", { class: "hint" }, reduced(set))] : []), element("div", { class: "volumes" }, ...this.panels.map((p) => p.root)));
    // Surfaces are computed when they come into sight: a page of many rounds opens at once.
    this.seen = new Set();
    this.watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const i = this.panels.findIndex((p) => p.root === entry.target);
        if (entry.isIntersecting) this.seen.add(i);
        else this.seen.delete(i);
      }
      this.redraw();
    }, { rootMargin: "200px" });
    this.panels.forEach((p) => this.watch.observe(p.root));
    document.addEventListener("tomohet:paper", () => this.panels.forEach((_, i) => this.drawPanel(i, false)));
    document.addEventListener("schemechange", () => this.redraw());
  }

  // The caption's name; that of a cluster shows it in the large view of volumes.
  name({ label, group }) {
    const round = this.host.closest("[data-round]");
    if (!group || !round) return element("b", {}, label);
    const show = () => round.dispatchEvent(new CustomEvent("tomohet:show", { detail: group }));
    return element("button", { type: "button", class: "plain", title: "Show in the large view", onclick: show }, label);
  }

  panel(caption, i) {
    const solid = element("canvas", { class: "solid", role: "img", tabindex: "0", "aria-label": `Isosurface of ${caption.label}` });
    const flat = element("canvas", { class: "flat", role: "img", "aria-label": `Section or projection of ${caption.label}` });
    flat.width = flat.height = this.side;
    steer(solid, this);
    const mark = caption.colour ? [element("span", { class: "swatch", style: `--c:${caption.colour}` })] : [];
    const text = element("figcaption", { title: caption.file }, ...mark, this.name(caption), element("small", {}, caption.note || ""),
      ...(caption.detail ? [element("small", { title: "Mean occupancies of its particles" }, caption.detail)] : []));
    return { root: element("figure", { class: "volume" }, solid, flat, text), solid, flat, i };
  }

  turn(dx, dy) {
    this.camera.rotation = turned(this.camera.rotation, dx, dy);
    this.redraw(true);
  }

  resetCamera() {
    this.camera = { rotation: START, zoom: this.fit };
    this.redraw();
  }

  setLevel(level) {
    this.level = level;
    this.meshes = [];
    this.redraw();
  }

  setSlice(axis, index) {
    Object.assign(this, { axis, index });
    this.redraw();
  }

  setTint(tint) {
    const { set } = this, limit = `${((this.spread * (set.high - set.low)) / 255 / set.rms).toFixed(1)} × RMS`;
    const bar = element("span", { class: "gradient", style: `background:${gradient(divergingOf)}` });
    this.tint = tint;
    this.key.hidden = tint === "plain";
    this.key.replaceChildren(`−${limit}`, bar, `+${limit}`, "(RMS: standard deviation of the mean volume)");
    this.redraw();
  }

  drawPanel(i, moving) {
    const { solid, flat } = this.panels[i];
    const pixels = Math.round((solid.clientWidth || 200) * Math.min(2, window.devicePixelRatio || 1));
    if (solid.width !== pixels) solid.width = solid.height = pixels;
    solid.getContext("2d").clearRect(0, 0, pixels, pixels);
    this.drawSolid(i, solid, moving ? pixels : Math.min(2 * pixels, 700));
    flat.getContext("2d").putImageData(this.projected ? this.projection(i) : section(this.box, this.side, this.axis, this.index, this.painter(i)), 0, 0);
  }

  drawSolid(i, canvas, size) {
    const raster = new Raster(size);
    raster.mesh(this.mesh(i), this.camera, this.box, this.tint === "plain" ? SURFACE : this.vertexTints(i));
    raster.show(canvas);
  }

  mesh(i) {
    return (this.meshes[i] ||= isosurface(this.volume(i), this.box, this.level));
  }

  difference(i, voxel) {
    return 0.5 + (this.volume(i)[voxel] - this.mean[voxel]) / (2 * this.spread);
  }

  // The volume's mean along the axis; as differences, with PROJECTED times the colours of a section.
  projection(i) {
    const volume = this.volume(i), { box, axis, side } = this;
    if (this.tint !== "plain") return projection(box, side, axis, (v) => this.difference(i, v) - 0.5, (d) => divergingOf(0.5 + PROJECTED * d));
    if (!this.brightest) {
      const all = projection(box, side, axis, (v) => this.mean[v], (m) => [m, m, m]).data;
      this.brightest = 1.15 * all.reduce((most, v, k) => (k % 4 === 3 ? most : Math.max(most, v)), 1);
      this.darkest = all.reduce((least, v) => Math.min(least, v), 255);
    }
    const grey = (m) => Math.max(0, Math.min(255, (255 * (m - this.darkest)) / (this.brightest - this.darkest)));
    return projection(box, side, axis, (v) => volume[v], (m) => [grey(m), grey(m), grey(m)]);
  }

  painter(i) {
    const volume = this.volume(i);
    if (this.tint === "plain") return (voxel) => [volume[voxel], volume[voxel], volume[voxel]];
    return (voxel) => divergingOf(this.difference(i, voxel));
  }

  // Surface colours by the difference at the nearest voxel inside it.
  vertexTints(i) {
    const { positions, normals } = this.mesh(i), tints = new Uint8Array(positions.length);
    for (let p = 0; p < positions.length; p += 3) {
      const [x, y, z] = [0, 1, 2].map((a) => Math.max(0, Math.min(this.box - 1, Math.round(positions[p + a] - 0.7 * normals[p + a]))));
      tints.set(divergingOf(this.difference(i, (z * this.box + y) * this.box + x)), p);
    }
    return tints;
  }
}

// Coloured pieces (blocks) inside the ghost of a map: the first volume of the set is the ghost.
class Pieces extends Viewer {
  inView(voxel) {
    const size = this.box ** 3;
    return this.set.captions.some((_, i) => this.volumes[i * size + voxel] > (i ? 127 : this.level));
  }

  // Where most of the blocks lie.
  tellingSection() {
    const { box } = this, size = box ** 3, sums = new Float64Array(box);
    this.volumes.subarray(size).forEach((v, k) => v > 127 && sums[Math.floor((k % size) / (box * box))]++);
    return sums.indexOf(Math.max(...sums));
  }

  drawSolid(i, canvas, size) {
    const ghost = new Raster(size), solid = new Raster(size);
    ghost.mesh(this.mesh(0), this.camera, this.box, SURFACE);
    const shown = i === 0 ? this.set.captions.keys() : [i];
    for (const k of shown) {
      if (k > 0) solid.mesh(this.mesh(k), this.camera, this.box, hex(this.set.captions[k].colour));
    }
    showInside(canvas, ghost, solid);
  }

  // Masks have their own, fixed level; the slider is the ghost's.
  mesh(i) {
    return (this.meshes[i] ||= isosurface(this.volume(i), this.box, i === 0 ? this.level : 127));
  }

  painter(i) {
    const ghost = this.volume(0), shown = i === 0 ? [...this.set.captions.keys()].slice(1) : [i];
    const tints = this.set.captions.map((c) => (c.colour ? hex(c.colour) : SURFACE));
    return (voxel) => {
      const grey = ghost[voxel], block = shown.find((k) => this.volume(k)[voxel] > 127);
      return block == null ? [grey, grey, grey] : tints[block].map((c) => 0.45 * grey + 0.55 * c);
    };
  }
}

export async function viewer(host, set) {
  const volumes = await blob(set.blob);
  host.viewer = new (set.kind === "pieces" ? Pieces : Viewer)(host, set, volumes);
}
