"""The page's script: JavaScript modules joined into one, each in a function of its own."""

import re
from importlib import resources

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+)\.js";\n', re.M)
EXPORT = re.compile(r"^export (?=(?:async function|function|class|const|let) ([A-Za-z_]\w*))", re.M)
START, SERVED = "page", "served"  # the second of a page that a server has written


def bundle(served: bool = False) -> str:
    """Return the script of the page: what `page.js` imports, before what imports it.

    A module becomes `TomoHet.modules.name = (() => { ...; return { exports }; })();`, and `import { a } from
    "./name.js"` becomes `const { a } = TomoHet.modules.name`.

    Raises ValueError when modules import each other in a circle, or in words other than these.
    """
    parts = ['"use strict";\nwindow.TomoHet = { modules: {} };\n']
    names = in_order(START)
    if served:
        names += [name for name in in_order(SERVED) if name not in names]
    parts += [_module(name) for name in names]
    return "".join(parts)


def in_order(start: str, above: tuple[str, ...] = ()) -> list[str]:
    """List the modules that `start` imports, each after those that it imports itself, and `start` last."""
    if start in above:
        raise ValueError(f"modules import each other: {' > '.join((*above, start))}")
    names: list[str] = []
    for _, wanted in IMPORT.findall(_source(start)):
        names += [name for name in in_order(wanted, (*above, start)) if name not in names]
    return [*names, start]


def _module(name: str) -> str:
    text = IMPORT.sub(lambda m: f"const {{{m[1]}}} = TomoHet.modules.{m[2]};\n", _source(name))
    exported = EXPORT.findall(text)
    text = EXPORT.sub("", text)
    if re.search(r"^(import|export)\b", text, re.M):
        raise ValueError(
            f'{name}.js: imports read `import {{ a }} from "./b.js";`, exports stand before a name'
        )
    return f"TomoHet.modules.{name} = (() => {{\n{text}return {{ {', '.join(exported)} }};\n}})();\n"


def _source(name: str) -> str:
    return (resources.files(__package__) / "static" / f"{name}.js").read_text()
