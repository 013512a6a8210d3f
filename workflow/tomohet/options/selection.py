"""Which particles a round has: the same options of `tomohet select` and keys of a round."""

from pathlib import Path

from tomohet.options.base import Options, option
from tomohet.options.kinds import NumberOrText

FILES = (".pkl", ".txt", ".csv")


def is_particle_list(text: str) -> bool:
    """Tell whether a text that is a query or a file of particles names a file."""
    return text.strip().lower().endswith(FILES)


class Selection(Options):
    """Particles by a file, and what narrows a selection down; applied in the order of the fields.

    The query itself is an option of its own: `select` of a round, `--query` of the command.
    """

    section = "selection"
    indices: Path | None = option(
        None,
        "Instead of a query, a file of particles: a .pkl or .txt of their numbers (column particle of the "
        "table, one a line in a .txt), or a .csv with a column particle or source_id.",
        metavar="FILE",
    )
    labels: Path | None = option(
        None,
        "Instead of a query, a file of labels, of which keep names some: a .pkl or .txt with one label for "
        "each row of the table in its order, or a .csv with columns particle or source_id, and label.",
        metavar="FILE",
    )
    keep: tuple[NumberOrText, ...] | None = option(
        None, "Labels whose particles are kept.", metavar="LABEL", min_length=1
    )
    tomograms: tuple[str, ...] | None = option(
        None,
        "Only particles of these tomograms: names with or without their extension, or patterns such as "
        "TS_0*.",
        metavar="NAME",
        min_length=1,
    )
    exclude: str | None = option(
        None, "Particles to leave out: a query, or a file as of indices.", metavar="QUERY|FILE"
    )
    min_confidence: float | None = option(
        None,
        "Least confidence of a particle, 0 to 1. Of each column that a query names, its own confidence "
        "counts, as state_probability of state; without one, linear_confidence.",
        metavar="SHARE",
        ge=0,
        le=1,
    )
    sample: int | None = option(
        None, "Only so many of the particles that are left, drawn at random.", metavar="N", ge=1
    )
    sample_seed: int = option(0, "Seed of sample.", metavar="SEED", ge=0)
