// The key to the colours: a scale for a measured column; for categories buttons that choose their particles.
import { category, css, gradient, viridis } from "./colours.js";
import { element, number } from "./dom.js";

const MOST_CHIPS = 16, MOST_LISTED = 200;

// Fill `host` with the scale of a column of numbers.
export function scaleKey(host, low, high) {
  const bar = element("span", { class: "gradient", role: "img", "aria-label": `from ${number(low)} to ${number(high)}`, style: `background:${gradient(viridis)}` });
  host.replaceChildren(number(low), bar, number(high));
}

// Fill `host` with the named selections that colour the plot.
export function setsKey(host, sets) {
  host.replaceChildren(...sets.map(({ name, number: place }) =>
    element("span", { class: "chip", style: `--c:${css(category(place))}` }, element("bdi", {}, name))), element("span", {}, "grey: in no selection"));
}

// Fill `host` with one button per category; many of them in a list that can be searched.
// counts: particles of each category; chosen: values that are chosen; toggle(value).
export function categoryKey(host, column, counts, chosen, toggle, countText) {
  const chip = (value, code) => element("button", {
    type: "button", class: "chip", "aria-pressed": String(chosen.includes(value)), style: `--c:${css(category(code))}`,
    "aria-label": `Select ${column.label} ${value}: ${countText(counts[code])}`, title: `Select ${column.label} ${value}`, onclick: () => toggle(value),
  }, element("bdi", {}, String(value)), element("small", {}, countText(counts[code])));
  const { categories } = column;
  if (categories.length <= MOST_CHIPS) return host.replaceChildren(...categories.map(chip));
  let list = host.querySelector(".finder");
  if (list?.column !== column.name) {
    const search = element("input", { type: "search", placeholder: `Find one of ${categories.length}`, "aria-label": `Find ${column.label}` });
    list = element("div", { class: "finder" }, search, element("div", { class: "found", tabindex: "0", role: "group", "aria-label": column.label }));
    list.column = column.name;
    search.addEventListener("input", () => list.fill());
    host.replaceChildren(list);
  }
  list.fill = () => {
    const wanted = list.querySelector("input").value.toLowerCase();
    const hits = categories.map((value, code) => [value, code]).filter(([value]) => String(value).toLowerCase().includes(wanted));
    // The chosen ones first, then the largest.
    hits.sort((a, b) => chosen.includes(b[0]) - chosen.includes(a[0]) || (wanted ? 0 : counts[b[1]] - counts[a[1]]) || a[1] - b[1]);
    const rest = hits.length - MOST_LISTED;
    list.querySelector(".found").replaceChildren(...hits.slice(0, MOST_LISTED).map((hit) => chip(...hit)), rest > 0 && `and ${rest} more: type a part of the name`);
  };
  list.fill();
}

// Rows of each category, of those whose mask is 1, or of all for null.
export function countsOf({ categories, values }, mask, weight) {
  const sums = new Float64Array(categories.length);
  for (let i = 0; i < values.length; i++) if (values[i] >= 0 && (!mask || mask[i])) sums[values[i]]++;
  return sums.map((n) => n * weight);
}
