// What a served page can ask for in each round: the mean of chosen particles, a volume at latents, a slab of a tomogram.
import { element, number } from "./dom.js";
import { readMap, sectionsView } from "./maps.js";

const POLL_MS = 1000, SMALL_BOX = 64;
const SOURCES = { network: "Network", linear: "Linear model" };

// Ask the server; an answer of failure becomes an error with the server's sentence.
async function ask(method, address, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const answer = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
  if (answer.ok) return answer;
  const text = await answer.text();
  let sentence = text;
  try { sentence = JSON.parse(text).error; } catch { /* plain text already */ }
  throw new Error(sentence || `The server answered ${answer.status}.`);
}

const address = (path, words) => `${path}?${new URLSearchParams(words)}`;
const card = (title, lead, ...rest) => element("div", { class: "card" }, element("h4", {}, title), element("p", { class: "quiet" }, lead), ...rest);

// Run `work` with the newest argument only: while one call is under way, later ones replace each other.
function newestOnly(work) {
  let running = false, next = null;
  return async function (...given) {
    next = given;
    if (running) return;
    running = true;
    try {
      while (next) {
        const now = next;
        next = null;
        await work(...now);
      }
    } finally {
      running = false;
    }
  };
}

function showing() {
  const line = element("p", { class: "error", role: "alert" });
  const guarded = (work) => async (...given) => {
    line.textContent = "";
    try { await work(...given); } catch (failure) { line.textContent = failure.message; }
  };
  return [line, guarded];
}

