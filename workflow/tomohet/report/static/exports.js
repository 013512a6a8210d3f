// What leaves the page: indices for `tomohet select`, a table, pictures, text for the configuration.
import { style } from "./dom.js";

const MOST_CIRCLES = 5000;

// The bytes of a pickled list of integers (protocol 2).
export function pickled(numbers) {
  const view = new DataView(new ArrayBuffer(4 + 5 * numbers.length + 2));
  [0x80, 2, 0x5d, 0x28].forEach((byte, i) => view.setUint8(i, byte)); // protocol 2, empty list, mark
  numbers.forEach((value, i) => {
    view.setUint8(4 + 5 * i, 0x4a); // a 32-bit integer follows
    view.setInt32(5 + 5 * i, value, true);
  });
  view.setUint8(4 + 5 * numbers.length, 0x65); // append all to the list
  view.setUint8(5 + 5 * numbers.length, 0x2e); // stop
  return new Uint8Array(view.buffer);
}

// Tab-separated text of loaded columns; missing values are empty.
export function tabular(table, names, noun, ordinal, rows) {
  const cell = (name, row) => {
    const { kind, values, categories } = table.columns.get(name), value = values[row];
    if (kind === "number") return Number.isNaN(value) ? "" : String(value);
    return value < 0 ? "" : String(categories[value]).replace(/[\t\r\n]/g, " ");
  };
  const lines = [[noun, ...names].join("\t")];
  for (const row of rows) lines.push([ordinal[row], ...names.map((name) => cell(name, row))].join("\t"));
  return `${lines.join("\n")}\n`;
}

// A round of the configuration that takes these particles.
export const asRound = (name, parent, query) =>
  `rounds:\n  ${JSON.stringify(name)}:\n    parent: ${JSON.stringify(parent)}\n    select: ${JSON.stringify(query)}\n`
    .replace(/"([A-Za-z][\w-]*)"(?=:?\n)/g, (quoted, name_) => (YAML_WORDS.has(name_.toLowerCase()) ? quoted : name_));

// Words that YAML reads as something else than text.
const YAML_WORDS = new Set(["y", "n", "yes", "no", "on", "off", "true", "false", "null"]);

const escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

// A canvas as PNG, on the page's background.
export function asPng(canvas) {
  const whole = new OffscreenCanvas(canvas.width, canvas.height), context = whole.getContext("2d");
  context.fillStyle = style("card");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(canvas, 0, 0);
  return whole.convertToBlob();
}

// A plot as SVG: axes as text and lines; points as circles, or as a picture where there are many.
export async function asSvg(scatter, labelledTicks) {
  const { left, w, h, width, height } = scatter, top = scatter.py(scatter.view.y[1]), parts = [];
  const text = (x, y, content, more = "") => parts.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(content)}</text>`);
  for (const [v, label] of labelledTicks(...scatter.view.x, w / 80)) text(scatter.px(v), height - 26, label, 'text-anchor="middle"');
  for (const [v, label] of scatter.yticks) text(left - 6, scatter.py(v) + 4, label, 'text-anchor="end"');
  const [x, y] = [scatter.x, scatter.y].map((name) => scatter.table.columns.get(name).label);
  text(left + w / 2, height - 8, x, 'text-anchor="middle"');
  text(0, 0, y, `text-anchor="middle" transform="translate(12 ${top + h / 2}) rotate(-90)"`);
  const rows = scatter.rows || Uint32Array.from({ length: scatter.table.n }, (_, i) => i);
  if (rows.length <= MOST_CIRCLES) {
    const { mask, colours } = scatter.look, faded = style("faded"), radius = Math.max(1.4, Math.min(4, 75 / Math.sqrt(rows.length)));
    for (const wanted of mask ? [0, 1] : [1]) {
      for (const i of rows) {
        if (mask && mask[i] !== wanted) continue;
        const [px, py] = [scatter.px(scatter.xs[i]), scatter.py(scatter.ys[i])];
        if (!(px >= left && px <= left + w && py >= top && py <= top + h)) continue;
        const fill = wanted ? `#${colours[i].toString(16).padStart(6, "0")}` : faded;
        parts.push(`<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="${radius.toFixed(1)}" fill="${fill}" fill-opacity="${wanted ? 0.85 : 0.5}"/>`);
      }
    }
  } else {
    const picture = await scatter.points.convertToBlob(), bytes = new Uint8Array(await picture.arrayBuffer());
    let binary = "";
    for (const byte of bytes) binary += String.fromCharCode(byte);
    parts.push(`<image x="${left}" y="${top}" width="${w}" height="${h}" href="data:image/png;base64,${btoa(binary)}"/>`);
  }
  parts.push(`<rect x="${left}" y="${top}" width="${w}" height="${h}" fill="none" stroke="${style("muted")}"/>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="${style("ink")}">` +
    `<rect width="100%" height="100%" fill="${style("card")}"/>${parts.join("")}</svg>\n`;
}
