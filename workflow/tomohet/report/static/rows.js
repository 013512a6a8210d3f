// The table of particles: only the rows in view are in the page; a click on a column's head sorts.
import { element, onceAFrame, onLayout } from "./dom.js";
import { toolbar } from "./toolbar.js";

const ROW = 27, EXTRA = 6, MOST_HEIGHT = 8_000_000, SOON = 20_000;

export class Rows {
  // options: { noun, clicked(row) }
  constructor(host, table, options) {
    Object.assign(this, { host, table, options, names: [], rows: new Uint32Array(0), sort: null, marked: -1 });
    this.head = toolbar(element("div", { class: "rowhead", role: "row" }));
    this.body = element("div", { class: "rowbody", role: "rowgroup" });
    this.scroller = element("div", { class: "rows", role: "table", tabindex: "0", "aria-label": `Table of ${options.noun}s; up and down mark a row` },
      element("div", { role: "rowgroup", class: "rowtop" }, this.head), this.body);
    host.append(this.scroller);
    this.redraw = onceAFrame(() => this.draw());
    this.scroller.addEventListener("scroll", this.redraw);
    this.scroller.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || event.target !== this.scroller || !this.rows.length) return;
      event.preventDefault();
      const at = Math.max(0, Math.min(this.rows.length - 1, this.rows.indexOf(this.marked) + step));
      this.mark(this.rows[at]);
      this.options.clicked(this.rows[at]);
    });
    onLayout(host, () => this.draw());
  }

  // Show loaded columns of the rows whose mask is 1, of all rows for null.
  show(names, ordinal, mask) {
    const n = this.table.n;
    const rows = mask ? Uint32Array.from({ length: mask.reduce((sum, v) => sum + v, 0) }) : Uint32Array.from({ length: n }, (_, i) => i);
    if (mask) for (let i = 0, k = 0; i < n; i++) if (mask[i]) rows[k++] = i;
    Object.assign(this, { names, ordinal, unsorted: rows });
    clearTimeout(this.waiting);
    // Sorting many rows must not hold up a selection that is being dragged.
    if (this.sort && rows.length > SOON) this.waiting = setTimeout(() => this.order(), 150);
    else this.order();
  }

  order() {
    this.rows = this.unsorted;
    if (this.sort && (this.sort.name === "" || this.names.includes(this.sort.name))) {
      const values = this.sort.name === "" ? this.ordinal : this.table.columns.get(this.sort.name).values, up = this.sort.up ? 1 : -1;
      // Missing values come last, whatever the direction.
      const key = (i) => (Number.isNaN(values[i]) ? Infinity : up * values[i]);
      this.rows = Uint32Array.from(this.unsorted).sort((a, b) => key(a) - key(b) || a - b);
    }
    this.drawHead();
    this.redraw();
  }

  isText(name) { return typeof this.table.columns.get(name)?.categories?.[0] === "string"; }

  mark(row) {
    this.marked = row;
    const at = this.rows.indexOf(row);
    if (at >= 0) this.scroller.scrollTop = Math.max(0, (at - 3) * this.step);
    this.redraw();
  }

  // Height of one row in the scroller: less than a row's own where there are very many.
  get step() { return Math.min(ROW, MOST_HEIGHT / Math.max(1, this.rows.length)); }

  drawHead() {
    const columns = [["", this.options.noun], ...this.names.map((name) => [name, this.table.columns.get(name).label])];
    this.scroller.style.setProperty("--columns", columns.length);
    this.scroller.setAttribute("aria-rowcount", this.rows.length + 1);
    this.head.replaceChildren(...columns.map(([name, label]) => {
      const sorted = this.sort?.name === name ? (this.sort.up ? "ascending" : "descending") : "none";
      const sortBy = () => {
        this.sort = { name, up: sorted !== "ascending" };
        this.order();
      };
      return element("div", { role: "columnheader", "aria-sort": sorted, class: this.isText(name) ? "text" : null },
        element("button", { type: "button", title: `Sort by ${label}`, onclick: sortBy }, label, { none: "", ascending: " ▲", descending: " ▼" }[sorted]));
    }));
  }

  draw() {
    const { step, rows } = this, height = this.scroller.clientHeight;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / step) - EXTRA), last = Math.min(rows.length, first + Math.ceil(height / ROW) + 2 * EXTRA);
    this.body.style.height = `${Math.max(1, rows.length) * step + (step < ROW ? height : 0)}px`;
    const made = [];
    for (let k = first; k < last; k++) {
      const row = rows[k], cell = (text, name) => element("div", { role: "cell", class: this.isText(name) ? "text" : null, title: this.isText(name) ? text : null }, text);
      const choose = () => {
        this.marked = row;
        this.options.clicked(row);
        this.redraw();
      };
      made.push(element("div", {
        role: "row", class: row === this.marked ? "row marked" : "row", "aria-rowindex": k + 2, onclick: choose,
        style: `top:${first * step + (k - first) * ROW}px`,
      }, cell(this.ordinal[row].toLocaleString("en")), ...this.names.map((name) => cell(this.table.text(name, row), name))));
    }
    if (!rows.length) made.push(element("p", { class: "hint" }, `No ${this.options.noun} is selected.`));
    this.body.replaceChildren(...made);
  }
}
