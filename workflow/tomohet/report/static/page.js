"use strict";
// Start: draw each figure when it comes near the screen; colour scheme; contents that follow the reader.
(function () {
  const DRAW = { chart: TomoHet.chart, heatmap: TomoHet.heatmap, explorer: TomoHet.explorer, volumes: TomoHet.viewer, compare: TomoHet.compare, cell: TomoHet.cell };

  async function draw(host) {
    if (host.dataset.drawn) return;
    host.dataset.drawn = "yes";
    try {
      await DRAW[host.dataset.figure](host, TomoHet.json(host.dataset.from));
    } catch (error) {
      host.prepend(TomoHet.element("p", { class: "failed" }, `This figure could not be drawn: ${error.message}`));
      throw error;
    }
  }

  const figures = [...document.querySelectorAll("[data-figure]")];
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px" });
  figures.forEach((host) => watch.observe(host));
  // The rest follows while nothing else happens, so that a printed page is complete.
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  function drawNext() {
    const next = figures.find((host) => !host.dataset.drawn);
    if (next) draw(next).finally(() => idle(drawNext));
  }
  window.addEventListener("load", () => idle(drawNext));
  TomoHet.drawAll = () => Promise.all(figures.map(draw));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details.print").forEach((d) => (d.open = true));
    TomoHet.drawAll();
  });

  const scheme = document.getElementById("scheme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("click", () => {
    const now = document.documentElement.dataset.scheme || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.scheme = now === "dark" ? "light" : "dark";
    document.dispatchEvent(new Event("schemechange"));
  });
  dark.addEventListener("change", () => document.dispatchEvent(new Event("schemechange")));

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const follow = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((a) => a.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  links.forEach((_, id) => {
    const target = document.getElementById(id);
    if (target) follow.observe(target);
  });
  for (const button of document.querySelectorAll("button[data-copy-text]")) {
    button.addEventListener("click", () => TomoHet.copy(button.dataset.copyText, button));
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => TomoHet.copy(document.getElementById(button.dataset.copy).textContent, button));
  }
})();
