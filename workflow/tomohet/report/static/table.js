"use strict";
// The particle (or volume) table of a round, and the selection on it that all its plots share.
(function () {
  // One column with its values decoded. Categories are codes into `categories`.
  async function load(entry) {
    const values = await TomoHet.blob(entry.blob);
    return { ...entry, values };
  }

  TomoHet.loadTable = async function (payload) {
    const columns = new Map();
    for (const column of await Promise.all(payload.columns.map(load))) columns.set(column.name, column);
    return { n: payload.n, total: payload.total, ordinal: await TomoHet.blob(payload.ordinal), columns };
  };

  TomoHet.valueText = function (column, row) {
    if (column.kind === "number") return TomoHet.number(column.values[row]);
    const code = column.values[row];
    return code < 0 ? "–" : String(column.categories[code]);
  };

  const literal = (value) =>
    typeof value === "string" ? JSON.stringify(value) : value === true ? "True" : value === false ? "False" : String(value);

  // Conditions joined by `and`: one lasso, categories by column, ranges by column.
  TomoHet.Selection = class {
    constructor(table) {
      this.table = table;
      this.listeners = [];
      this.clear(true);
    }

    clear(quiet = false) {
      this.lasso = null;
      this.categories = new Map();
      this.ranges = new Map();
      this.update(quiet);
    }

    onChange(listener) {
      this.listeners.push(listener);
    }

    setLasso(lasso) {
      this.lasso = lasso;
      this.update();
    }

    toggleCategory(name, code) {
      const chosen = this.categories.get(name) || new Set();
      if (!chosen.delete(code)) chosen.add(code);
      if (chosen.size) this.categories.set(name, chosen);
      else this.categories.delete(name);
      this.update();
    }

    setRange(name, range) {
      if (range) this.ranges.set(name, range.map((v) => Number(v.toPrecision(5))));
      else this.ranges.delete(name);
      this.update();
    }

    get active() {
      return Boolean(this.lasso || this.categories.size || this.ranges.size);
    }

    update(quiet = false) {
      const { n, columns } = this.table;
      const mask = new Uint8Array(n).fill(1);
      const keep = (test) => {
        for (let i = 0; i < n; i++) if (mask[i] && !test(i)) mask[i] = 0;
      };
      for (const [name, codes] of this.categories) {
        const { values } = columns.get(name);
        keep((i) => codes.has(values[i]));
      }
      for (const [name, [low, high]] of this.ranges) {
        const { values } = columns.get(name);
        keep((i) => values[i] >= low && values[i] <= high);
      }
      if (this.lasso) {
        const { x, y, parts } = this.lasso;
        const xs = columns.get(x).values, ys = columns.get(y).values;
        keep((i) => TomoHet.lasso.contains(parts, xs[i], ys[i]));
      }
      this.mask = mask;
      this.count = mask.reduce((sum, v) => sum + v, 0);
      if (!quiet) this.listeners.forEach((listener) => listener());
    }

    // The selection as a pandas query on the particle table.
    get query() {
      const { column, query } = TomoHet.lasso;
      const terms = [];
      for (const [name, codes] of this.categories) {
        const values = [...codes].sort((a, b) => a - b).map((code) => literal(this.table.columns.get(name).categories[code]));
        terms.push(values.length > 1 ? `${column(name)} in [${values.join(", ")}]` : `${column(name)} == ${values[0]}`);
      }
      for (const [name, [low, high]] of this.ranges) terms.push(`${low} <= ${column(name)} <= ${high}`);
      if (this.lasso) {
        const text = query(this.lasso.parts, this.lasso.x, this.lasso.y);
        terms.push(this.lasso.parts.length > 1 && terms.length ? `(${text})` : text);
      }
      return terms.join(" and ");
    }

    // Ordinals of the selected particles as the bytes of a pickled list of integers (protocol 2).
    indicesPickle() {
      const chosen = [];
      for (let i = 0; i < this.table.n; i++) if (this.mask[i]) chosen.push(this.table.ordinal[i]);
      const bytes = new DataView(new ArrayBuffer(4 + 5 * chosen.length + 2));
      [0x80, 2, 0x5d, 0x28].forEach((byte, i) => bytes.setUint8(i, byte)); // protocol 2, empty list, mark
      chosen.forEach((value, i) => {
        bytes.setUint8(4 + 5 * i, 0x4a); // a 32-bit integer follows
        bytes.setInt32(5 + 5 * i, value, true);
      });
      bytes.setUint8(4 + 5 * chosen.length, 0x65); // append all to the list
      bytes.setUint8(5 + 5 * chosen.length, 0x2e); // stop
      return new Uint8Array(bytes.buffer);
    }
  };
})();
