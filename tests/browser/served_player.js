"use strict";
// Plays the user on a served page; what came of it is sent to the test's own address /outcome.
const failures = [];
window.addEventListener("error", (e) => failures.push(e.message));
window.addEventListener("unhandledrejection", (e) => failures.push(String(e.reason)));
document.addEventListener("securitypolicyviolation", (e) => failures.push(`${e.violatedDirective}: ${e.blockedURI}`));

async function until(found, what) {
  for (let i = 0; i < 900; i++) {
    const value = found();
    if (value) return value;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`waited in vain for ${what}`);
}
const greys = (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [...data].filter((_, i) => i % 4 === 0);
};

async function play() {
  document.documentElement.style.scrollBehavior = "auto";
  const section = document.getElementById("round-all"), panel = section.querySelector('[data-served="all"]');
  const select = (name, rows) => section.dispatchEvent(new CustomEvent("tomohet:selection", { detail: { sets: [{ name, colour: "#e58a1f", rows: new Uint32Array(rows) }] } }));
  select("B", [0, 1]);  // before the panel is there
  panel.scrollIntoView();
  const [mean, volume, slab] = await until(() => panel.querySelectorAll(".served > .card").length === 3 && [...panel.querySelectorAll(".served > .card")], "the cards");
  const button = (card, text) => [...card.querySelectorAll("button")].find((one) => one.textContent === text);
  const choice = mean.querySelector("select"), query = mean.querySelector('input[type="text"]');
  const outcome = { early: choice.options[0].textContent };

  select("A", [0, 1, 2, 3, 4, 5, 6, 7]);
  Object.assign(outcome, { label: choice.selectedOptions[0].textContent, hidden: getComputedStyle(query).display === "none" });
  button(mean, "Reconstruct").click();
  await until(() => mean.querySelector('[data-state="running"], [data-state="waiting"]'), "the job");
  outcome.progress = Boolean(mean.querySelector("progress"));
  const view = mean.querySelector(".central");
  const done = await until(() => mean.querySelector('[data-state="done"]'), "the mean");
  await until(() => view.dataset.job, "its sections");
  Object.assign(outcome, { job: view.dataset.job, said: done.textContent, links: [...done.querySelectorAll("a")].map((a) => a.getAttribute("href")),
    mean: [...view.querySelectorAll("canvas")].map(greys) });

  choice.value = "";
  choice.dispatchEvent(new Event("change"));
  query.value = "kmean == 1";
  button(mean, "Reconstruct").click();
  outcome.mistake = await until(() => mean.querySelector(":scope > .error").textContent, "the error");
  query.value = "kmeans == 2";
  button(mean, "Reconstruct").click();
  const running = await until(() => mean.querySelector('[data-state="running"]'), "the second job");
  button(running, "Cancel").click();
  await until(() => !mean.querySelector('[data-state="running"]'), "the end of the second job");
  outcome.cancelled = running.dataset.job;

  volume.querySelector("select").value = "linear";
  volume.querySelector("select").dispatchEvent(new Event("change"));
  const sliders = [...volume.querySelectorAll('input[type="range"]')], sections = volume.querySelector(".central");
  for (const slider of sliders) {
    slider.value = slider.max;
    slider.dispatchEvent(new Event("input"));
  }
  const z = sliders.map((slider) => Number(slider.value)).join(" ");
  await until(() => sections.dataset.z === z, "the volume");
  Object.assign(outcome, { z: z.split(" ").map(Number), volume: [...sections.querySelectorAll("canvas")].map(greys) });

  button(slab, "Show the middle").click();
  const image = slab.querySelector("img");
  await until(() => image.naturalWidth, "the slab");
  Object.assign(outcome, { slab: [image.naturalWidth, image.naturalHeight], height: slab.querySelector("output").textContent });
  const named = [...panel.querySelectorAll("button, input, select, canvas, img, progress")].filter((one) =>
    !(one.textContent || one.alt || one.getAttribute("aria-label") || one.labels?.length));
  return { ...outcome, unnamed: named.map((one) => one.outerHTML), address: location.href, overflow: document.documentElement.scrollWidth - innerWidth };
}

addEventListener("load", () => play().catch((error) => ({ stopped: error.message })).then((outcome) =>
  fetch("/outcome", { method: "POST", body: JSON.stringify({ ...outcome, failures }) })));
