"use strict";
// Plays the user on a report's page, scene by scene; what came of each is left as JSON in the element #outcome.
window.addEventListener("error", (e) => (window.failure = e.message));
window.addEventListener("unhandledrejection", (e) => (window.failure = String(e.reason)));

const at = (canvas, type, x, y) => {
  const box = canvas.getBoundingClientRect();
  canvas.dispatchEvent(new PointerEvent(type, { clientX: box.left + x, clientY: box.top + y, bubbles: true }));
};
const stroke = (canvas, points) => {
  at(canvas, "pointerdown", ...points[0]);
  points.slice(1).forEach((p) => at(canvas, "pointermove", ...p));
  at(canvas, "pointerup", ...points[points.length - 1]);
};
const explorerOf = (name) => document.querySelector(`[data-from="round-${name}-explorer-spec"]`).explorer;
const viewerOf = (name) => document.querySelector(`[data-from="round-${name}-spec"]`).viewer;
const chosen = ({ sets, table }) => Array.from(sets.rows(), (row) => table.ordinal[row]);
// Selections are written after their columns are loaded: wait for what was just started.
const settled = () => explorerOf("all").sets.settled;
// A stroke through corners in data units, twelve points along each side.
const around = (scatter, corners) => corners.flatMap(([x, y], i) => {
  const [u, v] = corners[(i + 1) % corners.length];
  return Array.from({ length: 12 }, (_, k) => [scatter.px(x + ((u - x) * k) / 12), scatter.py(y + ((v - y) * k) / 12)]);
});
const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;

