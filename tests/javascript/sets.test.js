import assert from "node:assert/strict";
import { test } from "node:test";
import { between, membership, Sets, withinOutline } from "../../workflow/tomohet/report/static/sets.js";
import { tableOf } from "./table.js";

const table = () => tableOf({ pc1: [0, 1, 2, 3, 4, 5], kmeans: [0, 1, 2, 0, 1, 2], tomogram: ["a", "a", "b", "b", "c", "c"] });

test("gestures join as the mode says, and the mask is always the query's", async () => {
  const sets = new Sets(table());
  const steps = [["new", "pc1 > 1", [2, 3, 4, 5]], ["meet", "kmeans == 0 or kmeans == 1", [3, 4]], ["add", "pc1 < 1", [0, 3, 4]], ["take", "kmeans == 1", [0, 3]], ["new", "pc1 > 4", [5]]];
  for (const [i, [mode, term, expected]] of steps.entries()) {
    sets.mode = mode;
    await sets.term(`gesture ${i}`, term);
    assert.deepEqual([...sets.rows()], expected, sets.active.query);
    const { query, mask } = sets.active;
    await sets.write(query);
    assert.deepEqual(sets.active.mask, mask, query);
  }
});

test("taking away from nothing leaves the others", async () => {
  const sets = new Sets(table());
  sets.mode = "take";
  await sets.term("1", "kmeans == 1");
  assert.equal(sets.active.query, "not (kmeans == 1)");
  assert.deepEqual([...sets.rows()], [0, 2, 3, 5]);
});

test("terms of one gesture replace each other", async () => {
  const sets = new Sets(table());
  await sets.term("a", "pc1 > 0");
  sets.mode = "meet";
  for (const high of [5, 4, 3]) await sets.term("drag", between("pc1", [1, high]));
  assert.equal(sets.active.query, "pc1 > 0 and 1 <= pc1 <= 3");
  await sets.term("drag", "");
  assert.equal(sets.active.query, "pc1 > 0");
});

test("groups that are clicked one after the other become one list in the table's order", async () => {
  const sets = new Sets(table());
  for (const value of ["c", "a"]) await sets.toggle("tomogram", value);
  assert.equal(sets.active.query, 'tomogram in ["a", "c"]');
  await sets.toggle("tomogram", "c");
  assert.equal(sets.active.query, 'tomogram == "a"');
  await sets.toggle("tomogram", "a");
  assert.equal(sets.active.query, "");
});

test("inverting twice gives the query back; clearing empties", async () => {
  const sets = new Sets(table());
  await sets.write("pc1 > 1 and kmeans == 2");
  await sets.invert();
  assert.equal(sets.active.query, "not (pc1 > 1 and kmeans == 2)");
  await sets.invert();
  assert.equal(sets.active.query, "pc1 > 1 and kmeans == 2");
  await sets.clear();
  assert.equal(sets.active.count, 0);
});

test("named selections keep their names, and a freed name is used again", async () => {
  const sets = new Sets(table());
  await sets.write("pc1 > 1");
  sets.add();
  sets.add();
  assert.deepEqual(sets.sets.map((set) => set.name), ["A", "B", "C"]);
  sets.remove(sets.sets[1]);
  sets.add();
  assert.deepEqual(sets.sets.map((set) => set.name), ["A", "B", "C"]);
  assert.equal(sets.active.name, "B");
  assert.deepEqual(sets.chosen.map((set) => set.name), ["A"]);
});

test("a query that is not understood leaves the selection as it was", async () => {
  const sets = new Sets(table());
  await sets.write("pc1 > 1");
  await sets.write("pc1 >");
  assert.match(sets.error, /ends too early/);
  assert.equal(sets.active.query, "pc1 > 1");
});

test("names and texts are quoted as Python reads them", () => {
  assert.equal(membership("odd name", ['a "b"']), '`odd name` == "a \\"b\\""');
  assert.equal(membership("good", [true]), "good == True");
  assert.equal(withinOutline("pc1", "odd name", [[0, 1], [2, 3], [4, 5]]), 'in_polygon("pc1", "odd name", [[0, 1], [2, 3], [4, 5]])');
});
