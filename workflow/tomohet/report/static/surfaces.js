// Isosurfaces made beside the page, in a worker whose source is a function of this page: the file needs no other
// file. Where a browser forbids such a worker, the page makes them itself.
import { isosurface, surfaceMaker } from "./surface.js";

const WORK = `"use strict"; const isosurface = (${surfaceMaker})();
  onmessage = ({ data: { id, volume, box, level } }) => {
    const mesh = isosurface(volume, box, level);
    postMessage({ id, mesh }, [mesh.positions.buffer, mesh.normals.buffer, mesh.indices.buffer]);
  };`;
const waiting = new Map();
let worker = null, tried = false, atOnce = false, last = 0;

const here = ({ volume, box, level }) => isosurface(volume, box, level);

// The page makes what the worker has not finished.
function takeOver() {
  for (const { task, done } of waiting.values()) done(here(task));
  waiting.clear();
}

// While `on`, the page makes every surface itself, before it goes on.
export function surfacesAtOnce(on) {
  atOnce = on;
  if (on) takeOver();
}

function start() {
  tried = true;
  try {
    worker = new Worker(URL.createObjectURL(new Blob([WORK], { type: "text/javascript" })));
    worker.onerror = (event) => {
      event.preventDefault();
      worker = null;
      takeOver();
    };
    worker.onmessage = ({ data: { id, mesh } }) => {
      waiting.get(id)?.done(mesh);
      waiting.delete(id);
    };
  } catch {
    worker = null;
  }
}

// A promise of the isosurface of a cube of edge `box`: positions (voxels), normals, indices.
export function surfaceOf(volume, box, level) {
  if (!tried && !atOnce) start();
  const task = { id: ++last, volume, box, level };
  if (!worker || atOnce) return Promise.resolve(here(task));
  return new Promise((done) => {
    waiting.set(task.id, { task, done });
    worker.postMessage(task);
  });
}

export const inWorker = () => Boolean(worker);
