// The particles of a round: plot, histogram, map of a tomogram, table and named selections, all linked.
import { read } from "./address.js";
import { labelledTicks } from "./axes.js";
import { category, css } from "./colours.js";
import { BY_SETS, colouring } from "./colouring.js";
import { Table } from "./columns.js";
import { copy, element, picker, save } from "./dom.js";
import { asPng, asSvg } from "./exports.js";
import { Histogram } from "./histogram.js";
import { categoryKey, countsOf, scaleKey, setsKey } from "./key.js";
import { MOST_DISCS } from "./points.js";
import { outline } from "./polygon.js";
import { Rows } from "./rows.js";
import { Scatter } from "./scatter.js";
import { SelectionPanel } from "./selections.js";
import { between, membership, Sets, withinOutline } from "./sets.js";
import { toolbar } from "./toolbar.js";

const TABLE_COLUMNS = 10;
const INSIDE = /in_polygon\(("[^"]*"), ("[^"]*"), (\[\[.*?\]\])\)/g;

export class Explorer {
  constructor(host, payload, round) {
    this.table = new Table(payload.table);
    Object.assign(this, { host, payload, round, sets: new Sets(this.table), strokes: 0, told: "{}" });
    const { names, numbers } = this.table;
    const occupancy = numbers.find((name) => name === payload.colour && /^(maven|siren)_/.test(name)) || numbers.find((name) => /^(maven|siren)_/.test(name));
    this.state = { x: payload.axes[0], y: payload.axes[1], colour: payload.colour, histogram: occupancy || numbers[0], tomogram: null };
    this.labels = new Map(names.map((name) => [name, this.table.columns.get(name).label]));
    this.hasTomograms = ["tomogram", "x_A", "y_A"].every((name) => names.includes(name)) && this.table.columns.get("tomogram").kind === "category";
  }

  countText(n) { return `${this.table.weight > 1 ? "≈ " : ""}${Math.round(n).toLocaleString("en")}`; }

  // Load what the first view needs, build the page's part, and draw.
  async start() {
    this.restore();
    await this.table.load(this.needed());
    this.ordinal = await this.table.ordinals();
    this.build();
    this.sets.onChange(() => this.refresh());
    for (const [set, query] of this.restored) await this.sets.write(query, set);
    this.refresh();
    return this;
  }

  // Take axes, colours and selections from the page's address, as far as they are this table's.
  restore() {
    const { anchor, state } = read(location.hash);
    this.restored = [];
    if (this.payload.noun !== "particle" || anchor !== this.round?.id) return;
    for (const key of ["x", "y", "histogram"]) if (this.table.numbers.includes(state.get(key))) this.state[key] = state.get(key);
    if (this.labels.has(state.get("colour")) || state.get("colour") === BY_SETS) this.state.colour = state.get("colour");
    this.state.tomogram = state.get("tomogram") ?? null;
    const queries = [...state].filter(([key]) => /^[A-Z]$/.test(key));
    while (this.sets.sets.length < queries.length) this.sets.create();
    this.restored = queries.map(([, query], i) => [this.sets.sets[i], query]);
    this.sets.active = this.sets.sets[0];
  }

  needed() {
    const { x, y, colour, histogram } = this.state;
    return [x, y, colour, histogram, "kmeans", ...(this.hasTomograms ? ["tomogram", "x_A", "y_A"] : []), ...this.tableColumns()];
  }

  // The columns of the table: those shown elsewhere first, then place and labels, then occupancies.
  tableColumns() {
    const { x, y, colour, histogram } = this.state, { names } = this.table;
    const wanted = [x, y, colour, histogram, "tomogram", "state", "kmeans", ...names.filter((name) => /^maven_/.test(name)), ...names];
    return [...new Set(wanted)].filter((name) => this.labels.has(name)).slice(0, TABLE_COLUMNS);
  }

