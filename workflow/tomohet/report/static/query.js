// Queries as `tomohet select` reads them, evaluated on the page's columns.
import { inside } from "./polygon.js";
import { columnText, QueryError, tokens } from "./tokens.js";

const COMPARISONS = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
  "==": (a, b) => a === b, "!=": (a, b) => a !== b,
};
const ARITHMETIC = {
  "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b,
  "%": (a, b) => a - Math.floor(a / b) * b,
};
const WORDS = { True: 1, False: 0 };

// Recursive descent over: or, and, not, comparison, sum, product, sign, atom. Gives a tree of arrays.
class Parser {
  constructor(text) {
    this.tokens = tokens(text);
    this.at = 0;
    this.columns = new Set();
  }

  get next() { return this.tokens[this.at]; }
  is(...signs) { return this.next?.kind === "sign" && signs.includes(this.next.value); }
  take(...signs) { return this.is(...signs) ? this.tokens[this.at++].value : null; }

  expect(sign) {
    if (!this.take(sign)) throw new QueryError(`"${sign}" is expected ${this.next ? `before "${this.next.value}"` : "at the end"}`);
  }

  joined(sign, part) {
    let left = part();
    while (this.take(sign)) left = [sign, left, part()];
    return left;
  }

  or() { return this.joined("or", () => this.and()); }
  and() { return this.joined("and", () => this.not()); }
  not() { return this.take("not") ? ["not", this.not()] : this.comparison(); }

  comparison() {
    let left = this.sum(), found = null;
    for (;;) {
      const negated = this.is("not") && this.tokens[this.at + 1]?.value === "in" && this.take("not");
      const sign = this.take(...Object.keys(COMPARISONS), "in");
      if (!sign) return found ?? left;
      const right = this.sum(), one = sign === "in" ? ["in", left, right] : ["compare", sign, left, right];
      const test = negated ? ["not", one] : one;
      found = found ? ["and", found, test] : test;
      left = right;
    }
  }

  sum() {
    let left = this.product();
    for (let sign; (sign = this.take("+", "-")); ) left = ["arithmetic", sign, left, this.product()];
    return left;
  }

  product() {
    let left = this.signed();
    for (let sign; (sign = this.take("*", "/", "%")); ) left = ["arithmetic", sign, left, this.signed()];
    return left;
  }

  signed() {
    const sign = this.take("-", "+");
    if (sign) return sign === "-" ? ["arithmetic", "-", ["value", 0], this.signed()] : this.signed();
    const base = this.atom();
    return this.take("**") ? ["power", base, this.signed()] : base;
  }

  list(item) {
    const close = this.take("[") ? "]" : (this.expect("("), ")"), items = [];
    while (!this.take(close)) {
      items.push(item());
      if (!this.is(close)) this.expect(",");
    }
    return items;
  }

  atom() {
    if (!this.next) throw new QueryError("the query ends too early");
    if (this.is("[")) return ["list", this.list(() => this.constant())];
    if (this.take("(")) {
      const within = this.or();
      if (this.is(",")) return this.tuple(within);
      this.expect(")");
      return within;
    }
    if (this.take("in_polygon")) return this.polygon();
    const { kind, value } = this.tokens[this.at++];
    if (kind === "column") {
      this.columns.add(value);
      return ["column", value];
    }
    if (kind !== "sign") return ["value", value];
    if (value in WORDS) return ["value", WORDS[value]];
    throw new QueryError(`"${value}" does not stand at the right place`);
  }

  // The rest of a list in round brackets, after its first value.
  tuple(first) {
    const [kind, sign, left, right] = first, negative = kind === "arithmetic" && sign === "-" && left[1] === 0 && right[0] === "value";
    if (kind !== "value" && !negative) throw new QueryError("a list holds numbers or texts only");
    const items = [negative ? -right[1] : first[1]];
    while (this.take(",") && !this.is(")")) items.push(this.constant());
    this.expect(")");
    return ["list", items];
  }

  constant() {
    const minus = this.take("-") ? -1 : 1, atom = this.atom();
    if (atom[0] !== "value") throw new QueryError("a list holds numbers or texts only");
    return typeof atom[1] === "number" ? minus * atom[1] : atom[1];
  }

  polygon() {
    this.expect("(");
    const [x, y] = [0, 1].map(() => {
      const name = this.constant();
      this.expect(",");
      this.columns.add(name);
      return name;
    });
    const corners = this.list(() => this.list(() => this.constant()));
    this.expect(")");
    if (corners.length < 3 || corners.some((p) => p.length !== 2 || !p.every(Number.isFinite))) {
      throw new QueryError("in_polygon takes at least three corners [x, y]");
    }
    return ["polygon", x, y, corners];
  }
}

