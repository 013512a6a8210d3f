"use strict";
// Plays the user on the view of volumes; what came of each scene is left as JSON in the element #outcome.
window.addEventListener("error", (e) => (window.failure = e.message));
window.addEventListener("unhandledrejection", (e) => (window.failure = String(e.reason)));

const viewOf = (name) => document.querySelector(`[data-from="round-${name}-compare-spec"]`).compare;
const section = document.querySelector('[data-round="all"]');
const send = (name, detail) => section.dispatchEvent(new CustomEvent(name, { detail }));
const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
const covered = (canvas) => pixels(canvas).reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0);
const settled = async (view) => {
  await view.refresh();
  view.draw();
};
const reddish = (canvas) => {
  const p = pixels(canvas);
  return p.reduce((n, v, i) => n + (i % 4 === 0 && p[i + 3] > 0 && v > p[i + 2] + 60), 0);
};

const PLAYS = {
  // The live mean of a selection, voxel by voxel, as the page shows it.
  async selection(view) {
    send("tomohet:selection", { sets: [{ name: "A", colour: "#0072b2", rows: Uint32Array.of(3, 5, 8, 13, 21, 34) }] });
    await settled(view);
    const { grid } = view.data;
    return {
      a: [...grid.cube(view.shown.a.values)], b: [...grid.cube(view.shown.b.values)], edge: grid.edge, corner: grid.corner,
      title: view.columns.a.title.textContent, other: view.columns.b.title.textContent, worker: TomoHet.modules.surfaces.inWorker(),
    };
  },

  async twoSets(view) {
    const sets = [{ name: "A", colour: "#0072b2", rows: Uint32Array.of(1, 2) }, { name: "B", colour: "#e69f00", rows: Uint32Array.of(4, 5, 6) }];
    send("tomohet:selection", { sets });
    await settled(view);
    const chosen = { ...view.chosen };
    send("tomohet:selection", { sets: [] });
    await settled(view);
    return { chosen, after: { ...view.chosen } };
  },

  async particle(view) {
    send("tomohet:particle", { row: 17 });
    await settled(view);
    return { title: view.columns.a.title.textContent, number: view.number.value, wanted: [...view.items.space.coefficientsOf(17)] };
  },

  // Two states that differ by one block: red in A - B, blue when swapped.
  async states(view) {
    const key = (label) => `map ${view.data.maps.findIndex((m) => m.label === label)}`;
    view.chosen = { a: key("State 0"), b: key("State 1") };
    await settled(view);
    const red = reddish(view.columns.d.solid), flat = reddish(view.columns.d.sections.canvases[0]);
    await view.swap();
    await settled(view);
    return { red, flat, swapped: reddish(view.columns.d.solid), key: view.columns.d.key.textContent, places: view.columns.a.sections.labels.map((l) => l.textContent) };
  },

  async level(view) {
    await settled(view);
    const low = covered(view.columns.a.solid);
    view.slider.value = Number(view.slider.max) * 0.7;
    view.slider.dispatchEvent(new Event("input"));
    await settled(view);
    const high = covered(view.columns.a.solid), text = view.slider.nextElementSibling.textContent;
    await view.showBlocks(true);
    view.columns.a.draw();
    return { low, high, text, blocks: view.blocks.length, withBlocks: covered(view.columns.a.solid) };
  },

  async movie(view) {
    view.movie.path.value = "step 1";
    await view.movie.set(-2);
    const first = view.shown.a.values[100], title = view.columns.a.title.textContent;
    view.movie.play();
    await new Promise((next) => setTimeout(next, 400));
    const playing = view.movie.button.textContent;
    view.movie.stop();
    await new Promise((next) => setTimeout(next, 100));
    return { title, playing, moved: view.items.step.at !== -2, first };
  },

  // A cluster of the small volumes in the large view, and its particles selected in the plots.
  async cluster(view) {
    const { explorer } = document.querySelector('[data-from="round-all-explorer-spec"]');
    document.querySelector('[data-from="round-all-structures-spec"]').viewer.panels[2].root.querySelector("button.plain").click();
    await settled(view);
    const shown = view.columns.a.title.textContent;
    view.picked.click();
    await new Promise((next) => setTimeout(next, 100));
    await settled(view);
    const found = { shown, query: explorer.sets.active.query, title: view.columns.a.title.textContent, n: view.columns.a.note.textContent };
    await explorer.sets.clear();
    await new Promise((next) => setTimeout(next, 50));
    return found;
  },

  // In the tomograms: another tomogram, a click on a particle, a selection that fades the others.
  async cell() {
    const { cell } = document.querySelector('[data-from="round-all-cell-spec"]'), told = [];
    section.addEventListener("tomohet:particle", ({ detail }) => told.push(detail.row));
    cell.small[1].button.click();
    const point = cell.points.at(-1), box = cell.big.getBoundingClientRect(), scale = cell.big.width / box.width;
    const at = { clientX: box.left + point.x / scale, clientY: box.top + point.y / scale, bubbles: true };
    cell.big.dispatchEvent(new PointerEvent("pointerdown", at));
    cell.big.dispatchEvent(new PointerEvent("pointerup", at));
    send("tomohet:selection", { sets: [{ name: "A", colour: "#0072b2", rows: Uint32Array.of(0, 9) }] });
    const bright = [...cell.data.rows].filter((row, i) => cell.alpha(i) === 1);
    send("tomohet:selection", { sets: [] });
    return { told, row: cell.data.rows[point.i], tomogram: cell.data.tomogram[point.i], bright, drawn: covered(cell.big), pressed: cell.small.map((s) => s.button.getAttribute("aria-pressed")) };
  },

  // The sections go to where a new pair differs, until the user moves them.
  async place(view) {
    const key = (label) => `map ${view.data.maps.findIndex((m) => m.label === label)}`, { grid } = view.data;
    view.resetCamera();
    await settled(view);
    view.chosen = { a: key("State 0"), b: key("State 1") };
    await settled(view);
    return { point: view.point.map((v, axis) => v + grid.corner[axis]), box: grid.box };
  },

  section(view) {
    const canvas = view.columns.a.sections.canvases[0], before = [...view.point];
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "PageUp", bubbles: true }));
    return { before, after: [...view.point] };
  },
};

async function playAll() {
  const outcomes = {};
  await TomoHet.modules.page.drawAll();
  for (const part of document.querySelectorAll("#round-all .part")) part.hidden = false;
  await TomoHet.modules.page.drawAll();
  for (const [scene, play] of Object.entries(PLAYS)) outcomes[scene] = await play(viewOf("all"));
  return outcomes;
}

playAll().catch((error) => (window.failure = error.stack)).then((scenes) => {
  const outcome = TomoHet.modules.dom.element("pre", { id: "outcome" });
  outcome.textContent = JSON.stringify({ scenes, failure: window.failure ?? null });
  document.body.append(outcome);
});
