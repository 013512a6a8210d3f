// Volumes A, B and A - B of a round under one camera, one level and one point; linked with the round's selections.
import { difference, load } from "./codec.js";
import { gradient } from "./colours.js";
import { Column } from "./column.js";
import { element, number, onceAFrame, onLayout, reduced } from "./dom.js";
import { fitted, quantile, tellingPoint } from "./framing.js";
import { tick } from "./inputs.js";
import { Items } from "./items.js";
import { Movie } from "./movie.js";
import { START, turned } from "./raster.js";
import { divergingOf } from "./scales.js";
import { surfaceOf } from "./surfaces.js";

const FIRST_LEVEL = 0.3, LOWEST_LEVEL = 3; // of the 99.9th percentile; in sigma
const GREYS = [0.01, 0.9995];
const SHOWN_DIFFERENCE = 0.3, MORE = "#c8413b", LESS = "#3a74b8"; // of the colours' limit

// A correlation in four digits, never rounded up to 1.
const floored = (value) => (Math.floor(value * 1e4) / 1e4).toFixed(4);

class Compare {
  constructor(host, data) {
    Object.assign(this, { host, data, items: new Items(data), blocks: null, spinning: false });
    this.redraw = onceAFrame((moving = false) => this.draw(moving));
    this.section = host.closest("[data-round]") || host;
    this.chosen = { a: this.items.mostDifferent(), b: "all" };
    this.chosenFirst = { ...this.chosen };
    const all = this.items.space.volume(this.items.space.average);
    const highest = quantile(all, 0.999) / data.sigma;
    this.level = Math.max(LOWEST_LEVEL, FIRST_LEVEL * highest);
    this.fit = fitted(data.grid.cube(all), data.grid.edge, this.level * data.sigma);
    this.side = this.fit.side;
    this.camera = { rotation: START, ...this.fit };
    this.build(Math.ceil(1.2 * highest));
    this.listen();
  }

  build(highest) {
    const { data } = this;
    this.columns = { a: new Column(this, "A", true), b: new Column(this, "B"), d: new Column(this, "A minus B") };
    this.selects = { a: this.select("a"), b: this.select("b") };
    this.number = element("input", { type: "number", min: 0, max: this.items.space.n - 1, value: 0, "aria-label": "Number of the particle" });
    this.number.addEventListener("change", () => this.showParticle(Number(this.number.value)));
    const levelText = element("output", {}, `${number(Number(this.level.toPrecision(3)))} σ`);
    this.slider = element("input", { type: "range", min: 1, max: highest, step: Math.max(0.1, Math.round(highest / 20) / 10), value: this.level, "aria-label": "Level of the surfaces in standard deviations of the noise" });
    this.slider.addEventListener("input", () => {
      this.level = Number(this.slider.value);
      levelText.textContent = `${number(this.level)} σ`;
      this.refresh();
    });
    const labelled = (text, ...inputs) => element("label", { class: "picker" }, element("span", {}, text), ...inputs);
    const models = element("select", { "aria-label": "Model" }, ...data.models.map((m, i) => element("option", { value: i }, m.label)));
    models.addEventListener("change", () => this.setModel(Number(models.value)));
    this.how = element("p", { class: "hint" });
    this.picked = element("button", { type: "button", title: "Select the particles of A in the plots", onclick: () => this.selectChosen() }, "Select A");
    this.movie = new Movie(this);
    const top = element("div", { class: "controls" }, ...(data.models.length > 1 ? [labelled("Model", models)] : []), labelled("A", this.selects.a), labelled("B", this.selects.b),
      element("button", { type: "button", onclick: () => this.swap() }, "Swap"), this.picked, labelled("Particle", this.number));
    const below = element("div", { class: "controls" }, labelled("Level", this.slider, levelText),
      ...(data.blocks.length ? [tick("Blocks", (on) => this.showBlocks(on))] : []), tick("Spin", (on) => this.spin(on)),
      element("button", { type: "button", onclick: () => this.resetCamera() }, "Reset view"), this.movie.root);
    const keys = data.blocks.map((b) => element("span", { class: "key" }, element("span", { class: "swatch", style: `--c:${b.colour}` }), b.label));
    this.blockKey = element("p", { class: "colourkey", hidden: true }, ...keys);
    this.host.replaceChildren(top, below, this.blockKey, element("div", { class: "comparison" }, ...Object.values(this.columns).map((c) => c.root)), this.how);
    onLayout(this.host, () => this.redraw());
  }

  select(side) {
    const made = element("select", { "aria-label": `Volume ${side.toUpperCase()}` });
    made.addEventListener("change", () => {
      this.movie.stop();
      this.choose(side, made.value);
    });
    return made;
  }

  fillSelects() {
    for (const [side, select] of Object.entries(this.selects)) {
      select.replaceChildren(...this.items.choices().map(([title, entries]) => element("optgroup", { label: title }, ...entries.map(([value, text]) => element("option", { value }, text)))));
      select.value = this.chosen[side];
    }
    this.picked.disabled = !this.chosen.a.startsWith("group");
  }

  // Events of the round: its named selections, and a particle that was clicked.
  listen() {
    this.section.addEventListener("tomohet:selection", ({ detail }) => this.setSets(detail.sets.filter((s) => s.rows.length)));
    this.section.addEventListener("tomohet:particle", ({ detail }) => this.showParticle(detail.row));
    this.section.addEventListener("tomohet:show", ({ detail }) => this.showGroup(detail));
  }

  setSets(sets) {
    this.items.sets = sets;
    const [a, b] = sets.length ? ["set 0", sets.length > 1 ? "set 1" : "others"] : [this.chosenFirst.a, this.chosenFirst.b];
    this.chosen = { a, b };
    return this.refresh();
  }

