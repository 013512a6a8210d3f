// One colour per particle: from a column, or from the named selections.
import { category, pack, UNKNOWN, viridis } from "./colours.js";

export const BY_SETS = "(selections)";
const STEPS = 256, PROBE = 20000;

// Packed colours (0xRRGGBB) of all rows, and for a measured column the ends of its scale.
export function colouring(table, name, sets) {
  if (name === BY_SETS) return { colours: bySets(table.n, sets) };
  const { kind, values, categories } = table.columns.get(name), colours = new Uint32Array(table.n);
  if (kind === "category") {
    const shades = Uint32Array.from(categories, (_, code) => pack(category(code))), unknown = pack(UNKNOWN);
    for (let i = 0; i < colours.length; i++) colours[i] = values[i] < 0 ? unknown : shades[values[i]];
    return { colours };
  }
  const [low, high] = quantiles(values, 0.01, 0.99), scale = (STEPS - 1) / (high - low || 1), unknown = pack(UNKNOWN);
  const shades = Uint32Array.from({ length: STEPS }, (_, k) => pack(viridis(k / (STEPS - 1))));
  for (let i = 0; i < colours.length; i++) {
    const k = Math.round((values[i] - low) * scale);
    colours[i] = Number.isFinite(k) ? shades[k < 0 ? 0 : k >= STEPS ? STEPS - 1 : k] : unknown;
  }
  return { colours, low, high };
}

// The colour of the first selection that holds a row.
function bySets(n, sets) {
  const colours = new Uint32Array(n).fill(pack(UNKNOWN));
  for (const { mask, number } of [...sets].reverse()) {
    const colour = pack(category(number));
    for (let i = 0; i < n; i++) if (mask[i]) colours[i] = colour;
  }
  return colours;
}

// Two quantiles of the finite values, of every so many for a long column.
export function quantiles(values, lower, upper) {
  const step = Math.max(1, Math.floor(values.length / PROBE)), finite = [];
  for (let i = 0; i < values.length; i += step) if (Number.isFinite(values[i])) finite.push(values[i]);
  finite.sort((a, b) => a - b);
  const at = (q) => finite[Math.round(q * (finite.length - 1))] ?? 0;
  return [at(lower), at(upper)];
}
