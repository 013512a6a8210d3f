// Start: one round is shown; figures are drawn when they come near the screen; colour scheme; contents.
import { read } from "./address.js";
import { json } from "./blobs.js";
import { cell } from "./cell.js";
import { chart } from "./chart.js";
import { compare } from "./compare.js";
import { copy, element } from "./dom.js";
import { explorer } from "./explorer.js";
import { heatmap } from "./heatmap.js";
import { printing } from "./print.js";
import { followViews, goTo, showRound, tabbed } from "./rounds.js";
import { turning } from "./turning.js";
import { viewer } from "./viewer.js";

const DRAW = { cell, chart, compare, explorer, heatmap, turning, volumes: viewer };

async function draw(host) {
  if (host.dataset.drawn) return;
  host.dataset.drawn = "yes";
  try {
    await DRAW[host.dataset.figure](host, json(host.dataset.from));
  } catch (error) {
    host.prepend(element("p", { class: "failed" }, `This figure could not be drawn: ${error.message}`));
    throw error;
  }
}

const figures = [...document.querySelectorAll("[data-figure]")];
const visible = (host) => !host.closest("[hidden]");
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watch.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "600px" });
figures.forEach((host) => watch.observe(host));

// All figures that are not in a hidden round or under another tab.
export const drawAll = () => Promise.all(figures.filter(visible).map(draw));

// Figures of the round in view follow while nothing else happens. Other rounds cost nothing.
const idle = window.requestIdleCallback || ((work) => setTimeout(work, 50));
function drawNext() {
  const next = figures.find((host) => !host.dataset.drawn && visible(host));
  if (next) draw(next).finally(() => idle(drawNext));
}

// Open the tabs of a round when it is first shown.
function openRound(section) {
  for (const parts of section?.querySelectorAll(".parts:not([data-open])") || []) {
    parts.dataset.open = "yes";
    tabbed(parts, () => idle(drawNext));
  }
  idle(drawNext);
}

followViews();
openRound(showRound(read(location.hash).anchor));
if (location.hash) goTo(location.hash, openRound);
document.getElementById("round-choice")?.addEventListener("change", ({ target }) => {
  history.pushState(null, "", `#${target.value}`);
  goTo(location.hash, openRound);
});
window.addEventListener("hashchange", () => goTo(location.hash, openRound));
window.addEventListener("popstate", () => goTo(location.hash, openRound));
document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  if (link && link.hash === location.hash) goTo(link.hash, openRound);
});
printing(() => document.querySelectorAll("section[data-round]").forEach(openRound), () => Promise.all(figures.map(draw)));

const STORED = "tomohet-scheme", root = document.documentElement;
const scheme = document.getElementById("scheme"), dark = matchMedia("(prefers-color-scheme: dark)");
const schemeChanged = () => document.dispatchEvent(new Event("schemechange"));
scheme.addEventListener("click", () => {
  const now = root.dataset.scheme || (dark.matches ? "dark" : "light");
  root.dataset.scheme = now === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(STORED, root.dataset.scheme);
  } catch { /* pages opened from disk may not store anything */ }
  schemeChanged();
});
dark.addEventListener("change", schemeChanged);

const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const follow = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((a) => a.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
links.forEach((_, id) => {
  const target = document.getElementById(id);
  if (target) follow.observe(target);
});
for (const button of document.querySelectorAll("button[data-copy-text]")) {
  button.addEventListener("click", () => copy(button.dataset.copyText, button));
}
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", () => copy(document.getElementById(button.dataset.copy).textContent, button));
}
