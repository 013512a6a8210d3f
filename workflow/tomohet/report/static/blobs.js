"use strict";
// Arrays of the page: base64 of deflated little-endian numbers, decoded when first asked for.
const TomoHet = {};

(function () {
  const KINDS = { f4: Float32Array, u1: Uint8Array, i2: Int16Array, i4: Int32Array };
  const decoded = new Map();

  async function decode(element) {
    const coded = atob(element.textContent);
    const bytes = Uint8Array.from(coded, (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new KINDS[element.dataset.kind](await new Response(stream).arrayBuffer());
  }

  // A promise of the typed array stored under `id`.
  TomoHet.blob = function (id) {
    if (!decoded.has(id)) decoded.set(id, decode(document.getElementById(id)));
    return decoded.get(id);
  };

  // The JSON stored in the script element `id`.
  TomoHet.json = (id) => JSON.parse(document.getElementById(id).textContent);

  // A new element with attributes, properties named on..., and children.
  TomoHet.element = function (tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  // A number as people write it: four significant digits, no needless zeros.
  TomoHet.number = function (value) {
    if (value == null || Number.isNaN(value)) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-3) return value.toExponential(2);
    return String(Number(value.toPrecision(4)));
  };

  // Copy text and say so on the button that was pressed.
  TomoHet.copy = async function (text, button) {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages opened from disk may not use the clipboard: select the text for the user instead.
      const area = TomoHet.element("textarea", { class: "offscreen" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1400);
  };

  // Keep following a pressed pointer outside its element. Events made by a script have no pointer to follow.
  TomoHet.capture = (event) => event.isTrusted && event.target.setPointerCapture(event.pointerId);

  // A value of the page's colour scheme, e.g. style("ink").
  TomoHet.style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // Call `redraw` whenever the element's size, the colour scheme or the print layout changes.
  TomoHet.onLayout = function (element, redraw) {
    let waiting = 0;
    const soon = () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(redraw);
    };
    new ResizeObserver(soon).observe(element);
    document.addEventListener("schemechange", soon);
  };
})();
