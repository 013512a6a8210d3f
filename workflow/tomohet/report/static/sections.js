// Three sections through a cube at one point, with a scale bar; sizes in Å.
import { capture, element } from "./dom.js";
import { ACROSS, section } from "./planes.js";

const NAMES = ["z", "y", "x"];

// A round length that fills about a third of `width`, both in Å.
export function barLength(width) {
  const power = 10 ** Math.floor(Math.log10(width / 3));
  return [5, 2, 1].map((m) => m * power).find((length) => length <= width / 3);
}

export class Sections {
  // `side`: voxels shown, around the middle. `moved(axis, index)` is called when the user puts the point
  // elsewhere; only `first` takes the keyboard.
  constructor(grid, side, name, moved, first) {
    Object.assign(this, { grid, side, moved, name, start: Math.floor((grid.edge - side) / 2) });
    this.canvases = NAMES.map((axis, k) => this.canvas(axis, k, first));
    this.labels = NAMES.map(() => element("span", { class: "place" }));
    this.root = element("div", { class: "sections" }, ...this.canvases.map((canvas, k) => element("div", {}, canvas, this.labels[k])));
  }

  canvas(axis, k, first) {
    const canvas = element("canvas", { class: "flat", role: "img", "aria-label": `Section of ${this.name} across ${axis}`, ...(first ? { tabindex: "0" } : {}) });
    const { start, side } = this, [down, right] = ACROSS[k];
    const put = (event) => {
      const box = canvas.getBoundingClientRect();
      this.moved(down, start + Math.floor(((event.clientY - box.top) / box.height) * side));
      this.moved(right, start + Math.floor(((event.clientX - box.left) / box.width) * side));
    };
    canvas.addEventListener("pointerdown", (event) => {
      capture(event);
      this.pressed = true;
      put(event);
    });
    canvas.addEventListener("pointermove", (event) => this.pressed && put(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.pressed = false));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [down, -1], ArrowDown: [down, 1], ArrowLeft: [right, -1], ArrowRight: [right, 1], PageUp: [k, 1], PageDown: [k, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.moved(step[0], this.point[step[0]] + step[1]);
    });
    return canvas;
  }

  // `light`: whether the pictures are light, so that the scale bar is dark.
  draw(point, paint, light = false) {
    Object.assign(this, { point, light });
    this.canvases.forEach((canvas, axis) => this.drawOne(canvas, axis, point, paint));
  }

  drawOne(canvas, axis, point, paint) {
    const { grid, side, start } = this, size = Math.round((canvas.clientWidth || 120) * Math.min(2, devicePixelRatio || 1));
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const buffer = new OffscreenCanvas(side, side), context = canvas.getContext("2d"), unit = size / side;
    buffer.getContext("2d").putImageData(section(grid.edge, side, axis, point[axis], paint), 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(buffer, 0, 0, size, size);
    const [down, right] = ACROSS[axis].map((a) => (point[a] - start + 0.5) * unit);
    context.strokeStyle = "rgb(255 190 60 / 75%)";
    context.lineWidth = Math.max(1, size / 240);
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[0, down, size, down], [right, 0, right, size]]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
    if (axis === 0) this.drawBar(context, size);
    this.labels[axis].textContent = `${NAMES[axis]} ${grid.fromMiddle_A(axis, point[axis]).toFixed(0).replace("-", "−")} Å`;
  }

  drawBar(context, size) {
    const width_A = this.side * this.grid.pixel_size_A, length = barLength(width_A), px = (length / width_A) * size;
    const text = Math.max(10, size / 11), margin = size / 24;
    context.lineWidth = Math.max(2, size / 60);
    const inks = this.light ? ["rgb(255 255 255 / 80%)", "#1d2530"] : ["rgb(0 0 0 / 65%)", "#fff"];
    for (const [colour, grow] of [[inks[0], 2], [inks[1], 0]]) {
      context.strokeStyle = context.fillStyle = colour;
      context.beginPath();
      context.moveTo(margin - grow, size - margin);
      context.lineTo(margin + px + grow, size - margin);
      context.stroke();
      context.font = `600 ${text}px system-ui, sans-serif`;
      if (grow) context.strokeText(`${length} Å`, margin, size - margin - text * 0.45);
      else context.fillText(`${length} Å`, margin, size - margin - text * 0.45);
    }
  }
}
