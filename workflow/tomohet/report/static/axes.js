"use strict";
// Ticks at round numbers, and the map from data to pixels that all plots share.
(function () {
  // Round tick values within [low, high], about `count` of them.
  function ticks(low, high, count = 5) {
    const span = high - low;
    if (!(span > 0)) return [low];
    const rough = span / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= rough);
    const values = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
      values.push(Number((i * step).toPrecision(12)));
    }
    return values;
  }

  // Ticks as text with just the decimals they need.
  function tickText(value) {
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(1).replace("e+", "e");
    return value.toLocaleString("en", { maximumFractionDigits: 4 }).replace("-", "−");
  }

  // Range of finite values with a margin on both sides; [0, 1] when there are none.
  function range(values, margin = 0) {
    let low = Infinity, high = -Infinity;
    for (const v of values) {
      if (Number.isFinite(v)) {
        if (v < low) low = v;
        if (v > high) high = v;
      }
    }
    if (low > high) return [0, 1];
    const pad = (high - low || Math.abs(high) || 1) * margin;
    return [low - pad, high + pad];
  }

  TomoHet.axes = { ticks, tickText, range };
})();
