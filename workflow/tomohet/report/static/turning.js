// The particle on the first screen: its surface turns slowly, with the blocks that come and go in colour.
import { blob } from "./blobs.js";
import { hex } from "./colours.js";
import { element, number, onceAFrame } from "./dom.js";
import { Raster, showInside, START, turned } from "./raster.js";
import { steer } from "./steer.js";
import { isosurface } from "./surface.js";

const SURFACE = [176, 190, 208], MASK_LEVEL = 127, SIZE = 200, STEP_PX = 0.9, FRAME_MS = 60;

class Turning {
  constructor(host, set, volumes) {
    Object.assign(this, { set, box: set.box, camera: { rotation: START, zoom: 1 } });
    this.redraw = onceAFrame(() => this.draw());
    const cube = (i) => volumes.subarray(i * this.box ** 3, (i + 1) * this.box ** 3);
    this.meshes = set.captions.map((_, i) => isosurface(cube(i), this.box, i ? MASK_LEVEL : set.level));
    this.camera.zoom = this.fittingZoom();
    this.canvas = element("canvas", { width: SIZE, height: SIZE, role: "img", tabindex: "0", "aria-label": this.label() });
    steer(this.canvas, this);
    const names = set.captions.slice(1).map(({ colour, label }) =>
      element("li", {}, element("span", { class: "swatch", style: `--c:${colour}` }), label));
    host.replaceChildren(this.canvas, ...(names.length ? [element("ul", { class: "legend" }, ...names)] : []));
    this.redraw();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.spin();
  }

  label() {
    const n = this.set.captions.length - 1;
    return n ? `The mean map with ${number(n)} blocks in colour, turning` : "The mean map, turning";
  }

  // The zoom at which the farthest vertex of the surface is near the canvas's edge.
  fittingZoom() {
    const { positions } = this.meshes[0], middle = (this.box - 1) / 2;
    let far = 1;
    for (let p = 0; p < positions.length; p += 3) {
      far = Math.max(far, Math.hypot(positions[p] - middle, positions[p + 1] - middle, positions[p + 2] - middle));
    }
    return Math.max(1, Math.min(4, (0.48 * this.box) / far));
  }

  // Turn while the canvas is in view and nobody holds it.
  spin() {
    let seen = true, held = false, last = 0;
    new IntersectionObserver(([entry]) => (seen = entry.isIntersecting)).observe(this.canvas);
    for (const [kind, value] of [["pointerenter", true], ["focus", true], ["pointerleave", false], ["blur", false]]) {
      this.canvas.addEventListener(kind, () => (held = value));
    }
    const step = (now) => {
      if (seen && !held && !document.hidden && now - last > FRAME_MS) {
        last = now;
        this.turn(STEP_PX, 0);
      }
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  turn(dx, dy) {
    this.camera.rotation = turned(this.camera.rotation, dx, dy);
    this.redraw();
  }

  draw() {
    const whole = new Raster(SIZE), pieces = new Raster(SIZE);
    this.canvas.getContext("2d").clearRect(0, 0, SIZE, SIZE);
    whole.mesh(this.meshes[0], this.camera, this.box, SURFACE);
    if (this.meshes.length === 1) return void whole.show(this.canvas);
    this.meshes.slice(1).forEach((mesh, i) => pieces.mesh(mesh, this.camera, this.box, hex(this.set.captions[i + 1].colour)));
    showInside(this.canvas, whole, pieces);
  }
}

export async function turning(host, set) {
  host.turning = new Turning(host, set, await blob(set.blob));
}
