// One volume in full: its isosurface and three sections through a point.
import { hex, isDark } from "./colours.js";
import { element } from "./dom.js";
import { Raster, showInside } from "./raster.js";
import { divergingOf } from "./scales.js";
import { Sections } from "./sections.js";
import { steer } from "./steer.js";
import { surfaceOf } from "./surfaces.js";

const SURFACE = [176, 190, 208], OUTSIDE = 0.35, LARGEST = 900;

export class Column {
  // `view` owns the camera, the point and the level that all columns share.
  constructor(view, name, first) {
    Object.assign(this, { view, name, made: null, asked: 0 });
    this.solid = element("canvas", { class: "solid", role: "application", "aria-roledescription": "3-D view", ...(first ? { tabindex: "0" } : {}),
      "aria-label": `Isosurface of ${name}. Arrow keys turn it, plus and minus zoom.` });
    this.sections = new Sections(view.data.grid, view.side, name, (axis, at) => view.move(axis, at), first);
    this.title = element("b", {});
    this.note = element("small", {});
    this.key = element("div", { class: "colourkey" });
    this.root = element("figure", { class: "compared" }, element("figcaption", {}, this.title, this.note), this.solid, this.sections.root, this.key);
    steer(this.solid, view);
  }

  caption(text, note, colour) {
    const mark = colour ? [element("span", { class: "swatch", style: `--c:${colour}` })] : [];
    this.title.replaceChildren(...mark, text);
    this.note.textContent = note;
  }

  // Show a cube; its surfaces follow when they are made. `levels`: [level, colour] of each; `shades`: values and
  // limit that colour the sections instead of greys.
  async show(cube, levels, shades) {
    Object.assign(this, { cube, shades });
    const mine = ++this.asked, { edge } = this.view.data.grid;
    const one = async ([values, level, colour]) => ({ mesh: await surfaceOf(values, edge, level), colour });
    const made = await Promise.all(levels.map(one));
    if (mine === this.asked) this.made = made; // otherwise a later volume is on its way
  }

  shade(voxel) {
    const { values, limit } = this.shades;
    return divergingOf(0.5 + values[voxel] / (2 * limit));
  }

  draw(moving = false) {
    this.drawSolid(moving);
    if (!moving && this.cube) this.sections.draw(this.view.point, this.shades ? (v) => this.shade(v) : this.grey(), Boolean(this.shades) && !isDark());
  }

  grey() {
    const { low, high } = this.view.greys, { mask } = this.view.data.grid;
    return (v) => {
      const g = 255 * Math.max(0, Math.min(1, (this.cube[v] - low) / (high - low)));
      return mask[v] ? [g, g, g] : [OUTSIDE * g, OUTSIDE * g, OUTSIDE * g];
    };
  }

  drawSolid(moving) {
    const { solid, view } = this, { camera, data } = view, blocks = this.shades ? null : view.blocks;
    const size = Math.round((solid.clientWidth || 320) * Math.min(2, devicePixelRatio || 1));
    if (solid.width !== size) solid.width = solid.height = size;
    solid.getContext("2d").clearRect(0, 0, size, size);
    if (!this.made) return;
    const { edge } = data.grid, [whole, ...parts] = [...this.made, ...(blocks || [])];
    const raster = new Raster(moving ? Math.min(size, 420) : Math.min(2 * size, LARGEST));
    raster.mesh(whole.mesh, camera, edge, SURFACE);
    if (!parts.length) return raster.show(solid);
    const pieces = new Raster(raster.size);
    for (const { mesh, colour } of parts) pieces.mesh(mesh, camera, edge, hex(colour));
    showInside(solid, raster, pieces);
  }
}
