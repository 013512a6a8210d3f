"use strict";
// The particles of a round: two linked scatter plots, a histogram, the selection and its query.
(function () {
  const { element } = TomoHet;
  const { category, viridis, css } = TomoHet.colours;
  const MOST_CHIPS = 24;

  function picker(label, names, table, chosen, change) {
    const select = element("select", { "aria-label": label });
    for (const name of names) {
      select.append(element("option", { value: name, ...(name === chosen ? { selected: true } : {}) }, table.columns.get(name).label));
    }
    select.addEventListener("change", () => change(select.value));
    return element("label", { class: "picker" }, element("span", {}, label), select);
  }

  // One packed colour per particle for a column, and the range of a measured one.
  function colouring(column) {
    const n = column.values.length, colours = new Uint32Array(n);
    const pack = ([r, g, b]) => (r << 16) | (g << 8) | b;
    if (column.kind === "category") {
      for (let i = 0; i < n; i++) colours[i] = pack(category(column.values[i]));
      return { colours };
    }
    const finite = Float32Array.from(column.values).filter(Number.isFinite).sort();
    const low = finite[Math.floor(finite.length * 0.01)] ?? 0;
    const high = finite[Math.ceil(finite.length * 0.99) - 1] ?? 1;
    // 64 steps look smooth and let the points be drawn in few strokes.
    for (let i = 0; i < n; i++) {
      const fraction = Math.round(((column.values[i] - low) / (high - low || 1)) * 64) / 64;
      colours[i] = pack(Number.isFinite(fraction) ? viridis(fraction) : [150, 150, 150]);
    }
    return { colours, low, high };
  }

  function counts(column, mask) {
    const sums = new Array(column.categories.length).fill(0);
    column.values.forEach((code, i) => code >= 0 && mask[i] && sums[code]++);
    return sums;
  }

  class Explorer {
    constructor(host, payload, table) {
      Object.assign(this, { host, payload, table, selection: new TomoHet.Selection(table) });
      this.numbers = [...table.columns.values()].filter((c) => c.kind === "number").map((c) => c.name);
      this.all = [...table.columns.keys()];
      this.colour = payload.colour;
      this.axes = payload.axes.map((pair) => [...pair]);
      this.build();
      this.selection.onChange(() => this.refresh());
      this.recolour();
    }

    build() {
      const { table } = this;
      this.legend = element("div", { class: "colourkey" });
      const top = element("div", { class: "controls" }, picker("Colour", this.all, table, this.colour, (name) => {
        this.colour = name;
        this.recolour();
      }), this.legend);
      const grid = element("div", { class: "pair" });
      this.scatters = this.axes.map((pair) => this.panel(grid, pair));
      this.chosen = element("div", { class: "selection", "aria-live": "polite" });
      this.host.replaceChildren(top, grid, this.chosen);
      this.host.insertBefore(this.histogramPanel(), this.chosen);
    }

    panel(grid, pair) {
      const host = element("div", { class: "scatter" });
      const scatter = new TomoHet.Scatter(host, this.table, this.selection, this.payload.noun, (row, shown) => this.tip(row, shown));
      const change = (axis) => (name) => {
        pair[axis] = name;
        scatter.show(...pair, this.colours);
      };
      const button = (text, title, action) => element("button", { type: "button", title, "aria-label": title, onclick: action }, text);
      const bar = element("div", { class: "controls" },
        picker("x", this.numbers, this.table, pair[0], change(0)), picker("y", this.numbers, this.table, pair[1], change(1)),
        element("span", { class: "buttons" }, button("+", "Zoom in", () => scatter.zoom(0.8)),
          button("−", "Zoom out", () => scatter.zoom(1.25)), button("Reset", "Show all", () => scatter.reset())));
      grid.append(element("div", { class: "panel" }, bar, host));
      return scatter;
    }

    tip(row, shown) {
      const columns = [...new Set([...shown, this.table.columns.get(this.colour), ...this.extras()])];
      return [element("b", {}, `${this.payload.noun} ${this.table.ordinal[row]}`), ...columns.map((column) =>
        element("div", {}, `${column.label}: ${TomoHet.valueText(column, row)}`))];
    }

    extras() {
      return ["kmeans", "tomogram"].map((name) => this.table.columns.get(name)).filter(Boolean);
    }

    recolour() {
      const column = this.table.columns.get(this.colour);
      const { colours, low, high } = colouring(column);
      this.colours = colours;
      this.scatters.forEach((scatter, i) => scatter.show(...this.axes[i], colours));
      this.scale = [low, high];
      this.refresh();
    }

    refresh() {
      this.drawKey();
      this.drawSelection();
      this.histogram?.refresh();
    }

    drawKey() {
      const column = this.table.columns.get(this.colour);
      if (column.kind === "number") {
        const [low, high] = this.scale.map(TomoHet.number);
        const bar = element("span", { class: "gradient", style: `background:${TomoHet.colours.gradient(viridis)}` });
        return this.legend.replaceChildren(low, bar, high);
      }
      const chosen = this.selection.categories.get(column.name);
      const sums = counts(column, this.selection.mask);
      const chips = column.categories.slice(0, MOST_CHIPS).map((value, code) => element("button", {
        type: "button", class: "chip", "aria-pressed": String(Boolean(chosen?.has(code))), title: `Select ${column.label} ${value}`,
        style: `--c:${css(category(code))}`, onclick: () => this.selection.toggleCategory(column.name, code),
      }, String(value), element("small", {}, sums[code].toLocaleString("en"))));
      const more = column.categories.length - MOST_CHIPS;
      this.legend.replaceChildren(...chips, ...(more > 0 ? [`and ${more} more`] : []));
    }

    // Of several columns the one that varies most: an occupancy that tells states apart.
    mostSpread(names) {
      const spread = (name) => {
        const finite = this.table.columns.get(name).values.filter(Number.isFinite);
        const mean = finite.reduce((sum, v) => sum + v, 0) / finite.length;
        return finite.reduce((sum, v) => sum + (v - mean) ** 2, 0) / finite.length;
      };
      return names.map((name) => [spread(name), name]).sort((a, b) => b[0] - a[0])[0]?.[1];
    }

    histogramPanel() {
      const preferred = this.mostSpread(this.numbers.filter((name) => /^(maven|siren)_/.test(name))) || this.numbers[0];
      const host = element("div", { class: "histogram" });
      this.histogram = new TomoHet.Histogram(host, this.table, this.selection, this.payload.noun);
      this.histogram.show(preferred);
      const choose = picker("Histogram of", this.numbers, this.table, preferred, (name) => this.histogram.show(name));
      return element("div", { class: "panel" }, element("div", { class: "controls" }, choose,
        element("span", { class: "hint" }, "drag to select a range, click to clear it")), host);
    }

    drawSelection() {
      const { selection, table } = this;
      if (!selection.active) {
        return this.chosen.replaceChildren(element("p", { class: "hint" },
          `Draw around ${this.payload.noun}s in either plot, click clusters, or drag over the histogram: the same selection shows everywhere and is written here as a query for the configuration. Shift-drag pans, the wheel zooms a clicked plot, Esc clears.`));
      }
      const share = ((100 * selection.count) / table.n).toFixed(1);
      const thinned = table.n < table.total ? ` of the ${table.n.toLocaleString("en")} drawn here; the query holds for all ${table.total.toLocaleString("en")}` : "";
      const yaml = `rounds:\n  ${this.payload.child}:\n    parent: ${this.payload.round}\n    select: ${JSON.stringify(selection.query)}\n`;
      const button = (text, action) => {
        const made = element("button", { type: "button" }, text);
        made.addEventListener("click", () => action(made));
        return made;
      };
      this.chosen.replaceChildren(
        element("p", {}, element("b", {}, `${selection.count.toLocaleString("en")} ${this.payload.noun}s selected`), ` (${share} %)${thinned}`),
        element("pre", { class: "query" }, yaml),
        element("div", { class: "controls" },
          button("Copy for config.yaml", (made) => TomoHet.copy(yaml, made)),
          button("Copy query", (made) => TomoHet.copy(selection.query, made)),
          ...(this.payload.noun === "particle" && table.n === table.total ? [button("Save indices.pkl", () => this.save())] : []),
          button("Clear", () => selection.clear())));
    }

    save() {
      const url = URL.createObjectURL(new Blob([this.selection.indicesPickle()]));
      element("a", { href: url, download: `${this.payload.round}_selected.pkl` }).click();
      URL.revokeObjectURL(url);
    }
  }

  TomoHet.explorer = async function (host, payload) {
    const table = await TomoHet.loadTable(payload.table);
    host.explorer = new Explorer(host, payload, table);
  };
})();
