"""The tree of rounds as a figure: a box for each round, from the whole dataset on the left to its subsets."""

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tomohet import plots
from tomohet.rounds.layout import (
    CLASSES_SUPPORT,
    CLUSTERS_SUPPORT,
    CONVERGENCE,
    LINEAR,
    STATES,
    STATES_SUPPORT,
    SUPPORT,
)
from tomohet.rounds.lineage import depths

BOX_WIDTH, COLUMN_WIDTH = 2.5, 4.4  # inches: of a box, and from a round to its children
ROW_HEIGHT, LINE_HEIGHT = 1.85, 0.17  # inches: of a round without children, and of a line of text
CHARACTERS, QUERY_CHARACTERS = 36, 26  # in a line of a box, and of a query
SHOWN = (SUPPORT, LINEAR, STATES, STATES_SUPPORT, CONVERGENCE, CLUSTERS_SUPPORT, CLASSES_SUPPORT)
TOP = 0.45  # inches, for the title


def draw_lineage(lineage: dict[str, Any], path: Path) -> None:
    """Draw the tree of rounds (`lineage.read_lineage`) into a .png or .svg file.

    A box gives the round's name, its number of particles, the resolution of its map (Å), and its verdicts in
    short. The query stands at the line from the parent.
    """
    depth, row = depths(lineage), rows(lineage)
    width = max(depth.values(), default=0) * COLUMN_WIDTH + BOX_WIDTH + 0.4
    height = (max(row.values(), default=0) + 1) * ROW_HEIGHT + TOP
    fig, ax = plots.figure(width=width, height=height)
    ax.set_xlim(-0.2, width - 0.2)
    ax.set_ylim(height - TOP - ROW_HEIGHT / 2, -ROW_HEIGHT / 2)
    ax.set_axis_off()
    ax.set_title(f"Rounds of {lineage['dataset']}: particles, resolution, verdicts", loc="left")
    for name, found in lineage["rounds"].items():
        left, middle = depth[name] * COLUMN_WIDTH, row[name] * ROW_HEIGHT
        if (parent := found["parent"]) is not None:
            start = (depth[parent] * COLUMN_WIDTH + BOX_WIDTH, row[parent] * ROW_HEIGHT)
            _draw_descent(ax, start, (left, middle), query_of(found))
        _draw_round(ax, left, middle, name, found)
    plots.save(fig, path)


def rows(lineage: dict[str, Any]) -> dict[str, float]:
    """Return the height of each round, in rows from 0: leaves have one each, others the middle of theirs."""
    children: dict[str | None, list[str]] = {}
    for name, found in lineage["rounds"].items():
        children.setdefault(found["parent"], []).append(name)
    placed: dict[str, float] = {}

    def place(name: str) -> float:
        below = [place(child) for child in children.get(name, [])]
        leaves = sum(other not in children for other in placed)
        placed[name] = (below[0] + below[-1]) / 2 if below else float(leaves)
        return placed[name]

    for root in children.get(None, []):
        place(root)
    return placed


def query_of(found: dict[str, Any]) -> str:
    """Say in a few words how a round was chosen."""
    return found["chosen_by"] or "all"


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return the lines of a round's box below its name; what is not known yet is left out."""
    lines = []
    if found["n_particles"] is not None:
        resolution = f", {found['resolution_A']:.1f} Å" if found["resolution_A"] is not None else ""
        lines.append(f"{found['n_particles']:,} particles{resolution}")
    else:
        lines.append("not selected yet")
    verdicts = {stage.name: found["verdicts"].get(stage.name) for stage in SHOWN}
    short = [f"{stage}: {verdict.split(':')[0]}" for stage, verdict in verdicts.items() if verdict]
    return lines + [textwrap.shorten(text, CHARACTERS, placeholder=" …") for text in short]


def _draw_round(ax: Axes, left: float, middle: float, name: str, found: dict[str, Any]) -> None:
    """Draw the box of a round, `left` and `middle` in inches."""
    lines = lines_of(found)
    height = (len(lines) + 1) * LINE_HEIGHT + 0.14
    top = middle - height / 2
    ax.add_patch(_rectangle(left, top, BOX_WIDTH, height))
    ax.text(left + 0.1, top + 0.1, name, va="top", ha="left", fontweight="bold", fontsize=9)
    for number, line in enumerate(lines, start=1):
        ax.text(left + 0.1, top + 0.1 + number * LINE_HEIGHT, line, va="top", ha="left", fontsize=7.5)


def _rectangle(left: float, top: float, width: float, height: float):
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (left, top), width, height, boxstyle="round,pad=0,rounding_size=0.08",
        facecolor="white", edgecolor=plots.PALETTE[0], linewidth=1.2,
    )  # fmt: skip


def _draw_descent(ax: Axes, start: tuple[float, float], end: tuple[float, float], query: str) -> None:
    """Draw the line from a parent to its child, with the query above its last part."""
    bend = start[0] + 0.15
    ax.plot(
        [start[0], bend, bend, end[0]], [start[1], start[1], end[1], end[1]], color="#555555", linewidth=1
    )
    text = "\n".join(
        textwrap.wrap(textwrap.shorten(query, 4 * QUERY_CHARACTERS, placeholder=" …"), QUERY_CHARACTERS)
    )
    ax.text(bend + 0.06, end[1] - 0.04, text, va="bottom", ha="left", fontsize=6.5, family="monospace")
