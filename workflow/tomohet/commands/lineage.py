"""Write the lineage of all rounds of a dataset: a JSON file, and a figure of the tree."""

import logging
from typing import Any

from tomohet.files.atomic import write_json
from tomohet.options import LineageOptions
from tomohet.rounds.layout import LINEAGE, LINEAGE_FIGURES
from tomohet.rounds.lineage import read_lineage
from tomohet.rounds.lineage_figure import draw_lineage
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: LineageOptions) -> dict[str, Any]:
    """Write lineage.json, lineage.png and lineage.svg; return what the JSON file holds."""
    lineage = read_lineage(options.results)
    folder = options.folder or options.results
    for name in LINEAGE_FIGURES:
        draw_lineage(lineage, folder / name)
    write_json(folder / LINEAGE, lineage)
    log.info("%s: %d rounds", folder / LINEAGE, len(lineage["rounds"]))
    return lineage
