"use strict";
// Plays the user on a page of very many particles. What came of it is left as JSON in the element #outcome.
window.addEventListener("error", (e) => (window.failure = e.message));
window.addEventListener("unhandledrejection", (e) => (window.failure = String(e.reason)));

// Milliseconds that some work takes, the median of five.
async function took(work) {
  const times = [];
  for (let i = 0; i < 5; i++) {
    const before = performance.now();
    await work(i);
    times.push(performance.now() - before);
  }
  return times.sort((a, b) => a - b)[2];
}

async function playAll() {
  const host = document.querySelector('[data-from="round-all-explorer-spec"]');
  while (!host.explorer?.rows) await new Promise((resolve) => setTimeout(resolve, 50));
  const { explorer } = host, { scatter, sets, table } = explorer, scenes = { n: table.n, total: table.total };
  // Away from the middle, around some of the particles.
  const stroke = Array.from({ length: 80 }, (_, i) => [
    scatter.left + scatter.w * (0.35 + 0.15 * Math.cos(i / 12.5)), scatter.h * (0.6 + 0.2 * Math.sin(i / 12.5)),
  ]);
  scenes.ms = { paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0 };
  scenes.ms.draw = await took(() => scatter.draw());
  scenes.ms.lasso = await took(() => explorer.drawn(scatter, { kind: "outline", stroke, toData: ([x, y]) => [scatter.unx(x), scatter.uny(y)] }));
  scenes.lasso = { query: sets.active.query, count: sets.active.count, text: explorer.panel.count.textContent };
  await sets.write("kmeans == 2");
  scenes.cluster = sets.active.count;
  await explorer.set("colour", "tomogram");
  const found = explorer.key.querySelector(".found"), search = explorer.key.querySelector("input");
  scenes.listed = found.querySelectorAll("button").length;
  search.value = "TS_17";
  search.dispatchEvent(new Event("input"));
  scenes.searched = [...found.querySelectorAll("button bdi")].map((chip) => chip.textContent);
  explorer.rows.draw();
  scenes.rows = explorer.rows.body.childElementCount;
  scenes.height = host.offsetHeight / window.innerHeight;
  scenes.note = explorer.sampleNote();
  scenes.indices = explorer.panel.outputs.find((button) => button.textContent.startsWith("Indices")).disabled;
  scenes.chips = [...explorer.key.querySelectorAll("small")].map((chip) => chip.textContent).join(" ");
  return scenes;
}

playAll().catch((error) => (window.failure = error.stack)).then((scenes) => {
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  outcome.textContent = JSON.stringify({ scenes, failure: window.failure ?? null });
  document.body.append(outcome);
});
