// Shaded triangles on a 2-D canvas with a depth buffer: no WebGL, hence the same picture on a cluster's
// remote desktop, on paper and in a headless browser.
const LIGHT = [-0.42, -0.52, -0.74], FILL = [0.75, 0.2, -0.63];

// Rotation after dragging by (dx, dy) pixels.
export function turned(rotation, dx, dy) {
  const [a, b] = [dx * 0.01, dy * 0.01];
  const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
  const about = [[ca, 0, sa], [sa * sb, cb, -ca * sb], [-sa * cb, sb, ca * cb]];
  return about.map((row) => [0, 1, 2].map((j) => row[0] * rotation[0][j] + row[1] * rotation[1][j] + row[2] * rotation[2][j]));
}

export class Raster {
  constructor(size) {
    this.size = size;
    this.image = new ImageData(size, size);
    this.depth = new Float32Array(size * size).fill(Infinity);
  }

  // Screen places (px), depths and shades of a mesh's vertices. Smaller depth is nearer. The camera looks at its
  // `centre` [x, y, z], or at the box's middle.
  project(mesh, camera, box) {
    const { rotation: r, zoom } = camera, n = mesh.positions.length / 3;
    const scale = (this.size * zoom) / box, [cx, cy, cz] = camera.centre || [0, 1, 2].map(() => (box - 1) / 2);
    const places = new Float32Array(3 * n), shades = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const p = 3 * i;
      const [x, y, z] = [mesh.positions[p] - cx, mesh.positions[p + 1] - cy, mesh.positions[p + 2] - cz];
      for (let a = 0; a < 3; a++) places[p + a] = r[a][0] * x + r[a][1] * y + r[a][2] * z;
      const [nx, ny, nz] = [0, 1, 2].map((a) => r[a][0] * mesh.normals[p] + r[a][1] * mesh.normals[p + 1] + r[a][2] * mesh.normals[p + 2]);
      const key = Math.max(0, nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2]);
      const fill = Math.max(0, nx * FILL[0] + ny * FILL[1] + nz * FILL[2]);
      // Distant parts are dimmer, so that depth is seen without stereo.
      const fog = 1 - 0.32 * Math.max(0, Math.min(1, places[p + 2] / box + 0.45));
      shades[i] = (0.3 + 0.66 * key + 0.16 * fill) * fog;
      places[p] = this.size / 2 + places[p] * scale;
      places[p + 1] = this.size / 2 + places[p + 1] * scale;
    }
    return { places, shades };
  }

  // Draw a mesh; `colours` holds [r, g, b] per vertex, or is one colour for all.
  mesh(mesh, camera, box, colours) {
    const { places, shades } = this.project(mesh, camera, box);
    const { indices } = mesh, each = colours.length > 3;
    for (let t = 0; t < indices.length; t += 3) {
      this.triangle(places, shades, colours, each, indices[t], indices[t + 1], indices[t + 2]);
    }
  }

  triangle(places, shades, colours, each, a, b, c) {
    const { size, depth } = this, pixels = this.image.data;
    const ax = places[3 * a], ay = places[3 * a + 1], bx = places[3 * b], by = places[3 * b + 1];
    const cx = places[3 * c], cy = places[3 * c + 1];
    const area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
    if (area === 0) return;
    const x0 = Math.max(0, Math.ceil(Math.min(ax, bx, cx))), x1 = Math.min(size - 1, Math.floor(Math.max(ax, bx, cx)));
    const y0 = Math.max(0, Math.ceil(Math.min(ay, by, cy))), y1 = Math.min(size - 1, Math.floor(Math.max(ay, by, cy)));
    for (let y = y0; y <= y1; y++) {
      for (let x = x0; x <= x1; x++) {
        const u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area;
        const v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area;
        const w = 1 - u - v;
        if (u < -1e-4 || v < -1e-4 || w < -1e-4) continue;
        const z = u * places[3 * a + 2] + v * places[3 * b + 2] + w * places[3 * c + 2];
        const at = y * size + x;
        if (z >= depth[at]) continue;
        depth[at] = z;
        const shade = u * shades[a] + v * shades[b] + w * shades[c];
        for (let k = 0; k < 3; k++) {
          const base = each ? u * colours[3 * a + k] + v * colours[3 * b + k] + w * colours[3 * c + k] : colours[k];
          pixels[4 * at + k] = base * shade;
        }
        pixels[4 * at + 3] = 255;
      }
    }
  }

  // Put the picture on a canvas, scaled to it; `alpha` < 1 for a ghost.
  show(canvas, alpha = 1) {
    const buffer = new OffscreenCanvas(this.size, this.size);
    buffer.getContext("2d").putImageData(this.image, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.globalAlpha = alpha;
    context.drawImage(buffer, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
  }
}

// Pieces inside a ghost of a whole: in front of it, so that their colours are those of the legend, and under a
// breath of it, so that they seem to lie inside.
export function showInside(canvas, whole, pieces) {
  whole.show(canvas, 0.34);
  pieces.show(canvas);
  whole.show(canvas, 0.1);
}

export const START = turned([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 55, 30);
