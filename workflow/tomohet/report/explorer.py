"""The explorer of a round's particles, or of its volumes: the table in the page and its first view."""

import pandas as pd

from tomohet.mapback.placements import folder_name
from tomohet.report.blobs import Blobs
from tomohet.report.collect import Round
from tomohet.report.tables import is_category, plottable, table_payload
from tomohet.report.view import best_view
from tomohet.rounds.layout import MAPBACK

SCENE = "mapback.cxc"


def explorer(
    round_: Round, blobs: Blobs, table: pd.DataFrame | None, key: str, most_bytes: float
) -> dict | None:
    """Put a table of particles or volumes into the page, with the axes and the colour of the first view.

    None with fewer than two columns of numbers to plot.
    """
    if table is None or len(table) < 2 or key not in table:
        return None
    names = plottable(table)
    if sum(not is_category(table[name]) for name in names) < 2:
        return None
    axes, colour = best_view(table, names)
    return {
        "noun": key,
        "table": table_payload(blobs, table, key, most_bytes),
        "axes": axes,
        "colour": colour,
        "round": round_.name,
        "scenes": scenes(round_, table) if key == "particle" else {},
    }


def scenes(round_: Round, table: pd.DataFrame) -> dict[str, str]:
    """Paths of the ChimeraX scenes that exist, from the dataset's folder, by the tomogram's name."""
    if "tomogram" not in table:
        return {}
    paths = {
        str(tomogram): round_.folder / MAPBACK.folder / folder_name(str(tomogram)) / SCENE
        for tomogram in table["tomogram"].dropna().unique()
    }
    dataset = round_.folder.parent
    return {name: path.relative_to(dataset).as_posix() for name, path in paths.items() if path.is_file()}
