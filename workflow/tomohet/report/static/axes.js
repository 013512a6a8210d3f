// Ticks at round numbers, and the map from data to pixels that all plots share.
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

// Ticks as text, with just the digits that tell them apart.
function tickTexts(values) {
  const largest = Math.max(...values.map(Math.abs)), step = Math.abs(values[1] - values[0]) || largest || 1;
  // 2.5 and 0.25 need a digit more than their power of ten tells.
  const power = Math.floor(Math.log10(step) + 1e-9), digits = Number.isInteger(Number((step / 10 ** power).toPrecision(6))) ? 0 : 1;
  const decimals = Math.max(0, digits - power);
  const text = (v) => {
    if (largest >= 1e6 || largest < 1e-3) {
      return v === 0 ? "0" : v.toExponential(Math.max(0, digits + Math.floor(Math.log10(Math.abs(v)) + 1e-9) - power)).replace("e+", "e");
    }
    return v.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  };
  return values.map((v) => text(v).replace(/^-/, "−"));
}

// Range of finite values with a margin on both sides; [0, 1] when there are none.
export function range(values, margin = 0) {
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

// Round ticks with their texts: [[value, text], ...]; of whole numbers only, if asked for.
export function labelledTicks(low, high, count, whole = false) {
  const values = ticks(low, high, count).filter((v) => !whole || Number.isInteger(v)), texts = tickTexts(values);
  return values.map((v, i) => [v, texts[i]]);
}
