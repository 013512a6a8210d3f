// Does what the page does with strokes and gestures, for the comparison with `tomohet select`.
// Reads JSON from the standard input: { columns, strokes: [[[x, y], ...], ...], gestures: [[[mode, term], ...], ...] }.
// Writes the queries and the rows that the page chooses. Strokes are in pixels of a plot of 500 x 400 pixels.
import { readFileSync } from "node:fs";
import { outline } from "../../workflow/tomohet/report/static/polygon.js";
import { Sets, withinOutline } from "../../workflow/tomohet/report/static/sets.js";
import { tableOf } from "./table.js";

const { columns, strokes, gestures } = JSON.parse(readFileSync(0, "utf8"));
const table = tableOf(columns), { pc1, pc2 } = Object.fromEntries(["pc1", "pc2"].map((name) => [name, table.columns.get(name).values]));
const toData = ([x, y]) => [-2 + (x / 500) * 4, 2 - (y / 400) * 4];
const answers = { strokes: [], gestures: [] };
for (const stroke of strokes) {
  const sets = new Sets(table);
  await sets.term("stroke", withinOutline("pc1", "pc2", outline(stroke, toData, pc1, pc2)));
  answers.strokes.push({ query: sets.active.query, rows: [...sets.rows()], drawn: stroke.map(toData), error: sets.error });
}
for (const steps of gestures) {
  const sets = new Sets(table);
  for (const [i, [mode, term]] of steps.entries()) {
    sets.mode = mode;
    if (mode === "invert") await sets.invert();
    else await sets.term(`${i}`, term);
  }
  answers.gestures.push({ query: sets.active.query, rows: [...sets.rows()], error: sets.error });
}
process.stdout.write(JSON.stringify(answers));