  build() {
    const { payload, table, sets, state } = this, noun = payload.noun;
    const all = [...this.labels], numbers = table.numbers.map((name) => [name, this.labels.get(name)]);
    const set = (key) => (value) => this.set(key, value);
    const button = (text, title, work) => element("button", { type: "button", title, "aria-label": title, onclick: (event) => work(event.currentTarget) }, text);
    this.key = toolbar(element("div", { class: "colourkey", role: "group", "aria-label": "Key to the colours" }));
    const plot = element("div", { class: "scatter" });
    this.scatter = new Scatter(plot, table, {
      height: (width) => Math.max(320, Math.min(width * 0.72, 620)), xnote: this.sampleNote(),
      label: (s) => `Scatter plot of ${table.n.toLocaleString("en")} ${noun}s: ${this.labels.get(s.y)} against ${this.labels.get(s.x)}. Plus, minus and arrows move the view; Enter selects what is in view.`,
      hover: (row) => this.tip(row), clicked: (row) => this.particle(row), drawn: (shape) => this.drawn(this.scatter, shape),
    });
    this.tools = toolbar(element("span", { class: "modes", role: "group", "aria-label": "Tool" }, ...["lasso", "box", "pan"].map((tool) =>
      element("button", { type: "button", "data-tool": tool, "aria-pressed": String(tool === "lasso"), onclick: () => this.setTool(tool) }, tool))));
    const main = element("div", { class: "panel" },
      element("div", { class: "controls" }, picker("x", numbers, state.x, set("x")), picker("y", numbers, state.y, set("y")),
        this.tools, toolbar(element("span", { class: "buttons", role: "group", "aria-label": "View" }, button("+", "Zoom in", () => this.scatter.zoom(0.8)), button("−", "Zoom out", () => this.scatter.zoom(1.25)),
          button("Reset", "Show all", () => this.scatter.reset()), button("PNG", "Save the plot as PNG", () => this.savePng()), button("SVG", "Save the plot as SVG", () => this.saveSvg()),
          noun === "particle" && button("Link", "Copy a link to this view", (made) => copy(location.href, made))))),
      element("div", { class: "controls key-row" }, picker("Colour", [...all, [BY_SETS, "named selections"]], state.colour, set("colour")), this.key), plot,
      element("p", { class: "hint" }, `${table.n > MOST_DISCS ? "The more opaque a place, the more particles it holds. " : ""}Shift-drag moves the view, the wheel zooms a clicked plot, a click marks a ${noun} in the table.`));
    const panelHost = element("div", { class: "panel selection" });
    this.panel = new SelectionPanel(panelHost, sets, {
      noun, round: payload.round, reserved: document.documentElement.dataset.reserved.split(" "), known: [...document.querySelectorAll("section[data-round]")].map((s) => s.dataset.round),
      names: () => this.tableColumns(), countText: (n) => this.countText(n),
    });
    const histogramHost = element("div", { class: "histogram" });
    this.histogram = new Histogram(histogramHost, table, { noun, ranged: (name, range) => sets.term(`range of ${name}`, range && between(name, range)) });
    main.append(element("div", { class: "controls histogram-of" }, picker("Histogram of", numbers, state.histogram, set("histogram")),
      element("span", { class: "hint" }, "drag to select a range, click to clear it")), histogramHost);
    const side = element("div", { class: "side" }, panelHost);
    if (this.hasTomograms) side.append(this.tomogramPanel(button));
    const below = element("div", { class: "panel" });
    this.host.replaceChildren(element("div", { class: "explorer-grid" }, main, side), below);
    this.rows = new Rows(below, table, { noun, clicked: (row) => this.particle(row, false) });
    this.listen();
  }

  tomogramPanel(button) {
    const host = element("div", { class: "scatter" }), categories = this.table.columns.get("tomogram").categories.map(String);
    this.tomogram = new Scatter(host, this.table, {
      height: (width) => Math.max(220, Math.min(width * 0.85, 520)), equal: true,
      label: () => `Particles of tomogram ${this.state.tomogram}, x and y in Å on equal axes.`,
      hover: (row) => this.tip(row), clicked: (row) => this.particle(row), drawn: (shape) => this.drawn(this.tomogram, shape, membership("tomogram", [this.tomogramValue()])),
    });
    const list = `${this.round?.id || "volumes"}-tomograms`;
    if (!categories.includes(this.state.tomogram)) this.state.tomogram = categories[0];
    const choose = element("input", { list, value: this.state.tomogram, "aria-label": "Tomogram", size: "16", onchange: () => {
      if (categories.includes(choose.value)) this.set("tomogram", choose.value);
      else choose.value = this.state.tomogram;
    }, onfocus: () => choose.select() });
    const step = (by) => () => {
      choose.value = categories[(categories.indexOf(this.state.tomogram) + by + categories.length) % categories.length];
      this.set("tomogram", choose.value);
    };
    this.scene = button("Copy ChimeraX command", "Opens this tomogram's particles in ChimeraX", (made) => copy(this.sceneCommand(), made));
    return element("div", { class: "panel" }, element("div", { class: "controls" },
      element("label", { class: "picker" }, element("span", {}, "Tomogram"), choose), element("datalist", { id: list }, ...categories.map((value) => element("option", { value }))),
      button("‹", "Previous tomogram", step(-1)), button("›", "Next tomogram", step(1)), this.scene), host);
  }

  tomogramValue() { return this.table.columns.get("tomogram").categories.find((value) => String(value) === this.state.tomogram); }
  sceneCommand() { return `open "${this.payload.scenes?.[this.state.tomogram]}"`; }
  sampleNote() { return this.table.weight > 1 ? `of ${this.table.total.toLocaleString("en")}: 1 in ${Math.round(this.table.weight)} drawn` : ""; }

  // Other parts of the round's section tell of volumes that were chosen there.
  listen() {
    if (this.payload.noun !== "particle") return;
    this.round?.addEventListener("tomohet:volumes", ({ detail }) => this.sets.term("volumes", membership("volume", [...detail.rows])));
    this.round?.addEventListener("tomohet:group", ({ detail }) => this.sets.term("group", membership(detail.column, [detail.value])));
    document.addEventListener("schemechange", () => this.refresh());
  }

  async set(key, value) {
    this.state[key] = value;
    await this.table.load(this.needed());
    this.refresh();
  }

