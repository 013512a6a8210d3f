// The state of a view in the page's address, so that a link is a view: #round-NAME?x=...&y=...&A=query.

// Text after # as { anchor, state }; state: a Map.
export function read(hash) {
  const [anchor, rest = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  return { anchor: decode(anchor), state: new Map(new URLSearchParams(rest)) };
}

// The opposite of `read`; entries without a value are left out.
export function written(anchor, state) {
  const kept = new URLSearchParams(Object.entries(state).filter(([, value]) => value != null && value !== ""));
  const text = kept.toString();
  return `#${encodeURIComponent(anchor)}${text ? `?${text}` : ""}`;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
