// Addresses, exports, points and stored arrays.
import assert from "node:assert/strict";
import { test } from "node:test";
import { constants, deflateSync } from "node:zlib";
import { read, written } from "../../workflow/tomohet/report/static/address.js";
import { labelledTicks } from "../../workflow/tomohet/report/static/axes.js";
import { decode, decodeNow } from "../../workflow/tomohet/report/static/blobs.js";
import { quantiles } from "../../workflow/tomohet/report/static/colouring.js";
import { asRound, tabular } from "../../workflow/tomohet/report/static/exports.js";
import { cells, discs, nearest } from "../../workflow/tomohet/report/static/points.js";
import { inflate } from "../../workflow/tomohet/report/static/inflate.js";
import { tableOf } from "./table.js";

test("a view comes back from its address", () => {
  const state = { x: "pc1", colour: "odd & name", A: 'tomogram == "t#1?" and pc1 > 1e-3', tomogram: null, B: "" };
  const found = read(written("round-a b", state));
  assert.equal(found.anchor, "round-a b");
  assert.deepEqual(Object.fromEntries(found.state), { x: state.x, colour: state.colour, A: state.A });
  assert.deepEqual(read(""), { anchor: "", state: new Map() });
  assert.equal(read("#100%").anchor, "100%");
});

test("arrays are decoded, also from planes of bytes", async () => {
  const values = Float32Array.from([1.5, -2, 1e9, NaN]), bytes = new Uint8Array(values.buffer);
  const planes = Uint8Array.from({ length: 16 }, (_, i) => bytes[(i % 4) * 4 + Math.floor(i / 4)]);
  for (const [raw, inPlanes] of [[bytes, false], [planes, true]]) {
    assert.deepEqual(await decode(deflateSync(raw).toString("base64"), "f4", inPlanes), values);
    assert.deepEqual(decodeNow(deflateSync(raw).toString("base64"), "f4", inPlanes), values);
  }
});

test("what is deflated in any way is inflated without waiting; what is cut off is an error", () => {
  const steady = (i) => (i * i) >> 7 & 31, noise = (i) => Math.imul(i + 1, 2654435761) >>> 24, sparse = (i) => (i % 97 ? 0 : i & 255);
  for (const [n, value] of [[0, steady], [5, noise], [300, sparse], [70_000, steady], [70_000, noise], [300_000, sparse]]) {
    const bytes = Uint8Array.from({ length: n }, (_, i) => value(i));
    for (const strategy of [constants.Z_DEFAULT_STRATEGY, constants.Z_FIXED, constants.Z_HUFFMAN_ONLY]) {
      for (const level of [0, 1, 9]) assert.deepEqual(inflate(new Uint8Array(deflateSync(bytes, { level, strategy }))), bytes);
    }
  }
  const whole = new Uint8Array(deflateSync(Uint8Array.from({ length: 5000 }, (_, i) => noise(i))));
  assert.throws(() => inflate(whole.subarray(0, 900)), /cut off|damaged/);
});

test("a round for the configuration is quoted where YAML would read something else", () => {
  assert.equal(asRound("bound", "all", "pc1 > 0"), 'rounds:\n  bound:\n    parent: all\n    select: "pc1 > 0"\n');
  assert.match(asRound("no", "1e3", "good"), /\n {2}"no":\n {4}parent: "1e3"\n/);
});

test("a table is tab-separated, with empty missing values and no tabs within", () => {
  const table = tableOf({ pc1: [0.25, null], tomogram: ["a\tb", null] });
  assert.equal(tabular(table, ["pc1", "tomogram"], "particle", [7, 9], [0, 1]), "particle\tpc1\ttomogram\n7\t0.25\ta b\n9\t\t\n");
});

test("cells mix the colours of numbers, keep those of categories, and show chosen points alone", () => {
  const image = () => ({ width: 4, height: 4, data: new Uint8ClampedArray(64) });
  const place = { ax: 1, bx: 0, ay: 1, by: 0 }, xs = [0.5, 0.6, 3, 9], ys = [0.5, 0.5, 3, 9], colours = Uint32Array.from([0xff0000, 0x0000ff, 0x00ff00, 0]);
  const at = (made, x, y) => [...made.data.subarray(4 * (4 * y + x), 4 * (4 * y + x) + 3)];
  const look = { colours, mask: null, faded: 0x112233, cell: 2 };
  let made = image();
  assert.equal(cells(made, xs, ys, null, place, look), 2);
  assert.deepEqual([at(made, 1, 1), at(made, 3, 3), at(made, 3, 0)], [[127, 0, 127], [0, 255, 0], [0, 0, 0]]);
  assert.ok(made.data[3] > made.data[4 * 15 + 3]);
  cells((made = image()), xs, ys, null, place, { ...look, mixed: false });
  assert.deepEqual(at(made, 0, 0), [0, 0, 255]);
  cells((made = image()), xs, ys, null, place, { ...look, mask: Uint8Array.from([1, 0, 0, 0]) });
  assert.deepEqual([at(made, 0, 0), at(made, 2, 2)], [[255, 0, 0], [0x11, 0x22, 0x33]]);
});

test("a disc covers its centre, of the rows asked for; the nearest row is found within reach", () => {
  const image = { width: 9, height: 9, data: new Uint8ClampedArray(324) }, place = { ax: 1, bx: 0, ay: 1, by: 0 };
  discs(image, [4.5, 1], [4.5, 1], [0], place, { colours: [0x0072b2, 0], mask: null, faded: 0, radius: 2 });
  assert.deepEqual([...image.data.subarray(4 * 40, 4 * 40 + 3)], [0, 0x72, 0xb2]);
  assert.equal(image.data[4 * 10 + 3], 0);
  assert.equal(nearest([0, 5], [0, 5], null, place, 4, 4, 3), 1);
  assert.equal(nearest([0, 5], [0, 5], null, place, 20, 20, 3), -1);
});

test("quantiles skip what is missing; ticks are round", () => {
  assert.deepEqual(quantiles([NaN, 3, 1, 2], 0, 1), [1, 3]);
  assert.deepEqual(labelledTicks(0, 1, 4).map(([, text]) => text), ["0.00", "0.25", "0.50", "0.75", "1.00"]);
});