// Card: the mean of the particles of a selection or query.
function meanCard(round, section, selected, known) {
  const query = element("input", { type: "text", "aria-label": "Query that chooses the particles", placeholder: "maven_A > 0.5 and kmeans in [0, 2]", spellcheck: "false" });
  const choice = element("select", { "aria-label": "Particles to reconstruct" }, element("option", { value: "" }, "Query"));
  const refine = element("input", { type: "checkbox" });
  const jobs = element("ul", { class: "jobs", "aria-live": "polite" }), view = sectionsView();
  const [error, guarded] = showing();
  let sets = [];
  const choose = () => (query.hidden = choice.value !== "");
  choice.addEventListener("change", choose);
  function take(all) {
    sets = all.filter((set) => set.rows.length);
    const before = choice.value;
    choice.replaceChildren(...sets.map((set, i) => element("option", { value: String(i + 1) }, `${set.name}: ${set.rows.length.toLocaleString("en")} particles`)),
      element("option", { value: "" }, "Query"));
    choice.value = [...choice.options].some((option) => option.value === before) && before ? before : sets.length ? "1" : "";
    choose();
  }
  take(selected.sets);
  section.addEventListener("tomohet:selection", (event) => take(event.detail.sets));

  const show = guarded(async (mean) => {
    const file = mean.files.find((name) => name.endsWith("/map_filt.mrc"));
    const map = readMap(await (await ask("GET", `/${file}`)).arrayBuffer());
    view.show(map, `${mean.name ? `${mean.name}: f` : "F"}iltered map of ${mean.n_particles.toLocaleString("en")} particles, central sections`);
    view.dataset.job = mean.job;
  });
  const link = (mean, name, text) => {
    const file = mean.files.find((path) => path.endsWith(`/${name}`));
    return file ? [element("a", { href: `/${file}` }, text)] : [];
  };
  function line(mean) {
    const item = element("li", { "data-job": mean.job, "data-state": mean.state });
    const title = element("span", {}, ...(mean.name ? [element("b", {}, element("bdi", {}, mean.name)), ": "] : []), element("b", {}, `${mean.n_particles.toLocaleString("en")} particles`), mean.query ? " " : "", mean.query ? element("code", {}, mean.query) : "", mean.refine_poses ? " with refined poses" : "");
    item.append(title);
    if (mean.state === "done") {
      item.append(element("span", {}, mean.sentence), element("span", { class: "row" },
        element("button", { type: "button", onclick: () => show(mean) }, "Sections"), ...link(mean, "map.mrc", "map"), ...link(mean, "map_filt.mrc", "filtered"),
        ...link(mean, "half1.mrc", "half 1"), ...link(mean, "half2.mrc", "half 2"), ...link(mean, "fsc.png", "FSC"),
        ...link(mean, "indices.pkl", "indices"), element("a", { href: `/served/${mean.job}/` }, "files")));
    } else if (mean.state === "failed") {
      item.append(element("span", { class: "error" }, mean.said));
    } else {
      item.append(element("progress", { max: 1, "aria-label": "Progress", ...(mean.progress === undefined ? {} : { value: mean.progress }) }),
        element("span", { class: "row" }, element("span", { class: "quiet" }, mean.state === "waiting" ? "waits for its turn" : mean.said || "starts"),
          element("button", { type: "button", onclick: () => cancel(mean) }, "Cancel")));
    }
    return item;
  }
  function put(mean) {
    const old = jobs.querySelector(`[data-job="${mean.job}"]`), item = line(mean);
    if (old) old.replaceWith(item);
    else jobs.prepend(item);
  }
  const cancel = guarded(async (mean) => {
    await ask("DELETE", address("/mean", { job: mean.job }));
    jobs.querySelector(`[data-job="${mean.job}"]`)?.remove();
  });
  const follow = guarded(async (mean) => {
    while (jobs.querySelector(`[data-job="${mean.job}"]`) && (mean.state === "waiting" || mean.state === "running")) {
      await new Promise((done) => setTimeout(done, POLL_MS));
      if (!jobs.querySelector(`[data-job="${mean.job}"]`)) return;
      mean = await (await ask("GET", address("/mean", { job: mean.job }))).json();
      put(mean);
    }
    if (mean.state === "done") show(mean);
  });
  const start = guarded(async () => {
    const set = sets[Number(choice.value) - 1];
    const chosen = set ? { rows: [...set.rows], name: `Selection ${set.name}` } : { query: query.value };
    const mean = await (await ask("POST", "/mean", { round, refine_poses: refine.checked, ...chosen })).json();
    put(mean);
    follow(mean);
  });
  for (const mean of known.means) {
    put(mean);
    if (mean.state === "waiting" || mean.state === "running") follow(mean);
  }
  const form = element("form", { onsubmit: (event) => { event.preventDefault(); start(); } },
    element("div", { class: "row" }, choice, query),
    element("div", { class: "row" }, element("label", {}, refine, " Refine the poses of each half set (slower)"), element("button", {}, "Reconstruct")));
  return card("Reconstruct selection", "The mean of chosen particles from their tilt images, with half maps, without any model.", form, error, view, jobs);
}

// Card: the volume of a model at latents set by sliders.
function volumeCard(round, known) {
  const names = Object.keys(SOURCES).filter((name) => known.sources[name]?.zdim);
  const problems = Object.values(known.sources).map((source) => source.problem).filter(Boolean);
  const wrong = problems.map((problem) => element("p", { class: "error" }, problem));
  if (!names.length) return wrong.length ? card("Volume at latents", "No model of this round can be used.", ...wrong) : null;
  const model = element("select", { "aria-label": "Model" }, ...names.map((name) => element("option", { value: name }, SOURCES[name])));
  const sliders = element("div", { class: "latents" }), view = sectionsView();
  const [error, guarded] = showing();
  const point = () => [...sliders.querySelectorAll("input")].map((input) => Number(input.value));
  const request = (more) => ask("POST", "/volume", { round, source: model.value, z: point(), ...more });
  const decode = newestOnly(guarded(async () => {
    view.classList.add("busy");
    const { box } = known.sources[model.value];
    try {
      const z = point();
      const map = readMap(await (await request(box > SMALL_BOX ? { box: SMALL_BOX } : {})).arrayBuffer());
      view.show(map, `${SOURCES[model.value]}, central sections`);
      view.dataset.z = z.join(" ");
    } finally {
      view.classList.remove("busy");
    }
  }));
  const save = guarded(async () => {
    const url = URL.createObjectURL(await (await request({})).blob());
    element("a", { href: url, download: `${round}_${model.value}.mrc` }).click();
    URL.revokeObjectURL(url);
  });
  function build() {
    const { low, start, high } = known.sources[model.value];
    sliders.replaceChildren(...start.map((value, i) => {
      const output = element("output", {}, value.toFixed(2));
      const input = element("input", { type: "range", min: low[i], max: high[i], step: "any", value, oninput: () => {
        output.textContent = Number(input.value).toFixed(2);
        decode();
      } });
      return element("label", {}, element("span", {}, `z${i + 1}`), input, output);
    }));
    view.hidden = true;
  }
  model.addEventListener("change", build);
  build();
  return card("Volume at latents", "The map that the model decodes at any point. The sliders reach from the 1st to the 99th percentile of the particles.",
    element("div", { class: "row" }, model, element("button", { type: "button", onclick: decode }, "Decode"),
      element("button", { type: "button", onclick: build }, "Median"), element("button", { type: "button", onclick: save }, "Download map")),
    sliders, ...wrong, error, view);
}

