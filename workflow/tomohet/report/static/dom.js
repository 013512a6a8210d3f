// Elements, numbers as text, copying, saving, and redrawing when the layout changes.

// A new element with attributes, listeners named on..., and children.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

// A number as people write it: four significant digits, no needless zeros.
export function number(value) {
  if (value == null || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

// By how much volumes are smaller in the page than in their files, as a sentence with a space; "" if they are not.
export function reduced({ box, original_box: original, pixel_size_A: pixel }) {
  if (!(original > box)) return "";
  return `Reduced for this page from ${original} to ${box} px: nothing finer than ${number(Number((2 * pixel).toPrecision(3)))} Å is shown. `;
}

// Copy text and say so on the button that was pressed.
export async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages opened from disk may not use the clipboard: select the text for the user instead.
    const area = element("textarea", { class: "offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1400);
}

// Offer data (text, bytes or a Blob) as a file to save.
export function save(data, name, type = "application/octet-stream") {
  const url = URL.createObjectURL(data instanceof Blob ? data : new Blob([data], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Keep following a pressed pointer outside its element. Events made by a script have no pointer to follow.
export const capture = (event) => event.isTrusted && event.target.setPointerCapture(event.pointerId);

// A value of the page's colour scheme, e.g. style("ink").
export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Call `redraw` at most once a frame whenever the element's size or the colour scheme changes.
export function onLayout(host, redraw) {
  const soon = onceAFrame(redraw);
  new ResizeObserver(() => soon()).observe(host);
  document.addEventListener("schemechange", () => soon());
}

// A function that calls `work` once in the next frame, with the last call's arguments, however often it is called.
const frames = new Set();
export function onceAFrame(work) {
  let waiting = null;
  return (...given) => {
    frames.delete(waiting);
    const call = (waiting = () => frames.delete(call) && work(...given));
    frames.add(call);
    requestAnimationFrame(call);
  };
}

// Draw now what waits for the next frame.
export const drawFrames = () => [...frames].forEach((call) => call());

// A drop-down list with a label. options: [value, text] pairs; change: called with the chosen value.
export function picker(label, options, chosen, change, attributes = {}) {
  const select = element("select", { "aria-label": label, ...attributes, onchange: () => change(select.value) },
    ...options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  return element("label", { class: "picker" }, element("span", {}, label), select);
}
