"""Particle files whose cells, columns or rows are wrong: a table comes of them, or a refusal in one line.

The bytes of STAR files are damaged in `test_star_fuzz`. Here the files stay STAR files, so that the readers
of dialects and the checks of `validate` see the damage. TOMOHET_FUZZ=600 tries as many files per reader.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from particle_files import (
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_text_star,
)
from relion_files import with_matrices, write_native_tomograms, write_visible_stacks

from tomohet.errors import InputError
from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles
from tomohet.preflight import preflight

MANY = int(os.environ.get("TOMOHET_FUZZ", "0"))
TRIED = settings(
    max_examples=MANY or 40,
    deadline=None,
    derandomize=not MANY,
    suppress_health_check=list(HealthCheck),
    database=None,
)
CELLS = [
    "nan", "inf", "-inf", "0", "-1", "1e30", "-1e30", "1e-40", "9" * 25, "0.5", "x", "None", "True", '""',
    "1,5", "[]", "[1,0]", "[1,0,0,0]", "[nan,0,0,0]", "0@stacks/a.mrcs", "1@stacks/TS_0.mrcs", "@",
    "99999@stacks/TS_0.mrcs", "../x.mrcs", "é", "1e999", "3.7", "7", "180", "90", "-180",
]  # fmt: skip
COLUMNS = [
    "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginX", "rlnOriginXAngst", "rlnCoordinateX",
    "rlnCoordinateZ", "rlnCenteredCoordinateXAngst", "rlnDefocusU", "rlnDefocusV", "rlnPixelSize",
    "rlnImagePixelSize", "rlnDetectorPixelSize", "rlnMagnification", "rlnImageSize", "rlnImageName",
    "rlnGroupName", "rlnMicrographName", "rlnTomoName", "rlnTomoParticleName", "rlnTomoParticleId",
    "rlnTomoVisibleFrames", "rlnOpticsGroup", "rlnCtfBfactor", "rlnCtfScalefactor", "rlnPhaseShift",
    "rlnRandomSubset", "rlnMicrographPreExposure", "rlnTomoSubtomogramRot", "rlnTomoTiltAngle",
    "rlnClassNumber", "rlnBeamTiltX", "rlnTomoXTilt", "rlnTomoTiltSeriesStarFile", "rlnTomoHand", "wrpDose",
    "cisTEMPositionInStack", "ptmDose", "ccPreExposure", "tiltIndex",
]  # fmt: skip


def _image_series(folder: Path) -> Path:
    return write_image_series(folder)[0]


def _optimisation_set(folder: Path) -> Path:
    return write_optimisation_set(folder, *optimisation_set_blocks(np.random.default_rng(0)))


def _relion4(folder: Path) -> Path:
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    return write_optimisation_set(folder, blocks, with_matrices(tomograms))


def _relion5(folder: Path) -> Path:
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    star = write_optimisation_set(folder, blocks, tomograms)
    particles = write_visible_stacks(blocks["particles"], folder, folder)
    native = write_native_tomograms(folder, "job", tomograms).relative_to(folder)
    write_text_star(folder / "particles.star", blocks | {"particles": particles})
    (folder / "tomograms.star").unlink()
    return write_text_star(
        star, {"": {"rlnTomoParticlesFile": "particles.star", "rlnTomoTomogramsFile": native}}
    )


FILES: dict[str, Callable[[Path], Path]] = {
    "image series": _image_series,
    "optimisation set": _optimisation_set,
    "RELION 4": _relion4,
    "RELION 5": _relion5,
}


def changed(draw, blocks: dict) -> None:
    """Change one block: a cell, a whole column, its name, a further column, or the rows."""
    name = draw(st.sampled_from(list(blocks)))
    block, value = blocks[name], draw(st.sampled_from(CELLS))
    if isinstance(block, dict):
        blocks[name] = block | {draw(st.sampled_from([*block, *COLUMNS])): value}
        return
    kinds = ("cell", "cell", "cell", "column", "name", "drop", "new", "row", "repeat", "block", "other")
    kind, table = draw(st.sampled_from(kinds)), block.astype(object)
    column, row = draw(st.sampled_from(list(table))), draw(st.integers(0, max(0, len(table) - 1)))
    if kind == "cell" and len(table):
        table.loc[row, column] = value
    elif kind == "column":
        table[column] = value
    elif kind == "name":
        table = table.rename(columns={column: draw(st.sampled_from(COLUMNS))})
    elif kind == "drop":
        table = table.drop(columns=column)
    elif kind == "new":
        table[draw(st.sampled_from(COLUMNS))] = value
    elif kind == "row":
        table = table.drop(index=row, errors="ignore")
    elif kind == "repeat":
        table = pd.concat([table, table.iloc[row : row + 1]])
    elif kind == "block":
        table = table.iloc[:0]
    elif kind == "other":  # the values of another column
        table[column] = table[draw(st.sampled_from(list(table)))]
    blocks[name] = table.loc[:, ~table.columns.duplicated()].reset_index(drop=True)


@pytest.fixture(scope="module", params=FILES)
def valid(request, tmp_path_factory) -> tuple[Path, dict[Path, dict]]:
    """The STAR file that the reader gets, and the blocks of all STAR files beside it."""
    folder = tmp_path_factory.mktemp("particles_fuzz")
    star = FILES[request.param](folder)
    read_particles(star)
    return star, {path: read_star(path) for path in sorted(folder.rglob("*.star"))}


def test_wrong_particle_files_are_read_or_refused_in_one_line(valid):
    star, files = valid

    @TRIED
    @given(st.data())
    def each(data) -> None:
        path = data.draw(st.sampled_from(list(files)))
        blocks = dict(files[path])
        for _ in range(data.draw(st.integers(1, 2))):
            changed(data.draw, blocks)
        write_text_star(path, blocks)
        try:
            preflight(read_particles(star), look_at_images=False)
        except InputError as refusal:
            said = str(refusal)
            assert "\n" not in said and str(star.parent) in said and len(said) < 1500, said
        finally:
            write_text_star(path, files[path])

    each()
