"""Malformed particle files: how each is made, and its expected one-line error."""

from pathlib import Path

import numpy as np
from particle_files import (
    BOX,
    image_table,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_stack,
    write_text_star,
)


def series_with(**changes):
    """Write an image series whose table is changed column by column (value or function of the column)."""

    def write(folder):
        _, table = write_image_series(folder)
        for column, change in changes.items():
            table[column] = change(table[column].copy()) if callable(change) else change
        return write_text_star(folder / "particles.star", {"": table})

    return write


def at(row, value):
    def change(column):
        column = column.astype(object)
        column.iloc[row] = value
        return column

    return change


def series_without(column):
    def write(folder):
        _, table = write_image_series(folder)
        return write_text_star(folder / "particles.star", {"": table.drop(columns=column)})

    return write


def series_of(text):
    def write(folder):
        write_image_series(folder)
        (folder / "particles.star").write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / "particles.star"

    return write


def series_and(damage):
    def write(folder):
        star, _ = write_image_series(folder)
        damage(folder / "stacks/TS_1.mrcs")
        return star

    return write


def with_bad_pixel(value):
    def damage(stack):
        images = np.random.default_rng(0).normal(size=(15, BOX, BOX)).astype(np.float32)
        images[6, 3, 4] = value
        write_stack(stack, images)

    return damage


def with_constant_section(stack):
    images = np.random.default_rng(0).normal(size=(15, BOX, BOX)).astype(np.float32)
    images[2] = 0
    write_stack(stack, images)


def truncated(stack):
    stack.write_bytes(stack.read_bytes()[:-100])


def set_with(edit):
    """Write an optimisation set after `edit(blocks, tomograms)`."""

    def write(folder):
        blocks, tomograms = optimisation_set_blocks(np.random.default_rng(1))
        edit(blocks, tomograms)
        return write_optimisation_set(folder, blocks, tomograms)

    return write


def set_then(damage):
    def write(folder):
        star = write_optimisation_set(folder, *optimisation_set_blocks(np.random.default_rng(1)))
        damage(folder)
        return star

    return write


def table_cell(table, row, column, value):
    table[column] = at(row, value)(table[column])


def empty_table():
    lines = [f"_{column} #{i}" for i, column in enumerate(image_table(np.random.default_rng(0)).columns, 1)]
    return "data_\n\nloop_\n" + "\n".join(lines) + "\n\n"


