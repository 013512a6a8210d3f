import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "../../workflow/tomohet/report/static/query.js";
import { opposite, outerWords } from "../../workflow/tomohet/report/static/tokens.js";
import { tableOf } from "./table.js";

const TABLE = tableOf({
  pc1: [0.5, -1, null, 2], kmeans: [0, 1, 2, 0], tomogram: ["t(1)", "t(1)", 'a "b"', null], "odd name": [1, 2, 3, 4], good: [true, false, true, null],
});
const rows = (query) => [...parse(query).mask(TABLE)].flatMap((v, i) => (v ? [i] : []));

for (const [query, expected] of [
  ["pc1 > 0", [0, 3]], ["not pc1 > 0", [1, 2]], ["pc1 != 2", [0, 1, 2]], ["-1 <= pc1 < 2", [0, 1]], ["0 < pc1", [0, 3]],
  ["kmeans in [0, 2] and pc1 > 0 or kmeans == 1", [0, 1, 3]], ["kmeans not in (0, 1)", [2]], ["pc1 in (-1, 2)", [1, 3]], ["pc1 in [-1]", [1]], ["kmeans == 0 and (pc1 < 1 or `odd name` > 3)", [0, 3]],
  ["2 * pc1 + kmeans ** 2 - 1 >= 0", [0, 3]], ["-pc1 > 0.5", [1]], ["kmeans % 2 == 1", [1]], ["pc1 > kmeans", [0, 3]],
  ['tomogram == "t(1)"', [0, 1]], ["tomogram == 'a \"b\"'", [2]], ['tomogram != "t(1)"', [2, 3]], ["good", [0, 2]], ["good == False", [1]], ["~good | kmeans == 2", [1, 2, 3]],
  ['in_polygon("pc1", "odd name", [[-2, 0], [1, 0], [1, 3], [-2, 3]]) & kmeans < 5', [0, 1]],
]) test(query, () => assert.deepEqual(rows(query), expected));

for (const [query, message] of [
  ["pc9 > 1", /no column "pc9"/], ["pc1 >", /ends too early/], ["kmeans + 1", /no condition/], ["(pc1 > 1", /"\)" is expected/], ["tomogram.str.len() > 2", /not understood/],
  ['in_polygon("pc1", "kmeans", [[0, 0], [1, 1]])', /at least three corners/], ['in_polygon("pc1", "tomogram", [[0, 0], [1, 1], [2, 0]])', /columns of numbers/],
  ["pc1 > 1 2", /right place/], ["pc1", /no condition/], ["kmeans in 3", /a list is expected/], ['tomogram + "x" == "y"', /can only be compared/],
]) test(`${query} is refused`, () => assert.throws(() => rows(query), message));

test("columns that a query reads are known before it is evaluated", () => {
  assert.deepEqual([...parse('pc1 > 0 and in_polygon("x", "y", [[0, 0], [1, 0], [0, 1]])').columns], ["pc1", "x", "y"]);
});

test("words outside of brackets, and the opposite without a double negation", () => {
  assert.deepEqual(outerWords('a > 1 and not (b < 2 or c == "x or (y")'), ["and", "not"]);
  assert.deepEqual(outerWords("a not in [1, 2]"), []);
  assert.equal(opposite("a > 1"), "not (a > 1)");
  assert.equal(opposite('not (a == ")" or b > 1)'), 'a == ")" or b > 1');
  assert.equal(opposite("not (a > 1) or (b > 1)"), "not (not (a > 1) or (b > 1))");
});
