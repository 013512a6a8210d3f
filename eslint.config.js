import js from "@eslint/js";
import globals from "globals";

const modules = { languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.browser } };
export default [
  js.configs.recommended,
  { files: ["workflow/tomohet/report/static/*.js"], ...modules, rules: { eqeqeq: ["error", "always", { null: "ignore" }], "prefer-const": "error", "max-lines": ["error", 250] } },
  { files: ["tests/javascript/*.js"], languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.node } },
];
