import js from "@eslint/js";
import globals from "globals";

const modules = { languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.browser } };
// Scripts that are no modules yet: they find their functions on the page's TomoHet object.
const classic = ["heatmap", "surface", "raster", "viewer"].map((name) => `workflow/tomohet/report/static/${name}.js`);

export default [
  js.configs.recommended,
  { files: ["workflow/tomohet/report/static/*.js"], ...modules, rules: { eqeqeq: ["error", "always", { null: "ignore" }], "prefer-const": "error", "max-lines": ["error", 250] } },
  { files: classic, languageOptions: { sourceType: "script", globals: { ...globals.browser, TomoHet: "readonly" } }, rules: { "max-lines": "off", "no-unused-vars": "off" } },
  { files: ["tests/javascript/*.js"], languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.node } },
];
