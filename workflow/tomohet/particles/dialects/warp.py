"""Image series of Warp 1 and M: one nameless table with micrograph names, with or without origins."""

from pathlib import Path

from tomohet.files.star import Blocks
from tomohet.particles.dialects import cryosrpnt
from tomohet.particles.dialects.image_series import read_image_series
from tomohet.particles.table import ParticleSet

NAME = "Warp/M image series"
SOURCE_SOFTWARE = ("warp",)
EXPECTED = "the same and rlnMicrographName"
REQUIRED = [*cryosrpnt.REQUIRED, "rlnMicrographName"]


def recognises(blocks: Blocks) -> bool:
    """Whether the file is one table with all columns of an image series and micrograph names."""
    return set(REQUIRED) <= set(cryosrpnt.image_table(blocks).columns)


def read(blocks: Blocks, star: Path, datadir: str | Path | None) -> ParticleSet:
    """Read a Warp or M image series; the tomogram is the micrograph name."""
    return read_image_series(cryosrpnt.image_table(blocks), star, datadir, dialect=NAME, required=REQUIRED)
