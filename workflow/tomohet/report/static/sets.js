// Named selections A, B, C, ...: each is a query; one of them takes what is drawn, chosen and typed.
import { parse } from "./query.js";
import { columnText, literal, opposite, outerWords } from "./tokens.js";

// In brackets, unless the text holds no other words than `allowed` outside of brackets.
const wrapped = (text, ...allowed) => (outerWords(text).every((word) => allowed.includes(word)) ? text : `(${text})`);

const JOIN = {
  new: (_, term) => term,
  add: (base, term) => (base ? `${wrapped(base, "or")} or ${wrapped(term)}` : term),
  take: (base, term) => (base ? `${wrapped(base, "and", "not")} and ${opposite(term)}` : opposite(term)),
  meet: (base, term) => (base ? `${wrapped(base, "and", "not")} and ${wrapped(term, "and", "not")}` : term),
};

// The query of a selection after `term` was added to it, taken away or demanded too, or instead of it.
export const joined = (base, term, mode) => JOIN[mode](base, term);

export const membership = (name, values) =>
  values.length > 1 ? `${columnText(name)} in [${values.map(literal).join(", ")}]` : `${columnText(name)} == ${literal(values[0])}`;

export const between = (name, [low, high]) => `${low} <= ${columnText(name)} <= ${high}`;

export const withinOutline = (x, y, corners) =>
  `in_polygon(${literal(x)}, ${literal(y)}, [${corners.map((p) => `[${p.join(", ")}]`).join(", ")}])`;

export class Sets {
  constructor(table) {
    Object.assign(this, { table, mode: "new", listeners: [], sets: [], active: null, error: "", settled: Promise.resolve() });
    this.create();
  }

  create() {
    const used = new Set(this.sets.map((set) => set.name));
    let number = 0;
    while (used.has(letter(number))) number++;
    this.active = { name: letter(number), number, query: "", mask: new Uint8Array(this.table.n), count: 0 };
    this.sets.push(this.active);
    this.gesture = null;
    this.sets.sort((a, b) => a.number - b.number);
    return this.active;
  }

  onChange(listener) { this.listeners.push(listener); }
  changed() { this.listeners.forEach((listener) => listener()); }

  choose(set) {
    this.active = set;
    this.gesture = null;
    this.changed();
  }

  add() {
    this.create();
    this.changed();
  }

  remove(set) {
    this.sets.splice(this.sets.indexOf(set), 1);
    if (!this.sets.length) this.create();
    else if (set === this.active) this.active = this.sets[this.sets.length - 1];
    this.gesture = null;
    this.changed();
  }

  clear() {
    this.gesture = null;
    return this.write("");
  }

  invert() {
    this.gesture = null;
    return this.write(this.active.query && opposite(this.active.query));
  }

  // Join a term to the active selection, as the mode says. Terms of one gesture (equal keys) replace each other.
  term(key, term) {
    if (this.gesture?.key !== key) this.gesture = { key, base: this.active.query, mask: this.active.mask };
    const { base, mask } = this.gesture, mode = this.mode;
    if (!term) return this.write(mode === "new" ? "" : base);
    // What was selected before need not be evaluated again.
    const whole = (found) => (base || mode === "take" ? combined(base ? mask : null, found, mode) : found);
    return this.write(joined(base, term, mode), this.active, term, whole);
  }

  // Choose or leave out one category, together with those chosen just before.
  async toggle(name, value) {
    const key = `categories of ${name}`, chosen = this.gesture?.key === key ? this.gesture.chosen : [];
    const now = chosen.includes(value) ? chosen.filter((v) => v !== value) : [...chosen, value];
    const order = this.table.columns.get(name).categories;
    now.sort((a, b) => order.indexOf(a) - order.indexOf(b));
    const written = this.term(key, now.length ? membership(name, now) : "");
    this.gesture.chosen = now;
    await written;
  }

  // Give a selection a query; what is wrong with it stands in `error`. A part of the query may be evaluated
  // in its place, and `whole` makes the query's mask of the part's.
  write(query, set = this.active, part = query, whole = (found) => found) {
    this.settled = this.evaluate(query, set, part, whole);
    return this.settled;
  }

  async evaluate(query, set, part, whole) {
    try {
      const parsed = part.trim() ? parse(part) : null;
      if (parsed) await this.table.load(parsed.columns);
      set.mask = parsed ? whole(parsed.mask(this.table)) : new Uint8Array(this.table.n);
      set.query = query.trim();
      set.count = 0;
      for (let i = 0; i < set.mask.length; i++) set.count += set.mask[i];
      this.error = "";
    } catch (error) {
      this.error = error.message;
    }
    this.changed();
  }

  get chosen() { return this.sets.filter((set) => set.query); }

  rows(set = this.active) {
    const found = new Uint32Array(set.count);
    for (let i = 0, k = 0; i < set.mask.length; i++) if (set.mask[i]) found[k++] = i;
    return found;
  }
}

// The mask of a selection `base` (null: none) after that of a term was joined to it, as the mode says.
function combined(base, term, mode) {
  const mask = new Uint8Array(term.length);
  for (let i = 0; i < mask.length; i++) {
    if (mode === "add") mask[i] = base[i] | term[i];
    else if (mode === "meet") mask[i] = base[i] & term[i];
    else if (mode === "take") mask[i] = (base ? base[i] : 1) & (1 - term[i]);
    else mask[i] = term[i];
  }
  return mask;
}

const letter = (number) => (number < 26 ? String.fromCharCode(65 + number) : `S${number + 1}`);
