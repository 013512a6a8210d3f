"""The order of assembly from dependencies between units."""

from dataclasses import dataclass

import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tomohet import plots

ROW_HEIGHT, NODE_WIDTH = 1.0, 1.3  # inches
NAMES_PER_LINE = 3


@dataclass(frozen=True)
class Assembly:
    """Groups of units that are never present without each other, and the direct needs of each group.

    groups : tuples of unit names
    needs : (group, group it needs, confidence), without implied needs: where C needs B and B needs A, the
        need of C for A is left out
    """

    groups: tuple[tuple[str, ...], ...]
    needs: tuple[tuple[int, int, float], ...]

    def summary(self) -> dict[str, object]:
        """Summarise for `summary.json`."""
        return {
            "together": [list(group) for group in self.groups if len(group) > 1],
            "order": [
                {"units": list(self.groups[a]), "need": list(self.groups[b]), "confidence": confidence}
                for a, b, confidence in self.needs
            ],
        }


def assembly_of(required: pd.DataFrame) -> Assembly:
    """Build the assembly graph from a table of dependencies (columns unit, requires, confidence).

    The strongly connected components are the groups. Between them the transitive reduction is kept (Aho,
    Garey & Ullman, SIAM J. Comput. 1, 131, 1972). An edge's confidence is the highest of its pairs of units.
    """
    graph = nx.DiGraph()
    for row in required.sort_values(["unit", "requires"]).itertuples():
        graph.add_edge(row.unit, row.requires, confidence=float(row.confidence))
    whole = nx.condensation(graph) if len(graph) else nx.DiGraph()
    members = [tuple(sorted(whole.nodes[n]["members"])) for n in whole]
    order = {n: i for i, n in enumerate(sorted(whole, key=lambda n: members[n]))}
    group_of = {unit: n for n in whole for unit in members[n]}
    confidence: dict[tuple[int, int], float] = {}
    for unit, other, data in graph.edges(data=True):
        pair = group_of[unit], group_of[other]
        confidence[pair] = max(confidence.get(pair, 0.0), data["confidence"])
    kept = sorted((order[a], order[b], confidence[a, b]) for a, b in nx.transitive_reduction(whole).edges)
    return Assembly(tuple(members[n] for n in sorted(order, key=order.get)), tuple(kept))


def assembly_figure(assembly: Assembly, present: dict[str, float]) -> Figure:
    """Draw the groups in rows, each above the groups that it needs; arrows point to the dependent group.

    present : fraction of particles (or volumes) that have each unit
    """
    graph = nx.DiGraph([(b, a) for a, b, _ in assembly.needs])
    graph.add_nodes_from(range(len(assembly.groups)))
    rows = list(nx.topological_generations(graph))
    widest = max(map(len, rows))
    fig, ax = plots.figure(
        width=max(4.0, 0.6 + NODE_WIDTH * widest), height=max(2.4, 1.0 + ROW_HEIGHT * len(rows))
    )
    place = {}
    for level, row in enumerate(rows):
        for position, group in enumerate(sorted(row)):
            place[group] = (position - (len(row) - 1) / 2, level)
    for a, b, confidence in assembly.needs:
        ax.annotate(
            "",
            xy=place[a],
            xytext=place[b],
            arrowprops={"arrowstyle": "-|>", "color": "0.35", "shrinkA": 16, "shrinkB": 16, "linewidth": 1.2},
        )
        middle = np.mean([place[a], place[b]], axis=0)
        ax.text(*middle, f"{confidence:.2f}", fontsize=7, color="0.35", ha="left", va="center")
    for group, (x, y) in place.items():
        names = assembly.groups[group]
        lines = [", ".join(names[i : i + NAMES_PER_LINE]) for i in range(0, len(names), NAMES_PER_LINE)]
        share = np.mean([present[name] for name in names])
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": plots.PALETTE[0]}
        ax.text(x, y, "\n".join([*lines, f"in {share:.0%}"]), ha="center", va="center", fontsize=8, bbox=box)
    ax.set(
        xlim=(-widest / 2 - 0.1, widest / 2 + 0.1),
        ylim=(-0.6, len(rows) - 0.4),
        title="Which unit requires which other\n(arrows point to the dependent unit; confidence)",
        ylabel="units needed before",
        yticks=range(len(rows)),
    )
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    return fig
