// Colour scales whose neutral end is near the page's paper, light or dark, so that figures do not glow at night.
import { along, blues, diverging, isDark } from "./colours.js";

const DARK_BLUES = [[30, 38, 48], [24, 56, 92], [26, 82, 134], [44, 116, 178], [92, 158, 212], [156, 202, 236], [222, 240, 252]];
const DARK_DIVERGING = [[142, 190, 250], [74, 140, 214], [42, 84, 136], [36, 52, 74], [34, 40, 48], [84, 46, 42], [150, 64, 52], [222, 104, 86], [255, 176, 160]];

export const bluesOf = (fraction) => (isDark() ? along(DARK_BLUES, fraction) : blues(fraction));
export const divergingOf = (fraction) => (isDark() ? along(DARK_DIVERGING, fraction) : diverging(fraction));
