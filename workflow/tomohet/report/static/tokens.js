// The words and signs of a query, and queries as text.
export class QueryError extends Error {}

const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`([^`]+)`|([A-Za-z_]\w*)|(<=|>=|==|!=|\*\*|[-+*/%<>()[\],&|~]))/y;

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

export function tokens(text) {
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