SERIES = {
    "missing stack": (
        series_and(Path.unlink),
        r"1 of 2 image stacks are missing: stacks/TS_1.mrcs; .*tried.*datadir",
    ),
    "wrong box in one stack": (
        series_and(lambda stack: write_stack(stack, np.zeros((15, 20, 20), np.float32))),
        "TS_1.mrcs: wrong box 20 px, expected 16 px|TS_0.mrcs: wrong box 16 px, expected 20 px",
    ),
    "odd box": (
        series_and(lambda stack: write_stack(stack, np.zeros((15, 17, 17), np.float32))),
        "17 x 17 px, expected square images with an even box",
    ),
    "oblong images": (
        series_and(lambda stack: write_stack(stack, np.zeros((15, 16, 18), np.float32))),
        "18 x 16 px, expected square",
    ),
    "section out of range": (
        series_and(lambda stack: write_stack(stack, np.zeros((14, BOX, BOX), np.float32))),
        r"row 30: section 15 of stacks/TS_1.mrcs, but it has 14 sections \(1 such rows\)",
    ),
    "section 0": (series_with(rlnImageName=at(4, "0@stacks/TS_0.mrcs")), "row 5: found `0@stacks.*N from 1"),
    "image name without @": (
        series_with(rlnImageName=at(4, "stacks/TS_0.mrcs")),
        "row 5.*expected `N@stack.mrcs`",
    ),
    "truncated stack": (series_and(truncated), "TS_1.mrcs: truncated: .* announces 15 sections"),
    "stack that is text": (
        series_and(lambda stack: stack.write_text("x" * 5000)),
        "TS_1.mrcs: mode 2021161080, .*expected a stack of real images",
    ),
    "empty stack": (series_and(lambda stack: stack.write_bytes(b"")), "TS_1.mrcs: cannot be read"),
    "missing column": (series_without("rlnDefocusU"), "column _rlnDefocusU is missing"),
    "two missing columns": (
        series_without(["rlnAngleRot", "rlnGroupName"]),
        "column _rlnGroupName, _rlnAngleRot is missing",
    ),
    "text for a number": (series_with(rlnDefocusV=at(2, "12,5")), "column _rlnDefocusV, row 3: found `12,5`"),
    "infinite number": (series_with(rlnAnglePsi=at(2, "inf")), "column _rlnAnglePsi, row 3: found `inf`"),
    "duplicate particle": (
        lambda folder: write_text_star(
            folder / "particles.star", {"": (t := write_image_series(folder)[1]).loc[[*t.index, *range(5)]]}
        ),
        "duplicate: 1@.*rows 1, 31",
    ),
    "image used by two particles": (
        series_with(rlnImageName=at(5, "1@stacks/TS_0.mrcs")),
        "duplicate: 1@stacks/TS_0.mrcs is used by input rows 1, 6",
    ),
    "mixed pixel sizes": (
        series_with(rlnDetectorPixelSize=at(9, 4.0)),
        "particles.star: .*mixed.* 4.* 8.* --rescale 8",
    ),
    "pixel size 0": (series_with(rlnDetectorPixelSize=0.0), "pixel size 0 Å, expected more than 0"),
    "magnification 0": (series_with(rlnMagnification=0.0), "_rlnMagnification holds 0, expected more than 0"),
    "empty STAR": (series_of(""), "not a STAR file"),
    "no rows": (series_of(empty_table()), "table of images is empty, expected at least one row"),
    "only a block name": (series_of("data_\n"), "no table of particles found"),
    "not a STAR": (series_of("particle,x,y\n1,2,3\n"), "not a STAR file"),
    "a stack given as STAR": (
        lambda folder: write_image_series(folder)[0].parent / "stacks/TS_0.mrcs",
        "not a STAR",
    ),
    "a folder given as STAR": (
        lambda folder: write_image_series(folder)[0].parent / "stacks",
        "no prepared|cannot be",
    ),
    "no such STAR": (lambda folder: folder / "none.star", "none.star: cannot be read as a STAR file"),
    "row too short": (
        lambda folder: series_of(write_image_series(folder)[0].read_text().rstrip().rsplit(maxsplit=1)[0])(
            folder
        ),
        "row 30 has 18 values, expected 19",
    ),
    "column twice": (
        lambda folder: series_of(
            write_image_series(folder)[0].read_text().replace("_rlnDefocusV", "_rlnDefocusU")
        )(folder),
        "column _rlnDefocusU appears twice",
    ),
    "table of something else": (series_of("data_\nloop_\n_a\n_b\n1 2\n"), "is of no known kind"),
}

