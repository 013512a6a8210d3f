// Points as pixels: discs where they are few, cells that mix colours where they are many.
export const MOST_DISCS = 20000;

// Lay a disc (centre and radius in pixels, colour 0xRRGGBB) over an image.
function stamp({ data, width, height }, x, y, radius, colour, alpha) {
  const x0 = Math.max(0, Math.floor(x - radius)), x1 = Math.min(width - 1, Math.ceil(x + radius));
  const y0 = Math.max(0, Math.floor(y - radius)), y1 = Math.min(height - 1, Math.ceil(y + radius));
  for (let j = y0; j <= y1; j++) {
    for (let i = x0; i <= x1; i++) {
      const inside = radius + 0.5 - Math.sqrt((i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2);
      if (inside <= 0) continue;
      const at = 4 * (j * width + i), over = alpha * Math.min(1, inside), under = (data[at + 3] / 255) * (1 - over);
      const total = over + under;
      data[at] = (((colour >> 16) & 255) * over + data[at] * under) / total;
      data[at + 1] = (((colour >> 8) & 255) * over + data[at + 1] * under) / total;
      data[at + 2] = ((colour & 255) * over + data[at + 2] * under) / total;
      data[at + 3] = 255 * total;
    }
  }
}

// Discs of points, those outside the selection first, so that they never cover a chosen one.
// place: { ax, bx, ay, by } with pixel = a * value + b; mask: null when nothing is selected; rows: null for all.
export function discs(image, xs, ys, rows, place, { colours, mask, faded, radius }) {
  const n = rows ? rows.length : xs.length;
  for (const wanted of mask ? [0, 1] : [1]) {
    for (let k = 0; k < n; k++) {
      const i = rows ? rows[k] : k;
      if (mask && mask[i] !== wanted) continue;
      const x = place.ax * xs[i] + place.bx, y = place.ay * ys[i] + place.by;
      if (!(x > -radius && x < image.width + radius && y > -radius && y < image.height + radius)) continue;
      stamp(image, x, y, radius, wanted ? colours[i] : faded, wanted ? 0.85 : 0.5);
    }
  }
}

// Square cells of `cell` pixels, the more opaque the more points they hold: in the mean colour of the points
// (`mixed`), or for categories in the colour of one of them. Cells that hold chosen points show these alone.
// Returns the largest number of points in a cell.
export function cells(image, xs, ys, rows, place, { colours, mask, faded, cell, mixed = true }) {
  const w = Math.ceil(image.width / cell), h = Math.ceil(image.height / cell), size = w * h;
  const red = new Uint32Array(size), green = new Uint32Array(size), blue = new Uint32Array(size);
  const chosen = new Uint32Array(size), others = mask ? new Uint32Array(size) : null;
  const ax = place.ax / cell, bx = place.bx / cell, ay = place.ay / cell, by = place.by / cell;
  const n = rows ? rows.length : xs.length;
  for (let k = 0; k < n; k++) {
    const i = rows ? rows[k] : k, x = ax * xs[i] + bx, y = ay * ys[i] + by;
    if (!(x >= 0 && x < w && y >= 0 && y < h)) continue;
    const at = (y | 0) * w + (x | 0);
    if (mask && !mask[i]) {
      others[at]++;
      continue;
    }
    const colour = colours[i];
    if (!mixed) red[at] = green[at] = blue[at] = 0;
    red[at] += (colour >> 16) & 255;
    green[at] += (colour >> 8) & 255;
    blue[at] += colour & 255;
    chosen[at]++;
  }
  let most = 1;
  for (let at = 0; at < size; at++) most = Math.max(most, chosen[at], others ? others[at] : 0);
  const pixels = new Uint32Array(image.data.buffer), opacity = opacities(most);
  const grey = ((faded & 255) << 16) | (faded & 0xff00) | (faded >> 16);
  for (let j = 0; j < h; j++) {
    for (let i = 0; i < w; i++) {
      const at = j * w + i, count = chosen[at];
      if (!count && !(others && others[at])) continue;
      const share = mixed ? count : 1;
      const colour = count ? ((blue[at] / share) << 16) | ((green[at] / share) << 8) | (red[at] / share) : grey;
      const value = ((opacity(count || others[at]) << 24) | colour) >>> 0;
      const x1 = Math.min(image.width, (i + 1) * cell), y1 = Math.min(image.height, (j + 1) * cell);
      for (let y = j * cell; y < y1; y++) for (let x = i * cell; x < x1; x++) pixels[y * image.width + x] = value;
    }
  }
  return most;
}

// Opacity (0-255) of a cell of n points: from a third to full, logarithmic in n.
function opacities(most) {
  const table = new Uint8Array(Math.min(most, 4096) + 1), scale = 1 / Math.log(1 + most);
  for (let n = 0; n < table.length; n++) table[n] = 90 + 165 * Math.log(1 + n) * scale;
  return (n) => table[Math.min(n, table.length - 1)];
}

// The row nearest to a pixel within `reach` pixels, or -1.
export function nearest(xs, ys, rows, place, px, py, reach) {
  let best = -1, least = reach * reach;
  const n = rows ? rows.length : xs.length;
  for (let k = 0; k < n; k++) {
    const i = rows ? rows[k] : k, dx = place.ax * xs[i] + place.bx - px, dy = place.ay * ys[i] + place.by - py;
    const d = dx * dx + dy * dy;
    if (d < least) [least, best] = [d, i];
  }
  return best;
}
