// Queries as `tomohet select` reads them, evaluated on the page's columns.
import { inside } from "./polygon.js";

export class QueryError extends Error {}

const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`([^`]+)`|([A-Za-z_]\w*)|(<=|>=|==|!=|\*\*|[-+*/%<>()[\],&|~]))/y;
const COMPARISONS = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
  "==": (a, b) => a === b, "!=": (a, b) => a !== b,
};
const ARITHMETIC = {
  "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b,
  "%": (a, b) => a - Math.floor(a / b) * b,
};
const WORDS = { True: 1, False: 0 };

export const columnText = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : `\`${name}\``);
export const literal = (value) =>
  typeof value === "string" ? JSON.stringify(value) : value === true ? "True" : value === false ? "False" : String(value);

const unquoted = (text) => {
  if (text[0] === '"') {
    try {
      return JSON.parse(text);
    } catch { /* an escape that only Python knows */ }
  }
  return text.slice(1, -1).replace(/\\(['"\\])/g, "$1");
};

function tokens(text) {
  const found = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; at < text.trimEnd().length; at = TOKEN.lastIndex) {
    const match = TOKEN.exec(text), end = TOKEN.lastIndex;
    if (!match) throw new QueryError(`"${text.slice(at, at + 12).trim()}" is not understood here`);
    const [, number, string, quoted, word, sign] = match;
    if (number != null) found.push({ kind: "number", value: Number(number), end });
    else if (string != null) found.push({ kind: "string", value: unquoted(string), end });
    else if (quoted != null || (word != null && !/^(and|or|not|in|True|False|in_polygon)$/.test(word))) {
      found.push({ kind: "column", value: quoted ?? word, end });
    } else found.push({ kind: "sign", value: { "&": "and", "|": "or", "~": "not" }[sign] ?? sign ?? word, end });
  }
  return found;
}

// Each token with its depth in brackets.
function withDepth(text) {
  let depth = 0;
  return tokens(text).map((token) => {
    const opens = token.kind === "sign" && (token.value === "(" || token.value === "[");
    const closes = token.kind === "sign" && (token.value === ")" || token.value === "]");
    depth += Number(opens);
    const found = { ...token, depth };
    depth -= Number(closes);
    return found;
  });
}

// The words and, or, not that stand outside of all brackets; `not in` is a comparison.
export const outerWords = (text) => withDepth(text)
  .filter((token, i, all) => token.depth === 0 && token.kind === "sign" && ["and", "or", "not"].includes(token.value) && all[i + 1]?.value !== "in")
  .map((token) => token.value);

// The query that holds where `text` does not, without a double negation.
export function opposite(text) {
  const found = withDepth(text), [first, second] = found, last = found[found.length - 1];
  const single = found.slice(1, -1).every((token) => token.depth > 0);
  if (first.value === "not" && second.value === "(" && last.value === ")" && single) {
    return text.trim().slice(text.trim().indexOf("(") + 1, -1).trim();
  }
  return `not (${text})`;
}

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
    const test = COMPARISONS[a], p = each(operand(b, table)), q = each(operand(c, table));
    for (let i = 0; i < mask.length; i++) mask[i] = test(p(i), q(i)) ? 1 : 0;
  } else if (kind === "column") {
    const column = known(table, a);
    if (!column.categories?.includes(true)) throw new QueryError(`${a} is no condition; compare it, as in ${columnText(a)} > 0.5`);
    for (let i = 0; i < mask.length; i++) mask[i] = column.categories[column.values[i]] === true ? 1 : 0;
  } else throw new QueryError("this is no condition; compare columns, as in kmeans in [0, 2]");
  return mask;
}
