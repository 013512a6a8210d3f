// A table of particles, or of volumes: its columns are decoded when first asked for.
import { blob } from "./blobs.js";
import { number } from "./dom.js";

const MISSING = { Uint8Array: 255, Uint16Array: 65535 };

export class Table {
  constructor(payload) {
    Object.assign(this, { n: payload.n, total: payload.total, payload, columns: new Map() });
    for (const column of payload.columns) this.columns.set(column.name, column);
    this.loading = new Map();
  }

  // Columns for plots, colours and the table; queries may name further ones.
  get names() { return [...this.columns.values()].filter((column) => !column.hidden).map((column) => column.name); }
  get numbers() { return this.names.filter((name) => this.columns.get(name).kind === "number"); }

  // How many particles of the table each row stands for.
  get weight() { return this.total / this.n; }

  // Decode the columns called `names`; afterwards they have `values`.
  load(names) {
    return Promise.all([...new Set(names)].filter((name) => this.columns.has(name)).map((name) => {
      if (!this.loading.has(name)) this.loading.set(name, this.decode(this.columns.get(name)));
      return this.loading.get(name);
    }));
  }

  async decode(column) {
    const stored = await blob(column.blob), missing = MISSING[stored.constructor.name] ?? -1;
    let values = stored;
    if (column.kind === "category") values = Int32Array.from(stored, (code) => (code === missing ? -1 : code));
    else if (column.step != null) {
      const { low, step } = column;
      values = Float64Array.from(stored, (code) => (code === missing ? NaN : low + step * code));
    }
    if (column.keyed) {
      const keys = await blob(this.payload.keys), spread = new values.constructor(keys.length);
      for (let i = 0; i < keys.length; i++) spread[i] = values[keys[i]];
      values = spread;
    }
    column.values = values;
  }

  // The particles' numbers in the dataset: stored as differences.
  async ordinals() {
    if (!this.ordinal) {
      const steps = await blob(this.payload.ordinal);
      let sum = 0;
      this.ordinal = Int32Array.from(steps, (step) => (sum += step));
    }
    return this.ordinal;
  }

  // One value as text.
  text(name, row) {
    const column = this.columns.get(name), value = column.values[row];
    if (column.kind === "number") return number(value);
    return value < 0 ? "–" : String(column.categories[value]);
  }
}

// Least and largest step between stored values: comparisons finer than this say nothing.
export const grain = (column) => (column.step != null && column.step !== 1 ? column.step : 0);
