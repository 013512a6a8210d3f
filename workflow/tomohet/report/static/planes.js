// Pictures of a cube [z, y, x]: sections and projections of its middle `side` rows and columns.
// For each normal (0: z, 1: y, 2: x): the axes of the picture's rows and columns.
export const ACROSS = [[1, 2], [0, 2], [0, 1]];

// An image whose pixel is `paint(voxel, step)`: [r, g, b] from the first voxel along the normal, and the step
// from there to the next.
function image(edge, side, axis, paint) {
  const made = new ImageData(side, side), steps = [edge * edge, edge, 1], [down, right] = ACROSS[axis];
  const start = Math.floor((edge - side) / 2);
  for (let i = 0; i < side; i++) {
    for (let j = 0; j < side; j++) {
      const [r, g, b] = paint((start + i) * steps[down] + (start + j) * steps[right], steps[axis]);
      made.data.set([r, g, b, 255], 4 * (i * side + j));
    }
  }
  return made;
}

// The section at `index`; `paint` turns a voxel's index into [r, g, b].
export const section = (edge, side, axis, index, paint) => image(edge, side, axis, (voxel, step) => paint(voxel + index * step));

// The mean along the normal of `value(voxel)`; `shade` turns it into [r, g, b].
export function projection(edge, side, axis, value, shade) {
  return image(edge, side, axis, (voxel, step) => {
    let sum = 0;
    for (let k = 0; k < edge; k++) sum += value(voxel + k * step);
    return shade(sum / edge);
  });
}
