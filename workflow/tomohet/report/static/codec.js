// Volumes of a round from mean + sum of coefficient x component, inside a mask; see report/codec.py.
import { blob } from "./blobs.js";

const SAMPLE = 20000; // voxels of which the range of colours is taken

// Small integers with one scale per row, as numbers: n rows of equal length.
export function rows(integers, scales, zero) {
  const width = scales.length ? integers.length / scales.length : 0, values = new Float32Array(integers.length);
  scales.forEach((scale, j) => {
    for (let i = j * width; i < (j + 1) * width; i++) values[i] = (integers[i] - zero) * scale;
  });
  return values;
}

// Volumes of one model. `components` and `particles` have a row for each component.
export class Model {
  constructor(entry, mean, components, particles) {
    Object.assign(this, { ...entry, mean, components, particles, k: entry.deviations.length });
  }

  coefficientsOf(row) {
    return Array.from({ length: this.k }, (_, j) => this.particles[j * this.n + row]);
  }

  // Mean coefficients of some particles (row numbers of the particle table).
  meanOf(chosen) {
    return Array.from({ length: this.k }, (_, j) => {
      let sum = 0;
      for (const row of chosen) sum += this.particles[j * this.n + row];
      return sum / chosen.length;
    });
  }

  // Mean coefficients of all other particles.
  othersOf(mean, n) {
    const rest = this.n - n;
    return rest > 0 ? this.average.map((all, j) => (all * this.n - mean[j] * n) / rest) : this.average;
  }

  volume(coefficients) {
    const volume = Float32Array.from(this.mean), size = volume.length;
    coefficients.forEach((c, j) => {
      const start = j * size;
      if (c) for (let i = 0; i < size; i++) volume[i] += c * this.components[start + i];
    });
    return volume;
  }
}

// Voxels of a mask in a cube.
export class Grid {
  constructor(entry, mask) {
    Object.assign(this, { ...entry, mask, places: Uint32Array.from(mask.keys()).filter((i) => mask[i]) });
  }

  // A cube [z, y, x] of the values inside the mask; 0 outside.
  cube(values) {
    const cube = new Float32Array(this.mask.length);
    this.places.forEach((place, i) => (cube[place] = values[i]));
    return cube;
  }

  // Distance (Å) of a voxel from the middle of the box along an axis (0: z, 1: y, 2: x).
  fromMiddle_A(axis, index) {
    return (this.corner[axis] + index - this.box / 2) * this.pixel_size_A;
  }
}

export async function load(payload) {
  const numbers = async (entry) => rows(await blob(entry.blob), entry.scales, entry.zero);
  const model = async (entry) => new Model(entry, await numbers(entry.mean), await numbers(entry.components), await numbers(entry.particles));
  const map = async (entry) => ({ ...entry, values: await numbers(entry) });
  const block = async (entry) => ({ ...entry, values: Float32Array.from(await blob(entry.blob)) });
  return {
    ...payload,
    grid: new Grid(payload.grid, await blob(payload.grid.mask)),
    models: await Promise.all(payload.models.map(model)),
    maps: await Promise.all(payload.maps.map(map)),
    blocks: await Promise.all(payload.blocks.map(block)),
  };
}

// Difference of two volumes in units of sigma, and the limit of its colours: a round number above nearly all.
export function difference(a, b, sigma) {
  const values = a.map((v, i) => (v - b[i]) / sigma), every = Math.ceil(values.length / SAMPLE);
  const sizes = values.filter((_, i) => i % every === 0).map(Math.abs).sort();
  const limit = sizes[Math.floor(0.998 * (sizes.length - 1))] || 1;
  const power = 10 ** Math.floor(Math.log10(limit));
  return { values, limit: power * [1, 2, 5, 10].find((m) => m * power >= limit) };
}
