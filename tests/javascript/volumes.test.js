// Volumes of the report's page: arithmetic of the codec, choices, and surfaces, without a browser.
import assert from "node:assert/strict";
import test from "node:test";
import { difference, Grid, Model, rows } from "../../workflow/tomohet/report/static/codec.js";
import { reduced } from "../../workflow/tomohet/report/static/dom.js";
import { fitted, tellingPoint } from "../../workflow/tomohet/report/static/framing.js";
import { Items } from "../../workflow/tomohet/report/static/items.js";
import { isosurface, surfaceMaker } from "../../workflow/tomohet/report/static/surface.js";

const near = (found, expected, tolerance = 1e-6) => {
  assert.equal(found.length, expected.length);
  [...found].forEach((v, i) => assert.ok(Math.abs(v - expected[i]) <= tolerance, `${i}: ${v}, expected ${expected[i]}`));
};

const ENTRY = { name: "linear", label: "Linear model", n: 4, average: [0.5, -0.25], deviations: [1, 2] };
// Coefficients of four particles for two components.
const model = () => new Model(ENTRY, Float32Array.of(1, 2, 3), Float32Array.of(1, 0, 0, 0, 1, -1), Float32Array.of(0, 0, 1, 1, -1, 0, 0, 0));

test("small integers have a scale for each row", () => {
  near(rows(Uint8Array.of(128, 129, 255, 1), [0.5, 2], 128), [0, 0.5, 254, -254]);
  near(rows(Int16Array.of(-3, 4), [0.1, 10], 0), [-0.3, 40]);
});

test("the volume of a selection is the mean of its particles' volumes", () => {
  const m = model(), chosen = [0, 2, 3];
  const each = chosen.map((row) => m.volume(m.coefficientsOf(row)));
  const mean = [0, 1, 2].map((i) => each.reduce((sum, v) => sum + v[i], 0) / 3);
  near(m.volume(m.meanOf(chosen)), mean);
});

test("selection and others together are all particles", () => {
  const m = model(), mean = m.meanOf([0, 2, 3]);
  near(m.othersOf(mean, 3), m.coefficientsOf(1));
  near(m.othersOf(m.average, 4), m.average); // nothing is left
});

test("voxels go to their place in the cube, and places are in Å from the middle", () => {
  const grid = new Grid({ edge: 2, corner: [3, 4, 5], box: 8, pixel_size_A: 2 }, Uint8Array.of(0, 1, 0, 0, 1, 0, 0, 1));
  near(grid.cube(Float32Array.of(7, 8, 9)), [0, 7, 0, 0, 8, 0, 0, 9]);
  assert.equal(grid.fromMiddle_A(0, 0), -2);
  assert.equal(grid.fromMiddle_A(2, 1), 4);
});

test("a difference is in sigma, and its limit is a round number above nearly all", () => {
  const a = Float32Array.from({ length: 1000 }, (_, i) => i / 1000), b = new Float32Array(1000);
  const { values, limit } = difference(a, b, 0.1);
  assert.ok(Math.abs(values[500] - 5) < 1e-5);
  assert.equal(limit, 10);
  assert.equal(difference(b, b, 0.1).limit, 1);
});

test("a mean of n of N particles has more noise than all, and a difference that of both sides", () => {
  const items = new Items(data());
  near([items.noiseOf("all"), items.noiseOf("group 0"), items.noiseOf("map 0")], [1, Math.sqrt(4 / 3), Math.SQRT2]);
  assert.equal(items.noiseOf("particle"), null);
  assert.equal(items.noiseOf("step"), null);
  near([items.noiseOfDifference("group 0", "map 0")], [Math.sqrt(4 / 3 + 2)]);
  near([items.noiseOfDifference("map 0", "all"), items.noiseOfDifference("all", "map 0")], [1, 1]); // half of them against all
  assert.equal(items.noiseOfDifference("all", "all"), 1);
  assert.equal(items.noiseOfDifference("particle", "all"), null);
  assert.match(items.resolve("group 0", "all").note, /mean of 3 particles, noise\u00a01\.2\u00a0σ/);
});

test("volumes say by how much they are reduced", () => {
  assert.equal(reduced({ box: 64, original_box: 64, pixel_size_A: 3 }), "");
  assert.match(reduced({ box: 86, original_box: 128, pixel_size_A: 4.465 }), /from 128 to 86 px: nothing finer than 8\.93 Å/);
});

const data = () => ({
  models: [model()],
  groups: [
    { column: "state", title: "state", value: 0, n: 3, colour: "#111111", coefficients: [[0.5, -0.25]] },
    { column: "state", title: "state", value: 1, n: 1, colour: "#222222", coefficients: [[1, 3]] },
    { column: "kmeans", title: "k-means cluster", value: 0, n: 4, colour: "#333333", coefficients: [[9, 9]] },
  ],
  maps: [{ label: "Half map 1", kind: "reconstruction", file: "half1.mrc", n: 2, values: Float32Array.of(5, 5, 5) }],
});

