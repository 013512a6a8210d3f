// What can be looked at as one volume: selections, one particle, states, clusters, maps, a step along a component.
const count = (n) => `${n.toLocaleString("en")} particle${n === 1 ? "" : "s"}`;

export class Items {
  constructor(data) {
    Object.assign(this, { data, model: 0, sets: [], particle: 0, step: { component: 0, at: 0 } });
  }

  // What the volumes under the same names depend on.
  get key() {
    return JSON.stringify([this.model, this.particle, this.sets.map((s) => [s.name, s.rows.length, s.rows[0]])]);
  }

  get space() {
    return this.data.models[this.model];
  }

  // Titles of the choices, in groups: [[title, [[key, label], ...]], ...].
  choices() {
    const { data, space, sets } = this, groups = new Map();
    data.groups.forEach((g, i) => {
      if (!groups.has(g.title)) groups.set(g.title, []);
      groups.get(g.title).push([`group ${i}`, `${g.title} ${g.value} · ${count(g.n)}`]);
    });
    const of = (kind) => data.maps.flatMap((m, i) => (m.kind === kind ? [[`map ${i}`, m.label]] : []));
    return [
      ["Selections", sets.map((s, i) => [`set ${i}`, `Selection ${s.name} · ${count(s.rows.length)}`])],
      ["Particles", [["all", `All · ${count(space.n)}`], ["others", "All but those of the other side"], ["particle", `Particle ${this.particle}`]]],
      ["Along a component", [["step", `Component ${this.step.component + 1}`]]],
      ...groups,
      ["State maps, from the images", of("state")],
      ["Reconstruction, from the images", of("reconstruction")],
    ].filter(([, entries]) => entries.length);
  }

  // Mean coefficients of an item, and its number of particles; null for a map.
  coefficients(key, other) {
    const [kind, number] = key.split(" "), { space, data } = this;
    if (kind === "set") {
      const { rows } = this.sets[number];
      return [space.meanOf(rows), rows.length];
    }
    if (kind === "group") return [data.groups[number].coefficients[this.model], data.groups[number].n];
    if (kind === "particle") return [space.coefficientsOf(this.particle), 1];
    if (kind === "others") {
      const [mean, n] = (other && !other.startsWith("others") && this.coefficients(other)) || [space.average, 0];
      return [space.othersOf(mean, n), space.n - n];
    }
    if (kind === "step") {
      const { component, at } = this.step;
      return [space.average.map((c, j) => (j === component ? c + at * space.deviations[j] : c)), null];
    }
    return kind === "all" ? [space.average, space.n] : null;
  }

  // Of how many particles an item's noise is; null for one particle or a step, whose noise is the model's.
  counted(key, other) {
    const [kind, number] = key.split(" ");
    if (kind === "map") return this.data.maps[number].n || null;
    const n = this.coefficients(key, other)[1];
    return n > 1 ? n : null;
  }

  // Noise of the mean of n of all N particles, over that of the round's map.
  noiseOf(key, other) {
    const n = this.counted(key, other);
    return n == null ? null : Math.sqrt(this.space.n / n);
  }

  // Noise of A - B, over that of the round's map: of independent means, or of a part and the whole that holds it.
  noiseOfDifference(a, b) {
    const noises = [this.noiseOf(a, b), this.noiseOf(b, a)];
    if (noises.includes(null)) return null;
    const [small, large] = noises.map((v) => v * v).sort((x, y) => x - y);
    if (small > 1) return Math.sqrt(small + large);
    return large > 1 ? Math.sqrt(large - small) : 1;
  }

  // Values, name, and origin of an item; `other` is the key of the item on the other side.
  resolve(key, other) {
    const { data, space } = this;
    if (key.startsWith("map ")) {
      const map = data.maps[key.slice(4)];
      return { values: map.values, label: map.label, note: `${map.file}${this.noiseNote(key)}` };
    }
    const [coefficients, n] = this.coefficients(key, other);
    const note = `${space.label}${n == null ? "" : n === 1 ? ", decoded" : `, mean of ${count(n)}`}${this.noiseNote(key, other)}`;
    return { values: space.volume(coefficients), label: this.label(key), note, colour: this.colour(key) };
  }

  noiseNote(key, other) {
    const noise = this.noiseOf(key, other);
    return noise == null || noise === 1 ? "" : `, noise\u00a0${noise.toFixed(1)}\u00a0σ`;
  }

  label(key) {
    const [kind, number] = key.split(" "), { data, step } = this;
    if (kind === "set") return `Selection ${this.sets[number].name}`;
    if (kind === "group") return `${data.groups[number].title} ${data.groups[number].value}`;
    if (kind === "step") return `Component ${step.component + 1} at ${step.at.toFixed(1).replace("-", "−")} SD`;
    return { particle: `Particle ${this.particle}`, others: "All other particles", all: "All particles" }[kind];
  }

  colour(key) {
    const [kind, number] = key.split(" ");
    return kind === "set" ? this.sets[number].colour : kind === "group" ? this.data.groups[number].colour : null;
  }

  // The state or cluster that adds most to the variance: its particles times its squared distance from the mean.
  mostDifferent() {
    const { data, space } = this, size = space.mean.length;
    const lengths = Array.from({ length: space.k }, (_, j) => space.components.subarray(j * size, (j + 1) * size).reduce((sum, v) => sum + v * v, 0));
    const apart = (g) => g.coefficients[this.model].reduce((sum, c, j) => sum + lengths[j] * (c - space.average[j]) ** 2, 0);
    const adds = data.groups.map((g) => (g.column === data.groups[0].column ? g.n * apart(g) : 0));
    return adds.length ? `group ${adds.indexOf(Math.max(...adds))}` : "all";
  }
}
