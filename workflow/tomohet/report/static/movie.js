// Movies of volumes: to and fro along a component, or through the states one after another.
import { element } from "./dom.js";

const REACH = 2.5, PERIOD_MS = 6000, EACH_MS = 900; // standard deviations; a period; a state

export class Movie {
  constructor(view) {
    this.view = view;
    this.playing = null;
    this.build();
  }

  states() {
    return this.view.items.choices().filter(([title]) => /^state/i.test(title)).map(([title, entries]) => [title, entries.map(([key]) => key)]);
  }

  build() {
    const { items } = this.view;
    const components = Array.from({ length: items.space.k }, (_, j) => [`step ${j}`, `component ${j + 1}`]);
    const through = this.states().map(([title], i) => [`states ${i}`, title.startsWith("State maps") ? "state maps in turn" : "states in turn"]);
    this.path = element("select", { "aria-label": "Movie along" }, ...[...components, ...through].map(([value, text]) => element("option", { value }, text)));
    this.path.addEventListener("change", () => this.set(0));
    this.place = element("input", { type: "range", min: -REACH, max: REACH, step: 0.1, value: 0, "aria-label": "Place along the component, in standard deviations" });
    this.place.addEventListener("input", () => {
      this.stop();
      this.set(Number(this.place.value));
    });
    this.button = element("button", { type: "button", onclick: () => (this.playing ? this.stop() : this.play()) }, "Play");
    this.root = element("span", { class: "movie" }, element("label", { class: "picker" }, element("span", {}, "Movie along"), this.path), this.place, this.button);
  }

  get along() {
    return this.path.value.split(" ");
  }

  // Show one place of a component (standard deviations), or a state (a whole number), on side A.
  set(at) {
    const [kind, number] = this.along, { view } = this;
    this.place.disabled = kind !== "step";
    if (kind === "step") {
      view.items.step = { component: Number(number), at };
      this.place.value = at;
      return view.choose("a", "step");
    }
    const keys = this.states()[number][1];
    return view.choose("a", keys[at % keys.length]);
  }

  async play() {
    const mine = (this.playing = {}), start = performance.now();
    this.button.textContent = "Stop";
    while (this.playing === mine) {
      const time = performance.now() - start, ofStates = this.along[0] === "states";
      await this.set(ofStates ? Math.floor(time / EACH_MS) : Number((REACH * Math.sin((2 * Math.PI * time) / PERIOD_MS)).toFixed(2)));
      await new Promise((next) => (ofStates ? setTimeout(next, EACH_MS / 3) : requestAnimationFrame(next)));
    }
  }

  stop() {
    this.playing = null;
    this.button.textContent = "Play";
  }
}
