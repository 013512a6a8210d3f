// Labelled inputs of the views: a slider that says its value, a choice of texts.
import { element } from "./dom.js";

export function slider(label, attributes, read, change) {
  const input = element("input", { type: "range", "aria-label": label, ...attributes });
  const output = element("output", {}, read(Number(input.value)));
  input.addEventListener("input", () => {
    output.textContent = read(Number(input.value));
    change(Number(input.value));
  });
  return element("label", { class: "picker" }, element("span", {}, label), input, output);
}

// A box to tick.
export function tick(label, change) {
  const box = element("input", { type: "checkbox" });
  box.addEventListener("change", () => change(box.checked));
  return element("label", { class: "picker" }, box, element("span", {}, label));
}

export function choice(label, options, change) {
  const select = element("select", { "aria-label": label }, ...options.map(([value, text]) => element("option", { value }, text)));
  select.addEventListener("change", () => change(select.value));
  return element("label", { class: "picker" }, element("span", {}, label), select);
}
