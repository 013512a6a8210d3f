// Isosurfaces of volumes [z, y, x] by surface nets: one vertex in each cell that the surface crosses, at the
// mean of the crossings on the cell's edges (Gibson 1998). The function is also the source of the page's worker
// (`surfaces.js`): it uses nothing from outside.
export function surfaceMaker() {
  // Corner c of a cell is at (c & 1, c >> 1 & 1, c >> 2); an edge joins corners that differ in one bit.
  const EDGES = [1, 2, 4].flatMap((bit) => [0, 1, 2, 3, 4, 5, 6, 7].filter((c) => !(c & bit)).map((c) => [c, c | bit]));
  const FROM = Uint8Array.from(EDGES, (e) => e[0]), TO = Uint8Array.from(EDGES, (e) => e[1]);

  // Mean of the crossings on a cell's edges, in voxels from its first corner, as [x, y, z] in `out`.
  function cellVertex(values, level, out) {
    let n = 0, x = 0, y = 0, z = 0;
    for (let e = 0; e < 12; e++) {
      const a = FROM[e], b = TO[e], va = values[a], vb = values[b];
      if (va > level === vb > level) continue;
      const t = (level - va) / (vb - va), bit = b - a;
      x += (a & 1) + (bit === 1 ? t : 0);
      y += ((a >> 1) & 1) + (bit === 2 ? t : 0);
      z += (a >> 2) + (bit === 4 ? t : 0);
      n++;
    }
    out[0] = x / n;
    out[1] = y / n;
    out[2] = z / n;
  }

  // Value of the volume between voxels; beyond its faces, that of the face.
  function sampler(volume, box) {
    const last = box - 1;
    const row = (start, i, u) => volume[start + i] + (volume[start + (i < last ? i + 1 : i)] - volume[start + i]) * u;
    return (x, y, z) => {
      x = Math.min(last, Math.max(0, x));
      y = Math.min(last, Math.max(0, y));
      z = Math.min(last, Math.max(0, z));
      const i = x | 0, j = y | 0, k = z | 0, u = x - i, v = y - j, w = z - k;
      const up = j < last ? box : 0, on = k < last ? box * box : 0, start = (k * box + j) * box;
      const near = row(start, i, u) + (row(start + up, i, u) - row(start, i, u)) * v;
      const far = row(start + on, i, u) + (row(start + on + up, i, u) - row(start + on, i, u)) * v;
      return near + (far - near) * w;
    };
  }

  // Move vertices onto the surface (one Newton step along the gradient) and return their outward normals.
  function settle(volume, box, level, positions) {
    const value = sampler(volume, box), normals = new Float32Array(positions.length);
    for (let p = 0; p < positions.length; p += 3) {
      const x = positions[p], y = positions[p + 1], z = positions[p + 2];
      const gx = (value(x + 1, y, z) - value(x - 1, y, z)) / 2;
      const gy = (value(x, y + 1, z) - value(x, y - 1, z)) / 2;
      const gz = (value(x, y, z + 1) - value(x, y, z - 1)) / 2;
      const length = Math.sqrt(gx * gx + gy * gy + gz * gz) || 1;
      const step = Math.max(-0.5, Math.min(0.5, (level - value(x, y, z)) / length));
      normals.set([-gx / length, -gy / length, -gz / length], p);
      positions[p] += (step * gx) / length;
      positions[p + 1] += (step * gy) / length;
      positions[p + 2] += (step * gz) / length;
    }
    return normals;
  }

  // Triangles of the isosurface at `level` of a cube of edge `box`: positions (voxels), normals, indices.
  function isosurface(volume, box, level) {
    const cell = new Int32Array(box * box * box).fill(-1), positions = [], indices = [];
    const values = new Float32Array(8), vertex = [0, 0, 0];
    const offsets = Int32Array.from(values, (_, c) => (c & 1) + box * (((c >> 1) & 1) + box * (c >> 2)));
    for (let z = 0; z < box - 1; z++) {
      for (let y = 0; y < box - 1; y++) {
        for (let x = 0; x < box - 1; x++) {
          const origin = (z * box + y) * box + x;
          let inside = 0;
          for (let c = 0; c < 8; c++) {
            values[c] = volume[origin + offsets[c]];
            if (values[c] > level) inside++;
          }
          if (inside === 0 || inside === 8) continue;
          cellVertex(values, level, vertex);
          cell[origin] = positions.length / 3;
          positions.push(x + vertex[0], y + vertex[1], z + vertex[2]);
          quads(volume, box, level, cell, indices, x, y, z, origin);
        }
      }
    }
    const places = Float32Array.from(positions);
    return { normals: settle(volume, box, level, places), positions: places, indices: Uint32Array.from(indices) };
  }

  // The faces around the three edges that leave this cell's first corner: each joins four cells.
  function quads(volume, box, level, cell, indices, x, y, z, origin) {
    const inside = volume[origin] > level, plane = box * box;
    const quad = (along, u, v) => {
      if (inside === volume[origin + along] > level) return;
      const a = cell[origin], b = cell[origin - u], c = cell[origin - u - v], d = cell[origin - v];
      if (inside) indices.push(a, b, c, a, c, d);
      else indices.push(a, c, b, a, d, c);
    };
    if (y && z) quad(1, box, plane);
    if (z && x) quad(box, plane, 1);
    if (x && y) quad(plane, 1, box);
  }

  return isosurface;
}

export const isosurface = surfaceMaker();
