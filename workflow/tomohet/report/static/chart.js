// Line charts, bars and histograms as SVG, laid out for the width at hand, with values under the pointer.
import { labelledTicks, range } from "./axes.js";
import { element, number, onLayout } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const MARGIN = { right: 14, top: 12, bottom: 42 };

function svg(tag, attributes = {}, text) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text != null) made.textContent = text;
  return made;
}

const whole = (spec, axis) => spec.series.every((s) => s[axis].every(Number.isInteger));
const yticks = (spec, height) => labelledTicks(...spec.yrange, Math.max(2, Math.round((height - 54) / 38)), whole(spec, "y"));

// Linear scales between data and pixels for a plot area.
function frame(spec, width, height) {
  const longest = Math.max(...yticks(spec, height).map(([, text]) => text.length));
  const margin = { ...MARGIN, left: 30 + 6.6 * longest };
  const [x0, x1] = spec.xrange, [y0, y1] = spec.yrange;
  const w = width - margin.left - margin.right, h = height - margin.top - margin.bottom;
  return {
    ...margin, w, h,
    x: (v) => margin.left + ((v - x0) / (x1 - x0 || 1)) * w,
    y: (v) => margin.top + h - ((v - y0) / (y1 - y0 || 1)) * h,
    unx: (px) => x0 + ((px - margin.left) / w) * (x1 - x0),
  };
}

function drawAxes(root, spec, f, width, height) {
  const xticks = spec.xticks || labelledTicks(...spec.xrange, Math.max(2, Math.round(f.w / 70)), whole(spec, "x"));
  for (const [v, text] of yticks(spec, height)) {
    root.append(svg("line", { x1: f.left, x2: f.left + f.w, y1: f.y(v), y2: f.y(v), class: "grid" }));
    root.append(svg("text", { x: f.left - 7, y: f.y(v) + 4, class: "tick", "text-anchor": "end" }, text));
  }
  for (const [v, text] of xticks) {
    root.append(svg("line", { x1: f.x(v), x2: f.x(v), y1: f.top + f.h, y2: f.top + f.h + 4, class: "axis" }));
    root.append(svg("text", { x: f.x(v), y: f.top + f.h + 17, class: "tick", "text-anchor": "middle" }, text));
  }
  root.append(svg("line", { x1: f.left, x2: f.left + f.w, y1: f.top + f.h, y2: f.top + f.h, class: "axis" }));
  root.append(svg("text", { x: f.left + f.w / 2, y: height - 6, class: "title", "text-anchor": "middle" }, spec.xtitle));
  const side = svg("text", { class: "title", "text-anchor": "middle" }, spec.ytitle);
  side.setAttribute("transform", `translate(13 ${f.top + f.h / 2}) rotate(-90)`);
  root.append(side);
}

function drawMarks(root, spec, f) {
  for (const mark of spec.marks || []) {
    const line = mark.y != null
      ? { x1: f.left, x2: f.left + f.w, y1: f.y(mark.y), y2: f.y(mark.y) }
      : { x1: f.x(mark.x), x2: f.x(mark.x), y1: f.top, y2: f.top + f.h };
    root.append(svg("line", { ...line, class: "mark" }));
    const place = mark.y != null
      ? { x: f.left + 5, y: f.y(mark.y) - 5, "text-anchor": "start" }
      : f.x(mark.x) > f.left + 0.8 * f.w
        ? { x: f.x(mark.x) - 5, y: f.top + f.h - 6, "text-anchor": "end" }
        : { x: f.x(mark.x) + 5, y: f.top + 11, "text-anchor": "start" };
    root.append(svg("text", { ...place, class: "marktext" }, mark.label));
  }
}

function drawLines(root, spec, f) {
  for (const series of spec.series) {
    let path = "", pen = "M";
    series.x.forEach((x, i) => {
      const y = series.y[i];
      if (!Number.isFinite(y)) return void (pen = "M");
      path += `${pen}${f.x(x).toFixed(1)} ${f.y(y).toFixed(1)}`;
      pen = "L";
    });
    root.append(svg("path", { d: path, class: `line ${series.style || ""}`, stroke: series.colour }));
    drawErrors(root, series, f);
    if (series.x.length < 2) {
      root.append(svg("circle", { cx: f.x(series.x[0]), cy: f.y(series.y[0]), r: 3.5, fill: series.colour }));
    }
  }
}