  showParticle(row) {
    this.items.particle = Math.max(0, Math.min(this.items.space.n - 1, row));
    this.number.value = this.items.particle;
    this.chosen = { a: "particle", b: "all" };
    return this.refresh();
  }

  // Ask the explorer to select the particles of the state or cluster on side A.
  selectChosen() {
    const group = this.data.groups[this.chosen.a.slice("group ".length)];
    this.section.dispatchEvent(new CustomEvent("tomohet:group", { detail: { column: group.column, value: group.value } }));
  }

  // Show a state or cluster on side A.
  showGroup({ column, value }) {
    const found = this.data.groups.findIndex((g) => g.column === column && g.value === value);
    if (found < 0) return null;
    this.host.scrollIntoView({ block: "center" });
    return this.choose("a", `group ${found}`);
  }

  choose(side, key) {
    this.chosen[side] = key;
    return this.refresh();
  }

  swap() {
    this.chosen = { a: this.chosen.b, b: this.chosen.a };
    return this.refresh();
  }

  setModel(number) {
    this.items.model = number;
    this.chosen = { ...this.chosenFirst, a: this.items.mostDifferent() };
    return this.refresh();
  }

  // Make everything anew. While this is being done, further calls ask for one more round at its end.
  refresh() {
    this.again = true;
    this.busy ||= (async () => {
      while (this.again) {
        this.again = false;
        await this.make();
      }
    })().finally(() => (this.busy = null));
    return this.busy;
  }

  // Make the volumes of both sides, then their surfaces and sections.
  async make() {
    const { data, chosen, columns, items } = this, { grid, sigma } = data;
    const a = items.resolve(chosen.a, chosen.b), b = items.resolve(chosen.b, chosen.a);
    const more = items.noiseOfDifference(chosen.a, chosen.b);
    const apart = difference(a.values, b.values, sigma * (more ?? 1)), level = this.level * sigma;
    this.greys ||= { low: quantile(b.values, GREYS[0]), high: quantile(b.values, GREYS[1]) };
    const pair = `${chosen.a} ${chosen.b} ${items.key}`;
    if (!this.placed && pair !== this.pair && chosen.a !== "step") this.point = tellingPoint(grid.cube(apart.values), grid.edge);
    Object.assign(this, { pair, point: this.point || [0, 1, 2].map(() => Math.floor(grid.edge / 2)) });
    columns.a.caption(`A · ${a.label}`, a.note, a.colour);
    columns.b.caption(`B · ${b.label}`, b.note, b.colour);
    const beyond = SHOWN_DIFFERENCE * apart.limit, change = grid.cube(apart.values);
    const unit = more == null || more === 1 ? "σ" : "σ of A − B";
    columns.d.caption("A − B", `Red: more in A, blue: more in B, by over ${number(beyond)}\u00a0${unit}${more == null || more === 1 ? "" : ` (one is ${more.toFixed(1)}\u00a0σ)`}`, null);
    const { fit, how } = items.space;
    this.how.textContent = `σ = ${number(sigma)}, ${data.sigma_source}. A mean of n of all N particles has √(N/n) times that noise; a difference is in the noise of both sides. ${reduced(grid)}${how} Numbers in this page are rounded: correlation with the unrounded volumes ${floored(fit.worst)} at worst, ` +
      `${floored(fit.median)} in the median; of their differences from the mean ${floored(fit.worst_difference)} and ${floored(fit.median_difference)}.`;
    this.fillSelects();
    const cubes = [grid.cube(a.values), grid.cube(b.values)];
    this.shown = { a, b, apart };
    const differences = [[cubes[0].map((v, i) => Math.max(v, cubes[1][i])), level], [change, beyond, MORE], [change.map((v) => -v), beyond, LESS]];
    await Promise.all([columns.a.show(cubes[0], [[cubes[0], level]]), columns.b.show(cubes[1], [[cubes[1], level]]),
      columns.d.show(change, differences, { values: change, limit: apart.limit })]);
    this.redraw();
  }

  // The user puts the sections elsewhere: from then on they stay, until the view is reset.
  move(axis, at) {
    this.placed = true;
    this.point[axis] = Math.max(0, Math.min(this.data.grid.edge - 1, at));
    this.redraw();
  }

  async showBlocks(on) {
    this.blockKey.hidden = !on;
    const { grid, blocks } = this.data, one = async (b) => ({ colour: b.colour, mesh: await surfaceOf(grid.cube(b.values), grid.edge, 127) });
    this.blocks = on ? await Promise.all(blocks.map(one)) : null;
    this.redraw();
  }

  spin(on) {
    this.spinning = on;
    const step = () => {
      if (!this.spinning) return this.redraw();
      this.turn(2, 0);
      requestAnimationFrame(step);
    };
    if (on) step();
  }

  turn(dx, dy) {
    this.camera.rotation = turned(this.camera.rotation, dx, dy);
    this.redraw(true);
  }

  resetCamera() {
    this.camera = { rotation: START, ...this.fit };
    Object.assign(this, { placed: false, pair: null });
    this.refresh();
  }

  drawKey() {
    const { limit } = this.shown.apart, bar = element("span", { class: "gradient", style: `background:${gradient(divergingOf)}` });
    this.columns.d.key.replaceChildren(`−${number(limit)} σ`, bar, `+${number(limit)} σ`);
  }

  draw(moving = false) {
    if (!this.shown) return;
    if (!moving) this.drawKey();
    Object.values(this.columns).forEach((column) => column.draw(moving));
  }
}

export async function compare(host, payload) {
  host.compare = new Compare(host, await load(payload));
  await host.compare.refresh();
  host.compare.draw();
}