const PLAYS = {
  layout: () => ({
    figures: document.querySelectorAll("#round-all [data-figure]").length,
    drawn: document.querySelectorAll("#round-all [data-drawn]").length,
    failed: document.querySelectorAll(".failed").length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    lines: document.querySelectorAll(".chart svg path.line").length,
  }),

  // A hook around three of four clusters.
  async lasso() {
    const explorer = explorerOf("all"), { scatter, sets, panel } = explorer;
    await explorer.set("x", "umap1");
    await explorer.set("y", "umap2");
    stroke(scatter.canvas, around(scatter, [[-2, -2.2], [8, -2.2], [8, 9], [4.5, 9], [4.5, 3], [-2, 3]]));
    await settled();
    return {
      query: sets.active.query, count: sets.active.count, chosen: chosen(explorer), yaml: panel.yaml,
      pickle: [...TomoHet.modules.exports.pickled(chosen(explorer))], refusal: panel.refusal,
    };
  },

  // A stroke whose ends cross, as hands draw it, and a figure of eight.
  async crossing() {
    const explorer = explorerOf("all"), { scatter, sets } = explorer, found = [];
    const hook = [[-2, -2.2], [8, -2.2], [8, 9], [4.5, 9], [4.5, 3], [-2, 3]], eight = [[-2, -2], [8, 9], [8, -2], [-2, 9]];
    for (const corners of [hook, eight]) {
      const points = around(scatter, corners);
      if (corners === hook) points.push(...around(scatter, [[-2, -2.6], [-1.6, -1.8], [-1.5, -1.6]]).slice(0, 20));
      stroke(scatter.canvas, points);
      await settled();
      found.push({ query: sets.active.query, chosen: chosen(explorer), drawn: points.map(([x, y]) => [scatter.unx(x), scatter.uny(y)]) });
    }
    return found;
  },

  // Two clusters, a range and a box together.
  async combined() {
    const explorer = explorerOf("all"), { scatter, histogram, sets, panel } = explorer;
    await explorer.set("colour", "kmeans");
    for (const cluster of [1, 3]) explorer.key.querySelectorAll("button")[cluster].click();
    await settled();
    panel.setMode("meet");
    await explorer.set("histogram", "maven_A");
    await settled();
    stroke(histogram.canvas, [0.95, 1.0, 1.2].map((v) => [histogram.px(v), 30]));
    await settled();
    explorer.setTool("box");
    const [left, right] = [scatter.left + scatter.w * 0.4, scatter.left + scatter.w];
    stroke(scatter.canvas, [[left, 5], [right, 25], [right, scatter.h]]);
    await settled();
    explorer.setTool("lasso");
    return { query: sets.active.query, chosen: chosen(explorer) };
  },

  // The plot as pictures: SVG that is well formed, with one circle for each particle in view; PNG without holes.
  async pictures() {
    const explorer = explorerOf("all"), { asPng, asSvg } = TomoHet.modules.exports, { scatter } = explorer;
    scatter.reset();
    const text = await asSvg(scatter, TomoHet.modules.axes.labelledTicks), svg = new DOMParser().parseFromString(text, "image/svg+xml");
    const png = await createImageBitmap(await asPng(scatter.canvas)), canvas = new OffscreenCanvas(png.width, png.height);
    canvas.getContext("2d").drawImage(png, 0, 0);
    return {
      circles: svg.querySelectorAll("circle").length, error: svg.querySelector("parsererror")?.textContent ?? "", texts: svg.querySelectorAll("text").length,
      holes: pixels(canvas).filter((v, i) => i % 4 === 3 && v < 255).length,
    };
  },

  async named() {
    const explorer = explorerOf("all"), { sets } = explorer, heard = [];
    explorer.round.addEventListener("tomohet:selection", ({ detail }) => heard.push(detail.sets.map((set) => [set.name, set.rows.length])));
    await explorer.set("colour", "kmeans");
    explorer.key.querySelectorAll("button")[0].click();
    await settled();
    sets.add();
    await sets.write("kmeans in [1, 2]");
    explorer.panel.setMode("add");
    await sets.term("typed", "kmeans == 3");
    await sets.invert();
    const queries = sets.sets.map((set) => [set.name, set.query]), counts = sets.sets.map((set) => set.count);
    const address = location.hash, last = heard.length;
    sets.remove(sets.sets[1]);
    heard.length = last;
    return { queries, counts, heard: heard[heard.length - 1], address };
  },

  // What `tomohet select` would refuse cannot be copied.
  async refused() {
    const explorer = explorerOf("all"), { sets, panel } = explorer, found = [];
    for (const query of ["pc1 > 1e6", "pc9 > 1", "pc1 >", "kmeans + 1", "kmeans == 0"]) {
      panel.query.value = query;
      panel.query.dispatchEvent(new Event("change"));
      await settled();
      found.push([query, panel.outputs.every((button) => button.disabled), panel.reason.textContent]);
    }
    for (const name of ["bound", "prepared", "a b", "next"]) {
      panel.name.value = name;
      panel.name.dispatchEvent(new Event("input"));
      found.push([name, panel.outputs.every((button) => button.disabled), panel.reason.textContent]);
    }
    panel.name.value = "selected";
    panel.name.dispatchEvent(new Event("input"));
    await sets.clear();
    return found;
  },

  async text() {
    const explorer = explorerOf("all");
    await explorer.set("colour", "tomogram");
    explorer.key.querySelectorAll("button")[1].click();
    await settled();
    return { query: explorer.sets.active.query, chosen: chosen(explorer) };
  },

  async volumes() {
    const explorer = explorerOf("all");
    explorer.round.dispatchEvent(new CustomEvent("tomohet:volumes", { detail: { rows: Uint32Array.from([1, 2]) } }));
    await settled();
    return { query: explorer.sets.active.query, chosen: chosen(explorer), error: explorer.sets.error };
  },

  hover() {
    const { scatter } = explorerOf("all");
    scatter.pointer = [scatter.px(scatter.xs[17]), scatter.py(scatter.ys[17])];
    scatter.point();
    return { shown: !scatter.tip.hidden, text: scatter.tip.textContent };
  },

  zoom() {
    const { scatter } = explorerOf("all"), span = () => scatter.view.x[1] - scatter.view.x[0];
    const before = [scatter.unx(200), scatter.uny(120)], wide = span();
    scatter.zoom(0.5, 200, 120);
    const found = { before, after: [scatter.unx(200), scatter.uny(120)], ratio: span() / wide };
    scatter.reset();
    return found;
  },

  // The map of a tomogram: only its particles, one ångström equally long along both axes.
  async tomogram() {
    const explorer = explorerOf("all");
    await explorer.set("tomogram", "TS_02");
    const map = explorer.tomogram;
    return { particles: [...map.rows].map((row) => explorer.table.ordinal[row]), x: map.px(100) - map.px(0), y: map.py(0) - map.py(100) };
  },

  // Sorting the table, of which only the rows in view are elements.
  async rows() {
    const explorer = explorerOf("all"), { rows } = explorer;
    await explorer.set("x", "pc1");
    const head = [...rows.head.querySelectorAll("button")].find((b) => b.textContent.startsWith("PC 1"));
    head.click();
    rows.draw();
    const cells = [...rows.body.querySelectorAll(".row")].slice(0, 5).map((row) => row.firstChild.textContent);
    return { cells, elements: rows.body.childElementCount, all: rows.rows.length };
  },

  // Another round is drawn when it is chosen, and hides the one before.
  async round() {
    const hidden = () => [...document.querySelectorAll("section[data-round]")].map((s) => s.hidden);
    const before = hidden(), drawn = document.querySelectorAll("#round-bound [data-drawn]").length;
    const choice = document.getElementById("round-choice");
    choice.value = "round-bound";
    choice.dispatchEvent(new Event("change"));
    await TomoHet.modules.page.drawAll();
    const found = { before, drawn, after: hidden(), later: document.querySelectorAll("#round-bound [data-drawn]").length, hash: location.hash };
    choice.value = "round-all";
    choice.dispatchEvent(new Event("change"));
    return found;
  },

  // A ball of radius 7.3 voxels, as bytes: value 128 on its surface.
  ball() {
    const box = 24, centre = 11.5, volume = new Uint8Array(box ** 3);
    volume.forEach((_, i) => {
      const r = Math.hypot(...[i % box, Math.floor(i / box) % box, Math.floor(i / box / box)].map((v) => v - centre));
      volume[i] = Math.max(0, Math.min(255, Math.round(128 + 16 * (7.3 - r))));
    });
    const { positions, normals, indices } = TomoHet.modules.surface.isosurface(volume, box, 128);
    const vector = (array, i) => [...array.subarray(3 * i, 3 * i + 3)];
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    const radii = [], outward = [], edges = new Map();
    for (let i = 0; i < positions.length / 3; i++) {
      const d = vector(positions, i).map((v) => v - centre);
      radii.push(Math.hypot(...d));
      outward.push(dot(d, vector(normals, i)) / Math.hypot(...d));
    }
    let inside = 0;
    for (let t = 0; t < indices.length; t += 3) {
      const corners = [...indices.subarray(t, t + 3)], [a, b, c] = corners.map((i) => vector(positions, i));
      inside += dot(a, cross(b, c)) / 6;
      corners.forEach((u, k) => edges.set(`${u},${corners[(k + 1) % 3]}`, 1 + (edges.get(`${u},${corners[(k + 1) % 3]}`) || 0)));
    }
    const closed = [...edges].every(([edge, n]) => n === 1 && edges.has(edge.split(",").reverse().join(",")));
    return { low: Math.min(...radii), high: Math.max(...radii), outward: Math.min(...outward), inside, closed };
  },

  viewer() {
    const viewer = viewerOf("all-structures");
    const covered = (canvas) => pixels(canvas).reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0);
    const draw = () => viewer.panels.map(({ solid }, i) => (viewer.drawPanel(i, false), covered(solid)));
    const first = draw();
    viewer.setLevel(220);
    const high = draw();
    viewer.setLevel(viewer.set.level);
    viewer.camera.rotation = TomoHet.modules.raster.turned(viewer.camera.rotation, 200, 0);
    const turned = draw();
    viewer.setTint("difference");
    viewer.drawPanel(0, false);
    const colours = pixels(viewer.panels[0].flat);
    return { first, high, turned, tinted: colours.some((v, i) => i % 4 === 0 && Math.abs(v - colours[i + 2]) > 40) };
  },

  scheme() {
    const paper = () => getComputedStyle(document.body).backgroundColor, light = paper();
    document.getElementById("scheme").click();
    return { light, dark: paper() };
  },
};

async function playAll() {
  const outcomes = {};
  // Everything at once, as it is printed: all tabs of all rounds.
  await TomoHet.modules.page.drawAll();
  for (const part of document.querySelectorAll("#round-all .part")) part.hidden = false;
  await TomoHet.modules.page.drawAll();
  await settled();
  for (const [scene, play] of Object.entries(PLAYS)) {
    explorerOf("all").panel.setMode("new");
    await explorerOf("all").sets.clear();
    outcomes[scene] = await play();
  }
  return outcomes;
}

playAll().catch((error) => (window.failure = error.stack)).then((scenes) => {
  const outcome = TomoHet.modules.dom.element("pre", { id: "outcome" });
  outcome.textContent = JSON.stringify({ scenes, failure: window.failure ?? null });
  document.body.append(outcome);
});
