// On paper: everything that the page says, of all rounds and under all tabs, in light colours.
//
// A browser prints as soon as "beforeprint" has been heard. What is not drawn yet is therefore made without waiting:
// arrays and surfaces at once (`decodeAtOnce`, `surfacesAtOnce`), so that promises alone are left, which settle before
// the browser goes on. Pictures of the stages are files beside the page; browsers load lazy ones before they print.
import { decodeAtOnce } from "./blobs.js";
import { drawFrames } from "./dom.js";
import { surfacesAtOnce } from "./surfaces.js";

const root = document.documentElement;
let before = null;

// Lay the page out as on paper, and remember how it was.
function lay() {
  const folds = [...document.querySelectorAll("details:not([open])")], hidden = [...document.querySelectorAll("section[data-round][hidden], .part[hidden]")];
  before = { folds, hidden, scheme: root.dataset.scheme, place: scrollY };
  folds.forEach((fold) => (fold.open = true));
  hidden.forEach((part) => (part.hidden = false));
  root.dataset.scheme = "light";
  root.classList.add("paper");
}

function restore() {
  if (!before) return;
  root.classList.remove("paper");
  if (before.scheme) root.dataset.scheme = before.scheme;
  else delete root.dataset.scheme;
  before.folds.forEach((fold) => (fold.open = false));
  before.hidden.forEach((part) => (part.hidden = true));
  document.dispatchEvent(new Event("schemechange"));
  scrollTo({ top: before.place, behavior: "instant" });
  before = null;
}

// Draw at the paper's width what was drawn at the screen's.
function redraw() {
  document.dispatchEvent(new Event("schemechange"));
  document.dispatchEvent(new Event("tomohet:paper"));
  drawFrames();
}

// The stages' pictures; a page that was sent without its folder has none.
function pictures() {
  return Promise.all([...document.querySelectorAll(".pictures img")].map((image) => {
    image.loading = "eager";
    return image.decode().catch(() => image.closest("figure").remove());
  }));
}

// Open the browser's dialogue when everything is there.
async function print(openAll, drawAll) {
  openAll();
  lay();
  await Promise.allSettled([drawAll(), pictures()]);
  redraw();
  window.print();
}

// Answer the page's button, the keys and the browser's menu. openAll: makes the tabs of all rounds; drawAll: draws all
// figures of all rounds.
export function printing(openAll, drawAll) {
  const button = document.getElementById("print");
  button?.addEventListener("click", () => print(openAll, drawAll));
  window.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "p" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
    event.preventDefault();
    print(openAll, drawAll);
  });
  window.addEventListener("beforeprint", () => {
    if (before) return;
    openAll();
    lay();
    decodeAtOnce(true);
    surfacesAtOnce(true);
    drawAll().finally(redraw);
  });
  window.addEventListener("afterprint", () => {
    decodeAtOnce(false);
    surfacesAtOnce(false);
    restore();
  });
}
