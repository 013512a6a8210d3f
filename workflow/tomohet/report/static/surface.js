"use strict";
// Isosurfaces of 8-bit volumes [z, y, x] by surface nets: one vertex in each cell that the surface crosses,
// at the mean of the crossings on the cell's edges (Gibson 1998).
(function () {
  const CORNERS = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]];
  const EDGES = [
    [0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7],
  ];

  // Vertex of one cell, in voxels (x, y, z), or null when the surface does not cross the cell.
  function cellVertex(values, level, out) {
    let n = 0, x = 0, y = 0, z = 0;
    for (const [a, b] of EDGES) {
      const va = values[a], vb = values[b];
      if (va > level === vb > level) continue;
      const t = (level - va) / (vb - va), [ax, ay, az] = CORNERS[a], [bx, by, bz] = CORNERS[b];
      x += ax + t * (bx - ax);
      y += ay + t * (by - ay);
      z += az + t * (bz - az);
      n++;
    }
    if (!n) return false;
    out[0] = x / n;
    out[1] = y / n;
    out[2] = z / n;
    return true;
  }

  // Value of the volume between voxels.
  function sampler(volume, box) {
    const inside = (i) => Math.min(box - 1, Math.max(0, i));
    const at = (i, j, k) => volume[(inside(k) * box + inside(j)) * box + inside(i)];
    const mix = (a, b, t) => a + (b - a) * t;
    return (x, y, z) => {
      const [i, j, k] = [Math.floor(x), Math.floor(y), Math.floor(z)], [u, v, w] = [x - i, y - j, z - k];
      const plane = (l) => mix(mix(at(i, j, l), at(i + 1, j, l), u), mix(at(i, j + 1, l), at(i + 1, j + 1, l), u), v);
      return mix(plane(k), plane(k + 1), w);
    };
  }

  // Move vertices onto the surface (one Newton step along the gradient) and return their outward normals.
  function settle(volume, box, level, positions) {
    const value = sampler(volume, box), normals = new Float32Array(positions.length);
    for (let p = 0; p < positions.length; p += 3) {
      const [x, y, z] = positions.subarray(p, p + 3);
      const g = [
        value(x + 1, y, z) - value(x - 1, y, z), value(x, y + 1, z) - value(x, y - 1, z),
        value(x, y, z + 1) - value(x, y, z - 1),
      ].map((difference) => difference / 2);
      const length = Math.hypot(...g) || 1;
      const step = Math.max(-0.5, Math.min(0.5, (level - value(x, y, z)) / length));
      for (let a = 0; a < 3; a++) {
        normals[p + a] = -g[a] / length;
        positions[p + a] += (step * g[a]) / length;
      }
    }
    return normals;
  }

  // Triangles of the isosurface at `level` of a cube of edge `box`: positions (voxels), normals, indices.
  TomoHet.isosurface = function (volume, box, level) {
    const cell = new Int32Array(box * box * box).fill(-1), positions = [], indices = [];
    const values = new Float32Array(8), vertex = [0, 0, 0];
    for (let z = 0; z < box - 1; z++) {
      for (let y = 0; y < box - 1; y++) {
        for (let x = 0; x < box - 1; x++) {
          const origin = (z * box + y) * box + x;
          for (let c = 0; c < 8; c++) {
            values[c] = volume[origin + CORNERS[c][0] + box * (CORNERS[c][1] + box * CORNERS[c][2])];
          }
          if (!cellVertex(values, level, vertex)) continue;
          cell[origin] = positions.length / 3;
          positions.push(x + vertex[0], y + vertex[1], z + vertex[2]);
          quads(volume, box, level, cell, indices, x, y, z, origin);
        }
      }
    }
    const places = Float32Array.from(positions);
    return { normals: settle(volume, box, level, places), positions: places, indices: Uint32Array.from(indices) };
  };

  // The faces around the three edges that leave this cell's first corner: each joins four cells.
  function quads(volume, box, level, cell, indices, x, y, z, origin) {
    const steps = [1, box, box * box], place = [x, y, z];
    for (let axis = 0; axis < 3; axis++) {
      const [u, v] = [(axis + 1) % 3, (axis + 2) % 3];
      if (!place[u] || !place[v]) continue;
      const inside = volume[origin] > level;
      if (inside === volume[origin + steps[axis]] > level) continue;
      const a = cell[origin], b = cell[origin - steps[u]], c = cell[origin - steps[u] - steps[v]], d = cell[origin - steps[v]];
      if (inside) indices.push(a, b, c, a, c, d);
      else indices.push(a, c, b, a, d, c);
    }
  }
})();
