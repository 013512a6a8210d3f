// Where to look at a cube of voxels: camera, width of sections, their point; and ranges of values.

export function quantile(values, fraction) {
  return Float32Array.from(values).sort()[Math.round(fraction * (values.length - 1))];
}

// Where to look, [x, y, z], and how near, to have all voxels above a level in view; and the width of sections.
export function fitted(cube, edge, level) {
  const sum = [0, 0, 0], place = (i) => [i % edge, Math.floor(i / edge) % edge, Math.floor(i / (edge * edge))];
  const inside = [...cube.keys()].filter((i) => cube[i] > level);
  inside.forEach((i) => place(i).forEach((v, a) => (sum[a] += v)));
  const centre = inside.length ? sum.map((v) => v / inside.length) : sum.map(() => (edge - 1) / 2);
  const far = inside.reduce((most, i) => Math.max(most, Math.hypot(...place(i).map((v, a) => v - centre[a]))), 1);
  const aside = Math.max(...centre.map((v) => Math.abs(v - (edge - 1) / 2)));
  return { centre, zoom: Math.max(1, Math.min(4, (0.42 * edge) / far)), side: Math.min(edge, 2 * Math.ceil(1.1 * far + aside)) };
}

// The voxel whose difference is largest in sum with its six neighbours.
export function tellingPoint(cube, edge) {
  const middle = Math.floor(edge / 2);
  let most = 0, point = [middle, middle, middle];
  for (let z = 1; z < edge - 1; z++) {
    for (let y = 1; y < edge - 1; y++) {
      for (let x = 1; x < edge - 1; x++) {
        const at = (z * edge + y) * edge + x;
        const sum = Math.abs(cube[at - 1] + cube[at] + cube[at + 1] + cube[at - edge] + cube[at + edge] + cube[at - edge * edge] + cube[at + edge * edge]);
        if (sum > most) [most, point] = [sum, [z, y, x]];
      }
    }
  }
  return point;
}
