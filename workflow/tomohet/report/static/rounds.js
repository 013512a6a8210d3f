// One round at a time, chosen by a list, a link or the page's address; its evidence under tabs.
import { read, written } from "./address.js";
import { element } from "./dom.js";

// Show a round and hide the others. Returns its section.
export function showRound(id) {
  const sections = [...document.querySelectorAll("section[data-round]")];
  const section = sections.find((one) => one.id === id) || sections[0];
  for (const one of sections) one.hidden = one !== section;
  const choice = document.getElementById("round-choice");
  if (choice && section) choice.value = section.id;
  document.querySelectorAll("nav .round a").forEach((a) => {
    if (a.hash === `#${section?.id}`) a.dataset.shown = "yes";
    else delete a.dataset.shown;
  });
  return section;
}

// Let the parts of a round's evidence share one place, under tabs. shown(part): called for the part in view.
export function tabbed(host, shown) {
  const parts = [...host.children].filter((child) => child.matches(".part"));
  if (!parts.length) return;
  const show = (part) => {
    parts.forEach((one, i) => {
      one.hidden = one !== part;
      tabs[i].setAttribute("aria-selected", String(one === part));
      tabs[i].tabIndex = one === part ? 0 : -1;
    });
    shown(part);
  };
  const tabs = parts.map((part, i) => {
    part.id ||= `${host.id}-${i}`;
    part.setAttribute("role", "tabpanel");
    part.setAttribute("aria-label", part.dataset.title);
    return element("button", { type: "button", role: "tab", "aria-controls": part.id, onclick: () => show(part) }, part.dataset.title);
  });
  const list = element("div", { role: "tablist", class: "tabs", "aria-label": "Evidence" }, ...tabs);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    tabs[next].focus();
    show(parts[next]);
  });
  host.prepend(list);
  show(parts[0]);
}

// Keep a view in the address from its second change on, so that opening the page changes nothing.
export function followViews() {
  const opened = new WeakSet();
  document.addEventListener("tomohet:view", ({ target, detail }) => {
    if (opened.has(target)) history.replaceState(null, "", written(target.id, detail.state));
    opened.add(target);
  });
}

// Bring what the address names into view and keep it there while figures above it are drawn.
export function goTo(hash, draw) {
  const { anchor } = read(hash);
  let target = document.getElementById(anchor);
  if (!target) return;
  const round = target.closest("section[data-round]");
  if (round) draw(showRound(round.id));
  if (target === round) target = document.getElementById("rounds") || target;
  const align = () => target.scrollIntoView({ behavior: "instant", block: "start" });
  const watch = new ResizeObserver(align), stop = () => watch.disconnect();
  align();
  watch.observe(document.getElementById("content"));
  for (const kind of ["wheel", "pointerdown", "keydown", "touchstart"]) addEventListener(kind, stop, { once: true, passive: true });
  setTimeout(stop, 3000);
}