test("items: sets, groups, particles, maps, and steps along a component", () => {
  const items = new Items(data());
  items.sets = [{ name: "A", colour: "#0072b2", rows: Uint32Array.of(2, 3) }];
  items.particle = 1;
  near(items.resolve("set 0", "all").values, items.space.volume(items.space.meanOf([2, 3])));
  near(items.resolve("others", "set 0").values, items.space.volume(items.space.meanOf([0, 1])));
  near(items.resolve("particle", "all").values, items.space.volume([0, 0]));
  near(items.resolve("map 0", "all").values, [5, 5, 5]);
  items.step = { component: 1, at: -1.5 };
  near(items.resolve("step", "all").values, items.space.volume([0.5, -0.25 - 3]));
  assert.equal(items.resolve("step", "all").label, "Component 2 at −1.5 SD");
  assert.equal(items.resolve("set 0", "all").note, "Linear model, mean of 2 particles, noise\u00a01.4\u00a0σ");
  assert.equal(items.resolve("group 1", "all").colour, "#222222");
  const keys = items.choices().flatMap(([, entries]) => entries.map(([key]) => key));
  assert.deepEqual([...keys], ["set 0", "all", "others", "particle", "step", "group 0", "group 1", "group 2", "map 0"]);
});

test("the first volume is of the state that adds most to the variance", () => {
  assert.equal(new Items(data()).mostDifferent(), "group 1");
});

test("the surface of a cube of floats is where the level is crossed", () => {
  const edge = 20, c = 9.5;
  const volume = Float32Array.from({ length: edge ** 3 }, (_, i) =>
    0.01 * (6.2 - Math.hypot((i % edge) - c, (Math.floor(i / edge) % edge) - c, Math.floor(i / edge ** 2) - c)));
  const { positions, indices } = isosurface(volume, edge, 0);
  assert.ok(indices.length > 500);
  for (let p = 0; p < positions.length; p += 3) {
    assert.ok(Math.abs(Math.hypot(positions[p] - c, positions[p + 1] - c, positions[p + 2] - c) - 6.2) < 0.05);
  }
});

const peak = Float32Array.from({ length: 216 }, (_, i) => (i === 129 ? 1 : 0));

// A copy of the module of its own, as it remembers its worker.
const fresh = (name) => import(`../../workflow/tomohet/report/static/surfaces.js?${name}`);

test("without a worker the page makes surfaces itself", async () => {
  const { surfaceOf, inWorker } = await fresh("none"), mesh = await surfaceOf(peak, 6, 0.5);
  assert.ok(mesh.indices.length > 0 && !inWorker());
});

test("the page makes the surfaces that a failing worker has not finished", async () => {
  globalThis.Worker = class {
    postMessage() {
      setTimeout(() => this.onerror({ preventDefault() {} }), 1);
    }
  };
  const { surfaceOf, inWorker } = await fresh("failing"), asked = surfaceOf(peak, 6, 0.5);
  assert.ok(inWorker());
  near((await asked).positions, isosurface(peak, 6, 0.5).positions);
  assert.ok(!inWorker());
  delete globalThis.Worker;
});

test("the worker's source is complete in itself", () => {
  const made = new Function(`return (${surfaceMaker})()`)();
  near(made(peak, 6, 0.5).positions, isosurface(peak, 6, 0.5).positions);
});

test("the camera looks at the middle of what is above the level, and the sections hold it", () => {
  const edge = 30, volume = Float32Array.from({ length: edge ** 3 }, (_, i) =>
    Math.hypot((i % edge) - 18, (Math.floor(i / edge) % edge) - 14, Math.floor(i / edge ** 2) - 11) < 4.1 ? 1 : 0);
  const { centre, zoom, side } = fitted(volume, edge, 0.5);
  near(centre, [18, 14, 11], 0.01);
  assert.ok(Math.abs(zoom - (0.42 * edge) / 4) < 0.1);
  assert.ok(side / 2 >= 4 + 3.5 && side <= edge);
  assert.equal(fitted(new Float32Array(27), 3, 0.5).zoom, 1.26); // nothing is above the level
});

test("sections go to the largest difference that is more than one voxel", () => {
  const edge = 12, cube = new Float32Array(edge ** 3), at = (z, y, x) => (z * edge + y) * edge + x;
  cube[at(2, 2, 2)] = 5; // noise in one voxel
  for (const [dz, dy, dx] of [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]) cube[at(7 + dz, 5 + dy, 8 + dx)] = -2;
  assert.deepEqual(tellingPoint(cube, edge), [7, 5, 8]);
});
