"use strict";
// From a hand-drawn outline to a pandas query: simplify, cut into convex parts, write each as inequalities.
// A part is a list of [a, b, c], each meaning a x + b y >= c; the outline is the union of its parts.
(function () {
  const cross = (o, p, q) => (p[0] - o[0]) * (q[1] - o[1]) - (p[1] - o[1]) * (q[0] - o[0]);
  const area = (polygon) => polygon.reduce((sum, p, i) => {
    const q = polygon[(i + 1) % polygon.length];
    return sum + p[0] * q[1] - p[1] * q[0];
  }, 0) / 2;

  // Douglas and Peucker's simplification of an open line.
  function simplify(line, tolerance) {
    if (line.length < 3) return line;
    const [a, b] = [line[0], line[line.length - 1]];
    const length = Math.hypot(b[0] - a[0], b[1] - a[1]);
    let worst = 0, at = 0;
    for (let i = 1; i < line.length - 1; i++) {
      const p = line[i];
      const d = length > 0 ? Math.abs(cross(a, b, p)) / length : Math.hypot(p[0] - a[0], p[1] - a[1]);
      if (d > worst) [worst, at] = [d, i];
    }
    if (worst <= tolerance) return [a, b];
    return [...simplify(line.slice(0, at + 1), tolerance).slice(0, -1), ...simplify(line.slice(at), tolerance)];
  }

  function hull(points) {
    const sorted = [...points].sort((p, q) => p[0] - q[0] || p[1] - q[1]);
    const half = (list) => {
      const chain = [];
      for (const p of list) {
        while (chain.length > 1 && cross(chain[chain.length - 2], chain[chain.length - 1], p) <= 0) chain.pop();
        chain.push(p);
      }
      return chain.slice(0, -1);
    };
    return [...half(sorted), ...half(sorted.reverse())];
  }

  function crosses(a, b, c, d) {
    return cross(a, b, c) * cross(a, b, d) < 0 && cross(c, d, a) * cross(c, d, b) < 0;
  }

  function crossesItself(polygon) {
    const n = polygon.length;
    for (let i = 0; i < n; i++) {
      for (let j = i + 1; j < n; j++) {
        if (crosses(polygon[i], polygon[(i + 1) % n], polygon[j], polygon[(j + 1) % n])) return true;
      }
    }
    return false;
  }

  // The outline of a lasso as a simple, counter-clockwise polygon of at most `most` corners.
  function outline(points, tolerance, most = 14) {
    let polygon = points;
    for (let t = tolerance; ; t *= 1.4) {
      polygon = simplify([...points, points[0]], t).slice(0, -1);
      if (polygon.length <= most) break;
    }
    if (polygon.length < 3 || crossesItself(polygon)) polygon = hull(points);
    return area(polygon) < 0 ? polygon.reverse() : polygon;
  }

  const inTriangle = (p, a, b, c) => cross(a, b, p) >= 0 && cross(b, c, p) >= 0 && cross(c, a, p) >= 0;

  // Ear clipping: triangles of a simple counter-clockwise polygon, as lists of corner numbers.
  function triangles(polygon) {
    const left = polygon.map((_, i) => i), found = [];
    while (left.length > 3) {
      const ear = left.findIndex((v, i) => {
        const u = left[(i + left.length - 1) % left.length], w = left[(i + 1) % left.length];
        const [a, b, c] = [polygon[u], polygon[v], polygon[w]];
        return cross(a, b, c) > 0 && !left.some((k) => k !== u && k !== v && k !== w && inTriangle(polygon[k], a, b, c));
      });
      const i = Math.max(ear, 0);
      found.push([left[(i + left.length - 1) % left.length], left[i], left[(i + 1) % left.length]]);
      left.splice(i, 1);
    }
    return [...found, left];
  }

  // Join two counter-clockwise parts along a shared edge; null when they share none.
  function join(p, q) {
    for (let i = 0; i < p.length; i++) {
      for (let j = 0; j < q.length; j++) {
        if (p[i] === q[(j + 1) % q.length] && p[(i + 1) % p.length] === q[j]) {
          const turn = (list, start) => [...list.slice(start), ...list.slice(0, start)];
          return [...turn(p, (i + 1) % p.length), ...turn(q, (j + 1) % q.length).slice(1, -1)];
        }
      }
    }
    return null;
  }

  // Hertel and Mehlhorn: merge triangles while the union stays convex.
  function convexParts(polygon) {
    const convex = (part) => part.every((v, i) =>
      cross(polygon[v], polygon[part[(i + 1) % part.length]], polygon[part[(i + 2) % part.length]]) >= 0);
    const parts = triangles(polygon);
    for (let merged = true; merged; ) {
      merged = false;
      search: for (let i = 0; i < parts.length; i++) {
        for (let j = i + 1; j < parts.length; j++) {
          const union = join(parts[i], parts[j]);
          if (union && convex(union)) {
            parts.splice(j, 1);
            parts[i] = union;
            merged = true;
            break search;
          }
        }
      }
    }
    return parts.map((part) => part.map((v) => polygon[v]));
  }

  // Inequalities of a convex counter-clockwise polygon, rounded as they will be written. Taken at the middle
  // of an edge, so that parts on both sides of a cut get the same line and no particle falls between them.
  function inequalities(part) {
    return part.map((p, i) => {
      const q = part[(i + 1) % part.length];
      const a = p[1] - q[1], b = q[0] - p[0], size = Math.max(Math.abs(a), Math.abs(b)) || 1;
      const [ra, rb] = [a / size, b / size].map((v) => Number(v.toPrecision(4)));
      return [ra, rb, Number(((ra * (p[0] + q[0]) + rb * (p[1] + q[1])) / 2).toPrecision(6))];
    });
  }

  const column = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : `\`${name}\``);
  const term = (factor, name) => (factor === 1 ? column(name) : `${factor}*${column(name)}`);

  // One inequality as pandas reads it, with a positive first factor.
  function inequalityText([a, b, c], x, y) {
    const turn = a < 0 || (a === 0 && b < 0) ? -1 : 1, sign = turn > 0 ? ">=" : "<=";
    [a, b, c] = [a * turn, b * turn, c * turn];
    if (b === 0) return `${column(x)} ${sign} ${c / a}`;
    if (a === 0) return `${column(y)} ${sign} ${c / b}`;
    return `${term(a, x)} ${b < 0 ? "-" : "+"} ${term(Math.abs(b), y)} ${sign} ${c}`;
  }

  TomoHet.lasso = {
    column,
    // The parts (inequalities) and the drawn polygon of a lasso; tolerance in the units of the points.
    fromPoints(points, tolerance) {
      const polygon = outline(points, tolerance);
      return { polygon, parts: convexParts(polygon).map(inequalities) };
    },
    fromPolygon: (polygon) => ({ polygon, parts: convexParts(polygon).map(inequalities) }),
    contains: (parts, x, y) => parts.some((part) => part.every(([a, b, c]) => a * x + b * y >= c)),
    query(parts, x, y) {
      const texts = parts.map((part) => part.map((row) => inequalityText(row, x, y)).join(" and "));
      return texts.length > 1 ? texts.map((text) => `(${text})`).join(" or ") : texts[0];
    },
  };
})();
