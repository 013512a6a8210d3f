"""Malformed image series of all dialects: the edit of the tables, and the expected error."""

import pandas as pd


def cell(column, row, value, block=None):
    def edit(blocks):
        table = blocks[_name(blocks, block)]
        table[column] = table[column].astype(object)
        table.loc[row, column] = value

    return edit


def column(name, value, block=None):
    def edit(blocks):
        blocks[_name(blocks, block)][name] = value

    return edit


def without(*names, block=None):
    def edit(blocks):
        name = _name(blocks, block)
        blocks[name] = blocks[name].drop(columns=list(names))

    return edit


def both(*edits):
    def edit(blocks):
        for one in edits:
            one(blocks)

    return edit


def no_optics(blocks):
    blocks.pop("optics")


def group_twice(blocks):
    blocks["optics"] = pd.concat([blocks["optics"]] * 2)


def _name(blocks, block):
    return block or ("particles" if "particles" in blocks else "")


# name: (dialect, edit of the blocks, expected part of the line)
CASES = {
    "warp: one axis of the origins": ("warp", without("rlnOriginY"), "_rlnOriginX is present, but _rln"),
    "warp: mixed units": (
        "warp",
        both(without("rlnOriginY"), column("rlnOriginYAngst", 0.0)),
        "_rlnOriginYAngst is present, but _rlnOriginXAngst is missing",
    ),
    "warp: origins contradict": (
        "warp",
        both(column("rlnOriginXAngst", 99.0), column("rlnOriginYAngst", 0.0)),
        "_rlnOriginXAngst / pixel size and _rlnOriginX contradict each other, row 1",
    ),
    "warp: dose below 0": (
        "warp",
        cell("rlnCtfBfactor", 3, 8.0),
        "_rlnCtfBfactor, row 4: found 8.0.*-2 e/Å²",
    ),
    "warp: no dose": ("warp", without("rlnCtfBfactor"), "column _rlnCtfBfactor is missing"),
    "warp: no tilt": ("warp", without("rlnCtfScalefactor"), "column _rlnCtfScalefactor is missing"),
    "warp: no name": (
        "warp",
        cell("rlnGroupName", 2, "None"),
        "_rlnGroupName, row 3: found no particle name",
    ),
    "warp: nan": ("warp", cell("rlnVoltage", 2, "nan"), "_rlnVoltage, row 3: found `nan`"),
    "cryosrpnt: no pixel size": (
        "cryosrpnt",
        without("rlnDetectorPixelSize"),
        "column _rlnImagePixelSize is missing.*_rlnDetectorPixelSize",
    ),
    "cryodrgn: no particle": (
        "cryodrgn",
        without("rlnGroupNumber"),
        "_rlnGroupName is missing.*_rlnGroupNumber",
    ),
    "cryodrgn: pixel size": ("cryodrgn", cell("rlnImagePixelSize", 4, -1.0), "row 5: pixel size -1 Å"),
    "cryodrgn: stack": (
        "cryodrgn",
        cell("rlnImageName", 0, "1@none.mrcs"),
        "1 of 3 image stacks are missing",
    ),
    "cryodrgn: section": (
        "cryodrgn",
        cell("rlnImageName", 0, "1.5@stacks/TS_0.mrcs"),
        "_rlnImageName, row 1: found `1.5@",
    ),
    "relion: unknown group": (
        "relion",
        cell("rlnOpticsGroup", 6, 4),
        "_rlnOpticsGroup, row 7: group 4 is not in data_optics",
    ),
    "relion: group twice": ("relion", group_twice, "data_optics: optics group 1 appears twice"),
    "relion: no group": (
        "relion",
        without("rlnOpticsGroup"),
        "data_particles: column _rlnOpticsGroup is missing",
    ),
    "relion: optics without group": (
        "relion",
        without("rlnOpticsGroup", block="optics"),
        "data_optics: column _rlnOpticsGroup is missing",
    ),
    "relion: no voltage": ("relion", without("rlnVoltage", block="optics"), "column _rlnVoltage is missing"),
    "relion: no optics": ("relion", no_optics, "_rlnImagePixelSize, _rlnVoltage"),
    "relion: phases flipped": (
        "relion",
        column("rlnCtfDataArePhaseFlipped", 1, "optics"),
        "_rlnCtfDataArePhaseFlipped, row 1: found 1",
    ),
    "relion: premultiplied 2": (
        "relion",
        column("rlnCtfDataAreCtfPremultiplied", 2, "optics"),
        "_rlnCtfDataAreCtfPremultiplied, row 1: found 2, expected 0 or 1",
    ),
    "relion: no particle": ("relion", without("rlnGroupName"), "column _rlnGroupName is missing"),
    "relion: voltage text": (
        "relion",
        cell("rlnVoltage", 0, "300kV", "optics"),
        "_rlnVoltage, row 1: found `300kV`",
    ),
    "nextpyp: one origin": (
        "nextpyp",
        without("rlnOriginYAngst"),
        "_rlnOriginXAngst is present, but _rlnOriginYAngst",
    ),
    "nextpyp: pixel size 0": (
        "nextpyp",
        column("rlnImagePixelSize", 0.0, "optics"),
        "row 1: pixel size 0 Å, expected more than 0",
    ),
    "nextpyp: same image": (
        "nextpyp",
        cell("rlnImageName", 1, "1@stacks/TS_0.mrcs"),
        "duplicate: 1@stacks/TS_0.mrcs is used by input rows 1, 2",
    ),
    "tomodrgn: dose contradicts": (
        "tomodrgn_warp",
        cell("tomodrgnTotalDose", 2, 77.0),
        "_rlnCtfBfactor / -4 and _tomodrgnTotalDose contradict each other, row 3: 6 and 77",
    ),
    "tomodrgn: tilt contradicts": (
        "tomodrgn_warp",
        cell("tomodrgnPseudoStageTilt", 2, 1.0),
        "_rlnCtfScalefactor and cos.*contradict each other, row 3",
    ),
    "tomodrgn: degrees": (
        "tomodrgn_only",
        cell("tomodrgnPseudoStageTilt", 2, 12.0),
        "_tomodrgnPseudoStageTilt, row 3: found 12, expected radians",
    ),
    "tomodrgn: nan tilt": (
        "tomodrgn_only",
        cell("tomodrgnPseudoStageTilt", 2, "nan"),
        "_tomodrgnPseudoStageTilt, row 3: found `nan`",
    ),
    "tomodrgn: origin contradicts": (
        "tomodrgn_nextpyp",
        cell("rlnOriginY", 8, 50.0),
        "_rlnOriginYAngst / pixel size and _rlnOriginY contradict each other, row 9",
    ),
    "cistem: position 0": (
        "cistem",
        cell("cisTEMPositionInStack", 3, 0),
        "_cisTEMPositionInStack, row 4: found `0`, expected a whole number from 1",
    ),
    "cistem: no group": ("cistem", without("cisTEMParticleGroup"), "column _cisTEMParticleGroup is missing"),
    "cistem: no exposure": ("cistem", without("cisTEMPreExposure"), "column _cisTEMPreExposure is missing"),
    "cistem: no voltage": (
        "cistem",
        without("cisTEMMicroscopeVoltagekV"),
        "_cisTEMMicroscopeVoltagekV is missing .instead.*_cisTEMVoltage",
    ),
    "cistem: exposures": (
        "cistem",
        cell("cisTEMTotalExposure", 4, 1.0),
        "_cisTEMTotalExposure, row 5: found 1, expected at least the _cisTEMPreExposure of 12",
    ),
    "cistem: no stack": (
        "cistem",
        both(without("cisTEMStackFilename"), column("cisTEMPositionInStack", range(1, 31))),
        "1 of 1 image stacks are missing: bad.mrcs",
    ),
    "cistem: text": ("cistem", cell("cisTEMDefocus1", 0, "far"), "_cisTEMDefocus1, row 1: found `far`"),
}
