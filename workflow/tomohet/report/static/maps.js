// An MRC map as the server sends it, and its three central sections on canvas.
import { element, number } from "./dom.js";

const HEADER_BYTES = 1024, FLOAT32 = 2;
const PLANES = [["x", "y"], ["x", "z"], ["y", "z"]];

// Read a map: its sides in voxels, pixel size in Å, and density [z, y, x]. Files of tomohet are float32, little-endian.
export function readMap(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < HEADER_BYTES) throw new Error("The map has no header.");
  const [nx, ny, nz, mode] = [0, 4, 8, 12].map((at) => view.getInt32(at, true));
  const start = HEADER_BYTES + view.getInt32(92, true);
  if (mode !== FLOAT32 || buffer.byteLength < start + 4 * nx * ny * nz) throw new Error("The map is not a whole file of float32.");
  const step = view.getFloat32(40, true) / (view.getInt32(28, true) || 1);
  return { size: [nx, ny, nz], step, values: new Float32Array(buffer, start, nx * ny * nz) };
}

// The central section of a map that contains two of its axes: width, height and values, the second axis upwards.
export function centralSection(map, across, up) {
  const axes = ["x", "y", "z"], [nx, ny] = map.size;
  const stride = { x: 1, y: nx, z: nx * ny };
  const [width, height] = [across, up].map((axis) => map.size[axes.indexOf(axis)]);
  const third = axes.find((axis) => axis !== across && axis !== up);
  const origin = Math.floor(map.size[axes.indexOf(third)] / 2) * stride[third];
  const values = new Float32Array(width * height);
  for (let row = 0; row < height; row++) {
    const from = origin + (height - 1 - row) * stride[up];
    for (let column = 0; column < width; column++) values[row * width + column] = map.values[from + column * stride[across]];
  }
  return { width, height, values };
}

function draw(canvas, section, low, high) {
  Object.assign(canvas, { width: section.width, height: section.height });
  const context = canvas.getContext("2d"), image = context.createImageData(section.width, section.height);
  section.values.forEach((value, i) => {
    const grey = (255 * (value - low)) / (high - low || 1);
    image.data.set([grey, grey, grey, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

// A view of three central sections: `show(map, title)` draws a map in grey levels of its own.
export function sectionsView() {
  const canvases = PLANES.map(([across, up]) => element("canvas", { role: "img", "aria-label": `Central section in ${across} and ${up}` }));
  const captions = PLANES.map(() => element("figcaption", {}));
  const head = element("p", {});
  const host = element("div", { class: "central", hidden: true }, head,
    ...canvases.map((canvas, i) => element("figure", {}, canvas, captions[i])));
  host.show = function (map, title) {
    head.textContent = title;
    const sections = PLANES.map(([across, up]) => centralSection(map, across, up));
    const sorted = Float32Array.from(sections.flatMap((s) => [...s.values])).sort();
    const [low, high] = [0.005, 0.998].map((share) => sorted[Math.floor(share * (sorted.length - 1))]);
    sections.forEach((section, i) => {
      draw(canvases[i], section, low, high);
      captions[i].textContent = `${PLANES[i].join("")}, ${number(section.width * map.step)} Å wide`;
    });
    host.hidden = false;
  };
  return host;
}
