// Turning and zooming of a 3-D view by pointer, wheel and keys. The view has `camera`, `turn` and `redraw`.
import { capture } from "./dom.js";

export function steer(canvas, view) {
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    capture(event);
    last = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    view.turn(event.clientX - last[0], event.clientY - last[1]);
    last = [event.clientX, event.clientY];
  });
  const stop = () => {
    if (!last) return;
    last = null;
    view.redraw();
  };
  canvas.addEventListener("pointerup", stop);
  canvas.addEventListener("pointercancel", stop);
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };
    if (moves[event.key]) view.turn(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") view.camera.zoom *= 1.1;
    else if (event.key === "-") view.camera.zoom /= 1.1;
    else return;
    event.preventDefault();
    view.redraw();
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    view.camera.zoom *= event.deltaY > 0 ? 1 / 1.08 : 1.08;
    view.redraw(true);
  }, { passive: false });
}
