// A table of amounts (volumes x units) as a heat map in the order of its clustering, with a dendrogram.
import { css, gradient } from "./colours.js";
import { element, number, onLayout, style } from "./dom.js";
import { bluesOf } from "./scales.js";

const LABELS = 62, TREE = 46, WIDEST = 84;

// Links of a hierarchical clustering, as drawn polylines in leaf units (position, height 0..1).
function drawTree(context, links, place, span) {
  context.beginPath();
  for (const link of links) {
    link.forEach(([position, height], i) => {
      const [x, y] = place(position * span, height);
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
  }
  context.stroke();
}

// spec: values [rows][columns] in display order, rows, columns (names), rowtree, columntree, low, high,
// rowtitle, columntitle.
export function heatmap(host, spec) {
  const canvas = element("canvas", { role: "img", "aria-label": spec.summary, tabindex: "0" });
  const reading = element("p", { class: "reading" });
  const scale = element("span", { class: "gradient" });
  const key = element("p", { class: "colourkey" }, `occupancy ${number(spec.low)}`, scale, number(spec.high));
  host.prepend(key, canvas, reading);
  let cell = null;
  const draw = () => {
    scale.style.background = gradient(bluesOf);
    const width = Math.max(260, host.clientWidth);
    const left = TREE + 24, top = TREE + 6;
    const cw = Math.min(WIDEST, (width - LABELS - left) / spec.columns.length);
    const ch = Math.max(3, Math.min(20, 420 / spec.rows.length));
    const longest = 6.8 * Math.max(...spec.columns.map((name) => name.length));
    const turned = longest > cw - 4, foot = turned ? longest + 12 : 20;
    const height = top + ch * spec.rows.length + foot + 20;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.strokeStyle = style("muted");
    context.lineWidth = 1;
    drawTree(context, spec.columntree, (p, h) => [left + p, top - 4 - h * (TREE - 6)], cw);
    drawTree(context, spec.rowtree, (p, h) => [left - 4 - h * (TREE - 6), top + p], ch);
    spec.values.forEach((row, i) => row.forEach((value, j) => {
      context.fillStyle = css(bluesOf((value - spec.low) / (spec.high - spec.low || 1)));
      context.fillRect(left + j * cw, top + i * ch, cw + 0.5, ch + 0.5);
    }));
    context.fillStyle = style("muted");
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    const every = Math.ceil(13 / ch);
    spec.rows.forEach((name, i) => {
      if (i % every === 0) context.fillText(name, left + cw * spec.columns.length + 6, top + (i + 0.5) * ch);
    });
    spec.columns.forEach((name, j) => {
      context.save();
      context.translate(left + (j + 0.5) * cw, top + ch * spec.rows.length + 8);
      if (turned) context.rotate(Math.PI / 2);
      context.textAlign = turned ? "left" : "center";
      context.fillText(name, 0, turned ? 0 : 6);
      context.restore();
    });
    context.fillStyle = style("ink");
    context.textAlign = "center";
    context.fillText(spec.columntitle, left + (cw * spec.columns.length) / 2, height - 8);
    context.translate(8, top + (ch * spec.rows.length) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(spec.rowtitle, 0, 0);
    cell = (x, y) => [Math.floor((y - top) / ch), Math.floor((x - left) / cw)];
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [i, j] = cell(event.clientX - box.left, event.clientY - box.top);
    const value = spec.values[i]?.[j];
    reading.textContent = value == null ? "" : `${spec.rowtitle} ${spec.rows[i]}, ${spec.columntitle} ${spec.columns[j]}: ${number(value)}`;
  });
  onLayout(host, draw);
  draw();
}