// Card: a slab of a tomogram at a height.
function slabCard(known) {
  if (!known.tomograms.length) return null;
  const tomogram = element("select", { "aria-label": "Tomogram" }, ...known.tomograms.map((name) => element("option", {}, name)));
  const height = element("input", { type: "range", min: 0, max: 1, step: "any", "aria-label": "Height in the tomogram, Å" });
  const output = element("output", {}), image = element("img", { class: "slab", alt: "Slab of the tomogram", hidden: true });
  const [error, guarded] = showing();
  const show = newestOnly(guarded(async (z) => {
    const words = { tomogram: tomogram.value, ...(z === undefined ? {} : { z }) };
    const answer = await ask("GET", address("/slab", words));
    const told = (name) => Number(answer.headers.get(name));
    height.max = told("x-height-a");
    if (z === undefined) height.value = told("x-z-a");
    output.textContent = `z ${number(Math.round(told("x-z-a")))} Å`;
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(await answer.blob());
    image.alt = `${tomogram.value}: mean of ${number(Math.round(told("x-thickness-a")))} Å around ${output.textContent}`;
    image.hidden = false;
  }));
  height.addEventListener("input", () => show(Number(height.value)));
  tomogram.addEventListener("change", () => show());
  return card("Tomogram slab", "The mean of a tomogram's sections around a height.",
    element("div", { class: "row" }, tomogram, element("button", { type: "button", onclick: () => show() }, "Show the middle")),
    element("div", { class: "height" }, element("span", {}, "Height"), height, output), error, image);
}

// Fill a round's panel when it comes near the screen.
async function fill(panel, round, section, selected) {
  const known = await (await ask("GET", address("/round", { round }))).json();
  const host = element("div", { class: "served" });
  host.append(...[meanCard(round, section, selected, known), volumeCard(round, known), slabCard(known)].filter(Boolean));
  panel.append(host);
}

document.documentElement.dataset.served = "yes";
document.querySelector("header .meta")?.append(" · served: reload to read the files again");
for (const section of document.querySelectorAll("section.roundsection")) {
  const round = section.dataset.round ?? section.id.replace(/^round-/, "");
  const panel = element("div", { class: "onrequest", "data-served": round }, element("h3", {}, "On request"));
  const after = section.querySelector('[data-figure="explorer"]')?.closest("figure") ?? section.lastElementChild;
  after.after(panel);
  const selected = { sets: [] };  // before the panel is there
  section.addEventListener("tomohet:selection", (event) => (selected.sets = event.detail.sets));
  const failed = (error) => panel.append(element("p", { class: "failed", role: "alert" }, error.message));
  new IntersectionObserver((entries, watch) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    fill(panel, round, section, selected).catch(failed);
  }, { rootMargin: "800px" }).observe(panel);
}
