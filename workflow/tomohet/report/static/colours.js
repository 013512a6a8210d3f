"use strict";
// Colours: one categorical palette, viridis for amounts, blue-white-red for differences.
(function () {
  const CATEGORIES = [
    "#3b7dd8", "#e58a1f", "#2fa36b", "#d1495b", "#8e6bc9", "#17a2b8", "#b8860b", "#e377a2",
    "#5c6f82", "#7aa21d", "#a0522d", "#4b4fa8", "#c44fb0", "#00806b", "#d9642c", "#6b8e9e",
    "#9b2d4f", "#4c9a2a", "#7b5ea7", "#c9a227",
  ];
  const VIRIDIS = [
    [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140],
    [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37],
  ];
  const BLUES = [
    [247, 250, 253], [222, 235, 247], [198, 219, 239], [158, 202, 225], [107, 174, 214], [66, 146, 198],
    [33, 113, 181], [8, 81, 156], [8, 48, 107],
  ];
  const DIVERGING = [
    [33, 85, 160], [74, 135, 196], [146, 186, 222], [209, 225, 238], [243, 243, 243], [247, 217, 203],
    [236, 161, 134], [209, 94, 82], [165, 28, 48],
  ];

  const hex = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const css = (rgb) => `rgb(${rgb.join(" ")})`;

  // Colour of a fraction in 0..1 along a list of stops, as [r, g, b].
  function along(stops, fraction) {
    const place = Math.max(0, Math.min(1, fraction)) * (stops.length - 1);
    const lower = Math.min(Math.floor(place), stops.length - 2);
    return stops[lower].map((v, i) => Math.round(v + (stops[lower + 1][i] - v) * (place - lower)));
  }

  TomoHet.colours = {
    css,
    along,
    category: (code) => (code < 0 ? [150, 150, 150] : hex(CATEGORIES[code % CATEGORIES.length])),
    viridis: (fraction) => along(VIRIDIS, fraction),
    blues: (fraction) => along(BLUES, fraction),
    diverging: (fraction) => along(DIVERGING, fraction),
    hex,
    gradient: (scale) =>
      `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((f) => css(scale(f))).join(", ")})`,
  };
})();
