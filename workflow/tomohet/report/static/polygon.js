// Outlines: which points lie inside by the even-odd rule, as `tomohet select` decides it, and fewer corners for
// the same points.
const BINS = 256;
const MOST_PIXELS = 6; // by which an outline may leave the drawn stroke where no point is near

// Edges of a closed outline that cross some height, sorted into bins of the height.
function edgesByHeight(corners) {
  const ys = corners.map((p) => p[1]), low = Math.min(...ys), high = Math.max(...ys);
  const bin = (y) => Math.max(0, Math.min(BINS - 1, Math.floor(((y - low) / (high - low || 1)) * BINS)));
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

const rounded = (corners, digits) => corners.map((p) => p.map((v) => Number(v.toPrecision(digits))));

function same(a, b) {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

// The point of a line (numbers from..to) that is farthest from the chord between its ends, and its distance.
function farthest(line, from, to) {
  const [ax, ay] = line[from], [bx, by] = line[to], length = Math.hypot(bx - ax, by - ay);
  let worst = 0, at = from;
  for (let i = from + 1; i < to; i++) {
    const [px, py] = line[i];
    const d = length > 0 ? Math.abs((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / length : Math.hypot(px - ax, py - ay);
    if (d > worst) [worst, at] = [d, i];
  }
  return [at, worst];
}

// Those of the points (numbers into xs, ys) that lie within the bounds of a line's part.
function near(points, xs, ys, line) {
  const x = line.map((p) => p[0]), y = line.map((p) => p[1]);
  const [left, right, low, high] = [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
  return points.filter((i) => xs[i] >= left && xs[i] <= right && ys[i] >= low && ys[i] <= high);
}

// Numbers of the corners that stay: Douglas and Peucker's simplification, where a part of the line becomes
// its chord only if no point lies between both. By the even-odd rule only such points would change sides.
function kept(pixels, data, from, to, points, xs, ys) {
  const [at, distance] = farthest(pixels, from, to);
  if (at === from) return [from];
  const part = data.slice(from, to + 1), close = near(points, xs, ys, part);
  if (distance <= MOST_PIXELS) {
    const between = inside(part, Float64Array.from(close, (i) => xs[i]), Float64Array.from(close, (i) => ys[i]));
    if (!between.includes(1)) return [from];
  }
  return [...kept(pixels, data, from, at, close, xs, ys), ...kept(pixels, data, at, to, close, xs, ys)];
}

// An outline of few corners and digits that holds exactly the points that the drawn stroke holds.
// stroke: [x, y] in pixels; toData: from pixels to the columns' units.
export function outline(stroke, toData, xs, ys) {
  const pixels = [...stroke, stroke[0]], data = pixels.map(toData), exact = data.slice(0, -1), wanted = inside(exact, xs, ys);
  const all = near(Uint32Array.from(xs, (_, i) => i), xs, ys, data);
  const fewer = kept(pixels, data, 0, stroke.length, all, xs, ys).map((i) => data[i]);
  for (const corners of [fewer, exact]) {
    for (const digits of [4, 5, 6, 8, 12]) {
      const shorter = rounded(corners, digits);
      if (shorter.length > 2 && same(inside(shorter, xs, ys), wanted)) return shorter;
    }
  }
  return exact;
}