SETS = {
    "missing stack": (
        set_then(
            lambda f: [(f / f"stacks/00{t}/p{p}.mrcs").unlink() for t, p in ((1, 0), (2, 1), (3, 2), (1, 3))]
        ),
        "4 of 6 image stacks are missing: stacks/001/p0.mrcs, stacks/002/p1.mrcs, stacks/003/p2.mrcs, ...;",
    ),
    "wrong box in one stack": (
        set_then(lambda f: write_stack(f / "stacks/002/p4.mrcs", np.zeros((5, 8, 8), np.float32))),
        "p4.mrcs: wrong box 8 px, expected 16 px as in 5 of 6 stacks",
    ),
    "box unlike rlnImageSize": (
        set_with(lambda b, t: b["optics"].update({"rlnImageSize": [32, 32]})),
        "box 16 px, but rlnImageSize says 32",
    ),
    "stack depth": (
        set_then(lambda f: write_stack(f / "stacks/002/p4.mrcs", np.zeros((9, BOX, BOX), np.float32))),
        r"p4.mrcs: 9 sections, expected 5 \(all tilts\) or 4 \(visible tilts\)",
    ),
    "particles file missing": (
        set_then(lambda f: (f / "particles.star").unlink()),
        "particles.star: cannot be read",
    ),
    "tomograms file missing": (
        set_then(lambda f: (f / "tomograms.star").unlink()),
        "tomograms.star: cannot be read",
    ),
    "tomogram missing": (
        set_with(lambda b, t: t.pop("002")),
        "1 of 3 tomograms of the particles have no tilt series here: 002",
    ),
    "no projection matrices": (
        set_with(lambda b, t: t["002"].pop("rlnTomoProjZ")),
        "table data_002: column _rlnTomoProjZ is missing",
    ),
    "mirrored projection": (
        set_with(lambda b, t: table_cell(t["002"], 1, "rlnTomoProjY", "[0,-1,0,0]")),
        "table data_002: row 2: the projection matrix is not a rotation",
    ),
    "projection of three numbers": (
        set_with(lambda b, t: t["002"].update({"rlnTomoProjX": ["[1,0,0]"] * 5})),
        r"_rlnTomoProjX, row 1: found `\[1,0,0\]`, expected four numbers `\[a,b,c,d\]`",
    ),
    "visible frames of another length": (
        set_with(lambda b, t: table_cell(b["particles"], 3, "rlnTomoVisibleFrames", "[1,1,1]")),
        "row 4: rlnTomoVisibleFrames has 3 entries, but tomogram 001 has 5 tilts",
    ),
    "visible frames of text": (
        set_with(lambda b, t: table_cell(b["particles"], 3, "rlnTomoVisibleFrames", "[1,x]")),
        r"rlnTomoVisibleFrames: found `\[1,x\]`",
    ),
    "no visible tilt": (
        set_with(lambda b, t: b["particles"].update({"rlnTomoVisibleFrames": ["[0,0,0,0,0]"] * 6})),
        "no particle has a visible tilt",
    ),
    "3-D subtomograms": (
        set_with(lambda b, t: b["general"].update({"rlnTomoSubTomosAre2DStacks": 0})),
        "particles are 3-D subtomograms, expected stacks of tilt images",
    ),
    "section in the image name": (
        set_with(lambda b, t: table_cell(b["particles"], 0, "rlnImageName", "1@stacks/001/p0.mrcs")),
        "expected one whole stack per particle",
    ),
    "duplicate particle": (
        set_with(lambda b, t: table_cell(b["particles"], 4, "rlnTomoParticleName", "002/1")),
        "duplicate particle 002/1 in rows 2 and 5",
    ),
    "stack used twice": (
        set_with(lambda b, t: table_cell(b["particles"], 4, "rlnImageName", "stacks/002/p1.mrcs")),
        "duplicate particle: rows 2 and 5 use stacks/002/p1.mrcs",
    ),
    "mixed pixel sizes": (
        set_with(lambda b, t: b["optics"].update({"rlnImagePixelSize": [8.0, 9.0]})),
        "optimisation_set.star: .*mixed.* 8.* 9.* --rescale 9",
    ),
    "unknown optics group": (
        set_with(lambda b, t: table_cell(b["particles"], 0, "rlnOpticsGroup", 7)),
        "_rlnOpticsGroup, row .*: group 7 is not in data_optics",
    ),
    "no optics": (
        set_with(lambda b, t: b.pop("optics")),
        "expected the tables data_particles and data_optics",
    ),
    "missing column": (
        set_with(lambda b, t: b["particles"].pop("rlnTomoName")),
        "column _rlnTomoName is missing",
    ),
}
