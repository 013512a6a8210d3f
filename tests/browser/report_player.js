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
const chosen = (explorer) => [...explorer.table.ordinal].filter((_, i) => explorer.selection.mask[i]);
const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;

const PLAYS = {
  layout: () => ({
    figures: document.querySelectorAll("[data-figure]").length,
    drawn: document.querySelectorAll("[data-drawn]").length,
    failed: document.querySelectorAll(".failed").length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    lines: document.querySelectorAll(".chart svg path.line").length,
  }),

  // A hook around three of four clusters: not convex, so its query has several parts.
  lasso() {
    const explorer = explorerOf("all"), scatter = explorer.scatters[0];
    const corners = [[-2, -2.2], [8, -2.2], [8, 9], [4.5, 9], [4.5, 3], [-2, 3]];
    const points = corners.flatMap(([x, y], i) => {
      const [u, v] = corners[(i + 1) % corners.length];
      const along = (k) => [scatter.px(x + ((u - x) * k) / 12), scatter.py(y + ((v - y) * k) / 12)];
      return Array.from({ length: 12 }, (_, k) => along(k));
    });
    stroke(scatter.canvas, points);
    const { selection } = explorer;
    return {
      query: selection.query, count: selection.count, chosen: chosen(explorer), parts: selection.lasso.parts.length,
      yaml: explorer.chosen.querySelector("pre").textContent, pickle: [...selection.indicesPickle()],
    };
  },

  // Two clusters, a range and a rectangle together.
  combined() {
    const explorer = explorerOf("all"), scatter = explorer.scatters[1], { histogram } = explorer;
    for (const cluster of [1, 3]) explorer.legend.querySelectorAll("button")[cluster].click();
    histogram.show("maven_A");
    stroke(histogram.canvas, [0.95, 1.0, 1.2].map((v) => [histogram.px(v), 30]));
    const [left, right] = [scatter.left + scatter.w * 0.6, scatter.left + scatter.w];
    stroke(scatter.canvas, [[left, 5], [right, 5], [right, scatter.h], [left, scatter.h]]);
    const found = { query: explorer.selection.query, chosen: chosen(explorer) };
    explorer.selection.clear();
    return { ...found, cleared: explorer.selection.count };
  },

  text() {
    const explorer = explorerOf("all");
    explorer.selection.toggleCategory("tomogram", 1);
    return { query: explorer.selection.query, chosen: chosen(explorer) };
  },

  hover() {
    const scatter = explorerOf("all").scatters[0];
    at(scatter.canvas, "pointermove", scatter.px(scatter.x.values[17]), scatter.py(scatter.y.values[17]));
    return { shown: !scatter.tip.hidden, text: scatter.tip.textContent };
  },

  zoom() {
    const scatter = explorerOf("all").scatters[0], span = () => scatter.view.x[1] - scatter.view.x[0];
    const before = [scatter.unx(200), scatter.uny(120)], wide = span();
    scatter.zoom(0.5, 200, 120);
    return { before, after: [scatter.unx(200), scatter.uny(120)], ratio: span() / wide };
  },

  // A ball of radius 7.3 voxels, as bytes: value 128 on its surface.
  ball() {
    const box = 24, centre = 11.5, volume = new Uint8Array(box ** 3);
    volume.forEach((_, i) => {
      const r = Math.hypot(...[i % box, Math.floor(i / box) % box, Math.floor(i / box / box)].map((v) => v - centre));
      volume[i] = Math.max(0, Math.min(255, Math.round(128 + 16 * (7.3 - r))));
    });
    const { positions, normals, indices } = TomoHet.isosurface(volume, box, 128);
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
    viewer.camera.rotation = TomoHet.raster.turned(viewer.camera.rotation, 200, 0);
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
  await TomoHet.drawAll();
  for (const [scene, play] of Object.entries(PLAYS)) {
    explorerOf("all").selection.clear();
    outcomes[scene] = play();
  }
  return outcomes;
}

playAll().catch((error) => (window.failure = error.stack)).then((scenes) => {
  const outcome = TomoHet.element("pre", { id: "outcome" });
  outcome.textContent = JSON.stringify({ scenes, failure: window.failure ?? null });
  document.body.append(outcome);
});