// A parsed query: the columns that it reads, and `mask(table)`, once these are loaded.
export function parse(text) {
  const parser = new Parser(text), tree = parser.or();
  if (parser.next) throw new QueryError(`"${parser.next.value}" does not stand at the right place`);
  if (!CONDITIONS.has(tree[0])) throw new QueryError("this is no condition; compare columns, as in kmeans in [0, 2]");
  return { columns: parser.columns, mask: (table) => condition(tree, table) };
}

const CONDITIONS = new Set(["and", "or", "not", "compare", "in", "polygon", "column"]);

function known(table, name) {
  const column = table.columns.get(name);
  if (!column) throw new QueryError(`no column "${name}" in this page; there are ${table.names.join(", ")}`);
  return column;
}

// A value or an array of one value per row; categories as what they name.
function operand(tree, table) {
  const [kind, a, b, c] = tree;
  if (kind === "value") return a;
  if (kind === "column") {
    const { kind: type, values, categories } = known(table, a);
    if (type === "number") return values;
    const named = categories.map((v) => (typeof v === "boolean" ? Number(v) : v));
    return Array.from(values, (code) => (code < 0 ? undefined : named[code]));
  }
  if (kind === "arithmetic" || kind === "power") {
    const [f, left, right] = kind === "power" ? [(p, q) => p ** q, a, b] : [ARITHMETIC[a], b, c];
    const [p, q] = [operand(left, table), operand(right, table)];
    if (typeof p === "string" || typeof q === "string") throw new QueryError("texts can only be compared");
    if (typeof p === "number" && typeof q === "number") return f(p, q);
    return Float64Array.from({ length: table.n }, (_, i) => f(typeof p === "number" ? p : p[i], typeof q === "number" ? q : q[i]));
  }
  throw new QueryError("a condition cannot be compared");
}

const MIRRORED = { "<": ">", "<=": ">=", ">": "<", ">=": "<=" };

// A column of numbers against one number, without a call per row. Missing values fulfil only `!=`.
function compared(values, sign, bound, mask) {
  const n = mask.length;
  if (sign === "<") for (let i = 0; i < n; i++) mask[i] = values[i] < bound ? 1 : 0;
  else if (sign === "<=") for (let i = 0; i < n; i++) mask[i] = values[i] <= bound ? 1 : 0;
  else if (sign === ">") for (let i = 0; i < n; i++) mask[i] = values[i] > bound ? 1 : 0;
  else if (sign === ">=") for (let i = 0; i < n; i++) mask[i] = values[i] >= bound ? 1 : 0;
  else if (sign === "==") for (let i = 0; i < n; i++) mask[i] = values[i] === bound ? 1 : 0;
  else for (let i = 0; i < n; i++) mask[i] = values[i] !== bound ? 1 : 0;
}

const each = (value) => (value !== null && typeof value === "object" ? (i) => value[i] : () => value);

function condition(tree, table) {
  const [kind, a, b, c] = tree, mask = new Uint8Array(table.n);
  if (kind === "and" || kind === "or") {
    const [p, q] = [condition(a, table), condition(b, table)];
    for (let i = 0; i < mask.length; i++) mask[i] = kind === "and" ? p[i] & q[i] : p[i] | q[i];
  } else if (kind === "not") {
    const p = condition(a, table);
    for (let i = 0; i < mask.length; i++) mask[i] = 1 - p[i];
  } else if (kind === "polygon") {
    const [x, y] = [a, b].map((name) => known(table, name));
    for (const { kind: type, name } of [x, y]) {
      if (type !== "number") throw new QueryError(`in_polygon takes columns of numbers; ${name} names groups`);
    }
    return inside(c, x.values, y.values);
  } else if (kind === "in") {
    if (b[0] !== "list") throw new QueryError("after in, a list is expected: kmeans in [0, 2]");
    const value = each(operand(a, table)), members = new Set(b[1]);
    for (let i = 0; i < mask.length; i++) mask[i] = members.has(value(i)) ? 1 : 0;
  } else if (kind === "compare") {
    const left = operand(b, table), right = operand(c, table);
    if (ArrayBuffer.isView(left) && typeof right === "number") compared(left, a, right, mask);
    else if (ArrayBuffer.isView(right) && typeof left === "number") compared(right, MIRRORED[a] ?? a, left, mask);
    else {
      const test = COMPARISONS[a], p = each(left), q = each(right);
      for (let i = 0; i < mask.length; i++) mask[i] = test(p(i), q(i)) ? 1 : 0;
    }
  } else if (kind === "column") {
    const column = known(table, a);
    if (!column.categories?.includes(true)) throw new QueryError(`${a} is no condition; compare it, as in ${columnText(a)} > 0.5`);
    for (let i = 0; i < mask.length; i++) mask[i] = column.categories[column.values[i]] === true ? 1 : 0;
  } else throw new QueryError("this is no condition; compare columns, as in kmeans in [0, 2]");
  return mask;
}
