// The panel of named selections: how the next gesture counts, the query, and what can be taken away.
import { category, css } from "./colours.js";
import { copy, element, save } from "./dom.js";
import { asRound, pickled, tabular } from "./exports.js";
import { toolbar } from "./toolbar.js";

const MODES = [["new", "replace", "The next gesture replaces the selection"], ["add", "add", "The next gesture adds particles"],
  ["take", "take away", "The next gesture takes particles away"], ["meet", "intersect", "Only particles of the next gesture stay"]];
const ROUND_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

export class SelectionPanel {
  // options: { noun, round, known (names of rounds), reserved (names that no round may have), names() of the columns in the table, countText(n) }
  constructor(host, sets, options) {
    Object.assign(this, { host, sets, options, child: "selected" });
    this.tabs = toolbar(element("div", { class: "sets", role: "group", "aria-label": "Named selections" }));
    this.modes = toolbar(element("div", { class: "modes", role: "group", "aria-label": "What the next gesture does" }, ...MODES.map(([mode, text, title]) =>
      element("button", { type: "button", title, "data-mode": mode, onclick: () => this.setMode(mode) }, text))));
    this.query = element("textarea", { class: "query", rows: "3", spellcheck: "false", dir: "ltr", "aria-label": "Query of this selection", placeholder: 'Draw, click, or type a query such as  pc1 > 0 and kmeans in [0, 2]' });
    this.query.addEventListener("change", () => {
      sets.gesture = null;
      sets.write(this.query.value);
    });
    this.query.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      this.query.dispatchEvent(new Event("change"));
    });
    this.count = element("p", { class: "count-line", "aria-live": "polite" });
    this.reason = element("p", { class: "refusal", role: "status" });
    this.name = element("input", { type: "text", value: this.child, size: "12", "aria-label": "Name of the new round", oninput: () => {
      this.child = this.name.value.trim();
      this.show();
    } });
    const button = (text, work, title) => element("button", { type: "button", title, onclick: (event) => work(event.currentTarget) }, text);
    this.outputs = [
      button("Copy round", (made) => copy(this.yaml, made), "A round for config.yaml"), button("Copy query", (made) => copy(sets.active.query, made), "The query alone, for tomohet select"),
      ...(options.noun === "particle" ? [button("Indices .pkl", () => this.saveIndices(), "Particle indices, for rounds: indices and tomohet select --indices")] : []),
      button("Table .tsv", () => this.saveTable(), "The table's columns of these particles"),
    ];
    this.tools = [button("Invert", () => sets.invert()), button("Clear", () => sets.clear())];
    host.append(this.tabs, this.modes, this.query, this.reason, this.count, toolbar(element("div", { class: "controls", role: "group", "aria-label": "This selection" }, ...this.tools)),
      element("label", { class: "picker" }, element("span", {}, "New round"), this.name), toolbar(element("div", { class: "controls", role: "group", "aria-label": "Copy and save" }, ...this.outputs)));
    sets.onChange(() => this.show());
    this.show();
  }

  setMode(mode) {
    this.sets.mode = mode;
    this.sets.gesture = null;
    this.show();
  }

  get yaml() { return asRound(this.child, this.options.round, this.sets.active.query); }

  // Why nothing can be copied; empty when `tomohet select` would take it.
  get refusal() {
    const { sets, options, child } = this, { query, count } = sets.active;
    if (sets.error) return `This query is not understood: ${sets.error}.`;
    if (!query) return "";
    if (!count) return `This query selects no ${options.noun}${sets.table.n < sets.table.total ? " of those drawn" : ""}: tomohet select would refuse it.`;
    if (!ROUND_NAME.test(child)) return "A round's name begins with a letter or digit and holds letters, digits, points, hyphens and underscores.";
    if (options.reserved.includes(child)) return `${child} is a folder or file of the dataset: choose another name for the round.`;
    if (options.known.includes(child)) return `There is a round ${child} already: choose another name.`;
    return "";
  }

  show() {
    const { sets, options, refusal } = this, { active, table } = sets;
    this.tabs.replaceChildren(...sets.sets.map((set) => element("span", { class: "set", style: `--c:${css(category(set.number))}` },
      element("button", { type: "button", class: "chip", "aria-pressed": String(set === active), "aria-label": `Selection ${set.name}: ${options.countText(set.count)}`, onclick: () => sets.choose(set) },
        set.name, element("small", {}, set.query ? options.countText(set.count) : "empty")),
      sets.sets.length > 1 && element("button", { type: "button", class: "quiet-button", "aria-label": `Remove selection ${set.name}`, onclick: () => sets.remove(set) }, "×"))),
    element("button", { type: "button", title: "Another selection beside these", onclick: () => sets.add() }, "+ selection"));
    for (const button of this.modes.children) button.setAttribute("aria-pressed", String(button.dataset.mode === sets.mode));
    if (!sets.error) this.query.value = active.query;
    this.query.setAttribute("aria-invalid", String(Boolean(sets.error)));
    const share = ((100 * active.count) / table.n).toFixed(1), coarse = table.payload.precision > 0;
    this.count.replaceChildren(...(active.query ? [
      element("b", {}, `${options.countText(active.count * table.weight)} ${options.noun}s`), ` in ${active.name} (${share} %)`,
      ...(table.weight > 1 ? [element("small", {}, ` of ${table.total.toLocaleString("en")}: 1 in ${Math.round(table.weight)} is drawn, counts are estimates; the query holds for all`)] : []),
      ...(coarse ? [element("small", {}, " · this page rounds large columns: at the very border, tomohet select may decide otherwise")] : []),
    ] : [element("span", { class: "hint" }, `Draw around ${options.noun}s, drag over the histogram, click groups, or type a query.`)]));
    this.reason.textContent = refusal;
    this.reason.hidden = !refusal;
    for (const button of [...this.outputs, ...this.tools.slice(0, 1)]) {
      button.disabled = !active.query || (this.outputs.includes(button) && Boolean(refusal));
    }
    // Indices of a sample would leave out particles that the query holds.
    const indices = this.outputs.find((button) => button.textContent.startsWith("Indices"));
    if (indices && table.weight > 1) {
      indices.disabled = true;
      indices.title = "Only a part of the particles is in this page: use the query";
    }
  }

  fileName(ending) { return `${this.options.round}_${this.child || this.sets.active.name}.${ending}`; }

  async saveIndices() {
    const ordinal = await this.sets.table.ordinals();
    save(pickled(Array.from(this.sets.rows(), (row) => ordinal[row])), this.fileName("pkl"));
  }

  async saveTable() {
    const { table } = this.sets, names = this.options.names();
    await table.load(names);
    save(tabular(table, names, this.options.noun, await table.ordinals(), this.sets.rows()), this.fileName("tsv"), "text/tab-separated-values");
  }
}
