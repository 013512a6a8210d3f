"""cryoSRPNT's simulated image series: one nameless table without micrograph names."""

from pathlib import Path

import pandas as pd

from tomohet.files.star import Blocks
from tomohet.particles.dialects.image_series import read_image_series
from tomohet.particles.table import ParticleSet

NAME = "cryoSRPNT image series"
SOURCE_SOFTWARE = ("cryosrpnt",)
EXPECTED = (
    "one table with rlnImageName `N@stack`, rlnGroupName, rlnCtfBfactor, rlnCtfScalefactor, angles and CTF"
)
REQUIRED = [
    "rlnImageName",
    "rlnGroupName",
    "rlnDetectorPixelSize",
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
    "rlnCtfBfactor",
    "rlnCtfScalefactor",
]


def image_table(blocks: Blocks) -> pd.DataFrame:
    """The table of tilt images: the file's only table, whatever its block is called."""
    tables = [block for block in blocks.values() if isinstance(block, pd.DataFrame)]
    return tables[0] if len(tables) == 1 else pd.DataFrame()


def recognises(blocks: Blocks) -> bool:
    """Whether the file is one table with all columns an image series needs."""
    return set(REQUIRED) <= set(image_table(blocks).columns)


def read(blocks: Blocks, star: Path, datadir: str | Path | None) -> ParticleSet:
    """Read a cryoSRPNT image series; the tomogram is the particle's name up to its last `_`."""
    return read_image_series(image_table(blocks), star, datadir, dialect=NAME, required=REQUIRED)
