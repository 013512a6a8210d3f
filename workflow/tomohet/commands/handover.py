"""Collect a round's particles, maps and mask for other programs, with a README."""

import logging
from pathlib import Path

from tomohet.files.leftovers import replacing
from tomohet.options import HandoverOptions
from tomohet.rounds.handover import hand_over
from tomohet.rounds.layout import HANDOVER
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: HandoverOptions) -> list[Path]:
    """Write the folder; return the paths of its files beside the README."""
    folder = options.outdir or options.round_dir / HANDOVER.folder
    with replacing(folder, "handover"):
        written = hand_over(options.round_dir, folder)
    log.info("%s: %s", folder, ", ".join(written))
    return [folder / name for name in written]