// A bar of plus and minus one standard error through each point of a series that has errors.
function drawErrors(root, series, f) {
  (series.error || []).forEach((error, i) => {
    const x = f.x(series.x[i]), y = series.y[i];
    if (!Number.isFinite(error) || !Number.isFinite(y)) return;
    const d = `M${x} ${f.y(y - error)}V${f.y(y + error)}M${x - 3} ${f.y(y - error)}h6M${x - 3} ${f.y(y + error)}h6`;
    root.append(svg("path", { d, class: "error", stroke: series.colour }));
  });
}

function drawBars(root, spec, f) {
  for (const series of spec.series) {
    series.x.forEach((x, i) => {
      const half = Math.min((f.x(x + series.width / 2) - f.x(x - series.width / 2)) / 2, 34);
      const left = f.x(x) - half, right = f.x(x) + half;
      const top = f.y(series.y[i]), base = f.y(0);
      const colour = series.colours ? series.colours[i] : series.colour;
      root.append(svg("rect", {
        x: left, width: Math.max(1, right - left - (right - left > 6 ? 2 : 0.3)), y: top,
        height: Math.max(0, base - top), fill: colour,
      }));
    });
  }
}

// What the pointer tells: the values of all series at the nearest x.
function follow(root, spec, f, host) {
  const cursor = svg("line", { y1: f.top, y2: f.top + f.h, class: "cursor", visibility: "hidden" });
  root.append(cursor);
  const xs = [...new Set(spec.series.flatMap((s) => s.x))].sort((a, b) => a - b);
  const note = host.querySelector(".reading");
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect();
    const at = f.unx(event.clientX - box.left);
    const nearest = xs.reduce((best, x) => (Math.abs(x - at) < Math.abs(best - at) ? x : best), xs[0]);
    cursor.setAttribute("x1", f.x(nearest));
    cursor.setAttribute("x2", f.x(nearest));
    cursor.setAttribute("visibility", "visible");
    const values = spec.series
      .filter((s) => s.x.includes(nearest))
      .map((s) => `${s.name} ${reading(s, s.x.indexOf(nearest))}`);
    note.textContent = `${xname(spec, nearest)}: ${values.join(" · ")}`;
  });
  root.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    note.textContent = "";
  });
}

function reading(series, i) {
  const error = series.error ? ` ± ${number(series.error[i])}` : "";
  return number(series.y[i]) + error;
}

function xname(spec, x) {
  if (spec.xreading === "resolution") return x > 0 ? `${number(1 / x)} Å` : "∞";
  if (spec.xlabels) return spec.xlabels[spec.series[0].x.indexOf(x)] ?? number(x);
  return `${spec.xtitle.toLowerCase()} ${number(x)}`;
}

function legend(spec) {
  const shown = spec.series.filter((s) => s.name && s.colour);
  if (shown.length < 2) return null;
  return element("ul", { class: "legend" }, ...shown.map((s) => {
    const swatch = element("span", { class: `swatch ${s.style || ""}`, style: `--c:${s.colour}` });
    return element("li", {}, swatch, s.name);
  }));
}

// Draw `spec` into `host`. spec: kind (lines|bars), series [{name, x, y, error, colour, style, width}],
// xtitle, ytitle, xrange, yrange, marks [{x|y, label}], height.
export function chart(host, spec) {
  spec.xrange ||= range(spec.series.flatMap((s) => s.x));
  const reach = (s) => s.y.flatMap((y, i) => [y - s.error[i], y + s.error[i]]);
  const values = spec.series.flatMap((s) => (s.error ? reach(s) : s.y));
  // Bars stand on zero; lines get some air on both sides.
  spec.yrange ||= spec.kind === "bars" ? [Math.min(0, ...values), Math.max(0, ...values) * 1.06 || 1] : range(values, 0.05);
  const plot = element("div", { class: "plot" });
  host.prepend(...[legend(spec), plot].filter(Boolean), element("p", { class: "reading", "aria-hidden": "true" }));
  const draw = () => {
    const width = Math.max(220, plot.clientWidth), height = spec.height || 250;
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.summary || spec.ytitle });
    const f = frame(spec, width, height);
    drawAxes(root, spec, f, width, height);
    (spec.kind === "bars" ? drawBars : drawLines)(root, spec, f);
    drawMarks(root, spec, f);
    follow(root, spec, f, host);
    plot.replaceChildren(root);
  };
  onLayout(plot, draw);
  draw();
}
