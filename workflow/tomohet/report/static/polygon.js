// Outlines: which points lie inside by the even-odd rule, as `tomohet select` decides it, and fewer corners for
// the same points.
const BINS = 256;

// Edges of a closed outline that cross some height, sorted into bins of the height.
function edgesByHeight(corners) {
  const ys = corners.map((p) => p[1]), low = Math.min(...ys), high = Math.max(...ys);
  const bin = (y) => Math.max(0, Math.min(BINS - 1, Math.floor(((y - low) / (high - low)) * BINS)));
  const bins = Array.from({ length: BINS }, () => []);
  corners.forEach(([x1, y1], i) => {
    const [x2, y2] = corners[(i + 1) % corners.length];
    if (y1 === y2) return;
    const last = bin(Math.max(y1, y2));
    for (let k = bin(Math.min(y1, y2)); k <= last; k++) bins[k].push([x1, y1, x2, y2]);
  });
  return { bins, bin, low, high };
}

// 1 for each point inside the outline, else 0. A ray towards larger x crosses an odd number of edges. The
// arithmetic is that of rounds/polygons.py, operation by operation, so that both choose the same particles.
export function inside(corners, xs, ys) {
  const found = new Uint8Array(xs.length), { bins, bin, low, high } = edgesByHeight(corners);
  for (let i = 0; i < xs.length; i++) {
    const x = xs[i], y = ys[i];
    if (!(y >= low && y <= high) || !Number.isFinite(x)) continue;
    let odd = 0;
    for (const [x1, y1, x2, y2] of bins[bin(y)]) {
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd ^= 1;
    }
    found[i] = odd;
  }
  return found;
}

// Douglas and Peucker's simplification of an open line.
function simplified(line, tolerance) {
  if (line.length < 3) return line;
  const [a, b] = [line[0], line[line.length - 1]], length = Math.hypot(b[0] - a[0], b[1] - a[1]);
  let worst = 0, at = 0;
  for (let i = 1; i < line.length - 1; i++) {
    const [px, py] = line[i];
    const d = length > 0
      ? Math.abs((b[0] - a[0]) * (py - a[1]) - (b[1] - a[1]) * (px - a[0])) / length
      : Math.hypot(px - a[0], py - a[1]);
    if (d > worst) [worst, at] = [d, i];
  }
  if (worst <= tolerance) return [a, b];
  return [...simplified(line.slice(0, at + 1), tolerance).slice(0, -1), ...simplified(line.slice(at), tolerance)];
}

const rounded = (corners, digits) => corners.map((p) => p.map((v) => Number(v.toPrecision(digits))));
const same = (a, b) => a.every((v, i) => v === b[i]);

// An outline of few corners and digits that holds exactly the points that the drawn stroke holds.
// stroke: [x, y] in pixels; toData: from pixels to the columns' units.
export function outline(stroke, toData, xs, ys) {
  const exact = stroke.map(toData), wanted = inside(exact, xs, ys);
  const closed = [...stroke, stroke[0]];
  for (const tolerance of [4, 2, 1, 0.5, 0.25]) {
    const corners = simplified(closed, tolerance).slice(0, -1);
    if (corners.length < 3) continue;
    const shorter = rounded(corners.map(toData), 5);
    if (same(inside(shorter, xs, ys), wanted)) return shorter;
  }
  for (const digits of [7, 10]) {
    if (same(inside(rounded(exact, digits), xs, ys), wanted)) return rounded(exact, digits);
  }
  return exact;
}
