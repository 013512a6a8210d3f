"""config/README.md: every key of the configuration, written from the options.

`python -m tomohet.rounds.reference > config/README.md`
"""

import re

from tomohet.options.schema import read_schema
from tomohet.rounds.schema import keys_of, stages

HEAD = """# The configuration

One YAML file describes a dataset and its tree of rounds. `config.yaml` is the demo; `examples/` holds others.
Run another one with `snakemake --cores all --configfile FILE`; it replaces the demo's wholly.
A mistake in it is reported before anything runs, with all others.

`make config-readme` writes this page from `workflow/tomohet/options`.

## The dataset
"""
ROUNDS_HEAD = """## rounds

A tree: each entry is a name and what differs in this round. Names are letters, digits, `-`, `_` and `.`.

```yaml
rounds:
  all: {}
  bound:   {parent: all, select: "maven_A > 0.5"}
  unbound: {parent: all, select: "maven_A <= 0.5", train: {epochs: 20}}
  class_a: {parent: bound, select: "kmeans in [0, 2]"}
  trial:   {parent: all, exclude: bad.txt, tomograms: [TS_0*], min_confidence: 0.5, sample: 500}
```

A query names columns of the parent's particle table, `results/<dataset>/<parent>/particles.parquet`;
`tomohet select TABLE --query QUERY --explain` says how many particles each of its conditions keeps, and how
many of each tomogram, state and cluster are left. Its options are the keys below
([how to choose the particles of a round](../docs/howto/rounds.md)).
Of the linear model there are `linear_z1`, `linear_z2`, ..., its latents in standard deviations, the one with
the most power in the maps first, and `linear_confidence`, 0 to 1: the share of what distinguishes a particle
that its own images have settled. `linear_confidence > 0.5` leaves out particles of few or noisy tilts, whose
place is more the mean's than their own.
A round without a parent selects from all particles of the dataset.
Changing a round runs that round and its children again, and nothing else.

"""
OVERRIDES = """
Besides, a round takes any of the sections {sections}; their keys override those of the dataset.
"""
FLAG = re.compile(r"--([a-z][a-z0-9-]*)")
TABLE_HEAD = "| key | default | unit | meaning |\n|---|---|---|---|\n"


def reference_page() -> str:
    """Return the page as Markdown text."""
    properties = read_schema()["properties"]
    plain = {name: node for name, node in properties.items() if name not in (*stages(), "rounds")}
    parts = [HEAD, "\n", _table(plain)]
    for stage in stages():
        parts.append(f"\n## {stage}\n\n{properties[stage]['description']}\n\n{_table(keys_of(stage))}")
    of_round = properties["rounds"]["additionalProperties"]["properties"]
    sections = ", ".join(f"`{name}`" for name in of_round if name in stages())
    own = {name: node for name, node in of_round.items() if name not in stages()}
    parts += ["\n", ROUNDS_HEAD, _table(own), OVERRIDES.format(sections=sections)]
    return "".join(parts)


def _table(keys: dict[str, dict]) -> str:
    return TABLE_HEAD + "".join(_row(name, node) for name, node in keys.items())


def _row(name: str, node: dict) -> str:
    default = "required" if "default" not in node else f"`{_shown(node['default'])}`"
    choices = [str(choice) for choice in node.get("enum", []) if choice is not None and choice is not False]
    meaning = FLAG.sub(lambda flag: f"`{flag[1].replace('-', '_')}`", node["description"])
    meaning += f" One of {', '.join(choices)}." if choices else ""
    return f"| `{name}` | {default} | {node.get('unit', '')} | {meaning} |\n"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(reference_page(), end="")