  setTool(tool) {
    for (const scatter of [this.scatter, this.tomogram].filter(Boolean)) scatter.tool = tool;
    for (const made of this.tools.children) made.setAttribute("aria-pressed", String(made.dataset.tool === tool));
  }

  // A box or an outline was drawn in one of the plots; `also`: a further condition of that plot.
  drawn(scatter, { kind, stroke, toData, box, by }, also = null) {
    const { x, y } = scatter, { columns } = this.table;
    let term;
    if (kind === "box") term = `${between(x, neat(box.x))} and ${between(y, neat(box.y))}`;
    else if (stroke.length > 2) term = withinOutline(x, y, outline(stroke, toData, columns.get(x).values, columns.get(y).values));
    if (!term) return null;
    this.strokes += 1;
    return this.sets.term(by || `stroke ${this.strokes}`, also ? `${also} and ${term}` : term);
  }

  // One particle was chosen: the table shows it, the round's other parts hear of it.
  particle(row, mark = true) {
    if (mark) this.rows.mark(row);
    this.tell("tomohet:particle", { row });
  }

  tell(name, detail) {
    if (this.payload.noun === "particle") this.round?.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  }

  tip(row) {
    const { x, y, colour } = this.state, shown = [...new Set([x, y, colour, "kmeans", "tomogram"])].filter((name) => this.labels.has(name));
    return [element("b", {}, `${this.payload.noun} ${this.ordinal[row]}`), ...shown.map((name) =>
      element("div", {}, `${this.labels.get(name)}: `, element("bdi", {}, this.table.text(name, row))))];
  }

  // Draw all parts as the state and the selections are now.
  refresh() {
    const { state, table, sets } = this, { active } = sets, mask = active.query ? active.mask : null;
    const { colours, low, high } = colouring(table, state.colour, sets.chosen);
    const outlines = sets.chosen.flatMap(({ query, number }) => [...query.matchAll(INSIDE)].map(([, x, y, corners]) =>
      ({ x: JSON.parse(x), y: JSON.parse(y), corners: JSON.parse(corners), colour: css(category(number)) })));
    const mixed = table.columns.get(state.colour)?.kind === "number";
    const look = { colours, mixed, mask: state.colour === BY_SETS ? null : mask, outlines };
    this.scatter.show(state.x, state.y, look);
    this.drawKey(mask, low, high);
    const range = rangeOf(sets.gesture, state.histogram, active.query);
    this.histogram.show(state.histogram, mask, range);
    if (this.tomogram) {
      this.tomogram.show("x_A", "y_A", look, this.rowsOfTomogram());
      this.scene.hidden = !this.payload.scenes?.[state.tomogram];
    }
    this.rows.show(this.tableColumns(), this.ordinal, mask);
    const selections = Object.fromEntries(sets.chosen.map(({ name, query }) => [name, query])), told = JSON.stringify(selections);
    if (told !== this.told) this.tell("tomohet:selection", { sets: sets.chosen.map((set) => ({ name: set.name, colour: css(category(set.number)), rows: sets.rows(set) })) });
    this.told = told;
    if (this.payload.noun === "particle") this.tell("tomohet:view", { state: { ...state, ...selections } });
  }

  drawKey(mask, low, high) {
    const { colour } = this.state;
    if (colour === BY_SETS) return setsKey(this.key, this.sets.chosen);
    const column = this.table.columns.get(colour);
    if (column.kind === "number") return scaleKey(this.key, low, high);
    const { gesture } = this.sets, chosen = gesture?.key === `categories of ${colour}` ? gesture.chosen : [];
    return categoryKey(this.key, column, countsOf(column, null, this.table.weight), chosen, (value) => this.sets.toggle(colour, value), (n) => this.countText(n));
  }

  rowsOfTomogram() {
    const { categories, values } = this.table.columns.get("tomogram"), code = categories.map(String).indexOf(this.state.tomogram);
    if (this.ofTomogram?.code !== code) {
      const rows = [];
      for (let i = 0; i < values.length; i++) if (values[i] === code) rows.push(i);
      this.ofTomogram = { code, rows: Uint32Array.from(rows) };
    }
    return this.ofTomogram.rows;
  }

  pictureName(ending) { return `${this.payload.round}_${this.state.x}_${this.state.y}.${ending}`; }
  async savePng() { save(await asPng(this.scatter.canvas), this.pictureName("png")); }
  async saveSvg() { save(await asSvg(this.scatter, labelledTicks), this.pictureName("svg"), "image/svg+xml"); }
}

const neat = (range) => range.map((v) => Number(v.toPrecision(5)));

// The range of a column in the last gesture, to be shown in its histogram.
function rangeOf(gesture, name, query) {
  if (gesture?.key !== `range of ${name}`) return null;
  const found = query.match(/(-?[\d.]+(?:e[+-]?\d+)?) <= [^<]*? <= (-?[\d.]+(?:e[+-]?\d+)?)(?!.*<=)/s);
  return found && [Number(found[1]), Number(found[2])];
}

export async function explorer(host, payload) {
  host.explorer = await new Explorer(host, payload, host.closest("section[data-round]")).start();
}
