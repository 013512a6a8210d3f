// Colours: the program's categorical palette, viridis for amounts, blue-white-red for differences.
const VIRIDIS = [
  [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140],
  [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37],
];
const BLUES = [
  [247, 250, 253], [222, 235, 247], [198, 219, 239], [158, 202, 225], [107, 174, 214], [66, 146, 198],
  [33, 113, 181], [8, 81, 156], [8, 48, 107],
];
const DIVERGING = [
  [33, 85, 160], [74, 135, 196], [146, 186, 222], [209, 225, 238], [243, 243, 243], [247, 217, 203],
  [236, 161, 134], [209, 94, 82], [165, 28, 48],
];
export const UNKNOWN = [150, 150, 150];
// Shades of the palette for categories beyond it: [mixed with, fraction].
const SHADES = [[null, 0], [255, 0.45], [0, 0.35]];

export const hex = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
export const css = (rgb) => `rgb(${rgb.join(" ")})`;
export const pack = ([r, g, b]) => (r << 16) | (g << 8) | b;

const mixed = (rgb, with_, fraction) => (with_ == null ? rgb : rgb.map((v) => Math.round(v + (with_ - v) * fraction)));

// Colour of a fraction in 0..1 along a list of stops, as [r, g, b].
export function along(stops, fraction) {
  const place = Math.max(0, Math.min(1, fraction)) * (stops.length - 1);
  const lower = Math.min(Math.floor(place), stops.length - 2);
  return stops[lower].map((v, i) => Math.round(v + (stops[lower + 1][i] - v) * (place - lower)));
}

let palette = null;

// The program's palette (tomohet.plots), which the page states; the darkest are lighter on a dark page.
export function category(code) {
  palette ||= document.documentElement.dataset.palette.split(" ").map(hex);
  if (code < 0) return UNKNOWN;
  const shade = SHADES[Math.floor(code / palette.length) % SHADES.length];
  const colour = mixed(palette[code % palette.length], ...shade);
  const light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2];
  return isDark() && light < 115 ? mixed(colour, 255, 0.3) : colour;
}

export function isDark() {
  const { scheme } = document.documentElement.dataset;
  return scheme ? scheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export const viridis = (fraction) => along(VIRIDIS, fraction);
export const blues = (fraction) => along(BLUES, fraction);
export const diverging = (fraction) => along(DIVERGING, fraction);
export const gradient = (scale) =>
  `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((f) => css(scale(f))).join(", ")})`;
