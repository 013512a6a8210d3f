import assert from "node:assert/strict";
import { test } from "node:test";
import { inside, outline } from "../../workflow/tomohet/report/static/polygon.js";

const same = (points) => points;
const random = (seed) => () => ((seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648);

test("lobes of a figure of eight are inside, what is encircled twice is not", () => {
  const eight = [[0, 0], [4, 4], [4, 0], [0, 4]];
  assert.deepEqual([...inside(eight, [0.5, 3.5, 2, 2, NaN], [2, 2, 0.5, 3.5, 2])], [1, 1, 0, 0, 0]);
  const square = [[0, 0], [3, 0], [3, 3], [0, 3]];
  assert.deepEqual([...inside([...square, ...square], [1], [1])], [0]);
});

test("the bins of heights change nothing: a plain test of every edge agrees", () => {
  const next = random(3);
  const corners = Array.from({ length: 60 }, () => [next(), next()]), xs = Array.from({ length: 3000 }, next), ys = Array.from({ length: 3000 }, next);
  const plain = xs.map((x, i) => corners.reduce((odd, [x1, y1], k) => {
    const [x2, y2] = corners[(k + 1) % corners.length], y = ys[i];
    return y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1 ? odd ^ 1 : odd;
  }, 0));
  assert.deepEqual([...inside(corners, xs, ys)], plain);
});

test("an outline keeps the drawn stroke's points in fewer corners", () => {
  const next = random(7), xs = Float64Array.from({ length: 20000 }, () => next() * 400), ys = Float64Array.from({ length: 20000 }, () => next() * 400);
  const stroke = Array.from({ length: 300 }, (_, i) => [200 + 150 * Math.cos(i / 40) + next(), 200 + 120 * Math.sin(i / 20) + next()]);
  for (const some of [20000, 300]) {
    const [x, y] = [xs.subarray(0, some), ys.subarray(0, some)], corners = outline(stroke, same, x, y);
    assert.deepEqual(inside(corners, x, y), inside(stroke, x, y));
    if (some === 300) assert.ok(corners.length < 60, `${corners.length} corners`);
  }
});

test("a stroke without height holds nothing", () => {
  assert.deepEqual([...inside([[0, 1], [5, 1], [3, 1]], [1, 2], [1, 1])], [0, 0]);
});
