// A small table of particles as the page holds it, for the tests.
import { Table } from "../../workflow/tomohet/report/static/columns.js";

// columns: { name: values }; texts and booleans become categories. All are loaded.
export function tableOf(columns, total = null) {
  const n = Object.values(columns)[0].length, payload = { n, total: total ?? n, precision: 0, columns: [] };
  const table = new Table(payload);
  for (const [name, given] of Object.entries(columns)) {
    const column = { name, label: name, kind: "number", values: Float64Array.from(given, (v) => v ?? NaN) };
    if (given.some((v) => ["string", "boolean"].includes(typeof v))) {
      const categories = [...new Set(given.filter((v) => v != null))].sort();
      Object.assign(column, { kind: "category", categories, values: Int32Array.from(given, (v) => (v == null ? -1 : categories.indexOf(v))) });
    }
    table.columns.set(name, column);
    table.loading.set(name, Promise.resolve());
  }
  return table;
}
