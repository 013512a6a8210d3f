"""One image series written in every dialect, from the columns of a Warp file."""

from pathlib import Path

import numpy as np
import pandas as pd
from particle_files import write_text_star

OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
CISTEM = {
    "rlnAnglePsi": "cisTEMAnglePsi",
    "rlnAngleTilt": "cisTEMAngleTheta",
    "rlnAngleRot": "cisTEMAnglePhi",
    "rlnDefocusU": "cisTEMDefocus1",
    "rlnDefocusV": "cisTEMDefocus2",
    "rlnDefocusAngle": "cisTEMDefocusAngle",
    "rlnDetectorPixelSize": "cisTEMPixelSize",
    "rlnVoltage": "cisTEMMicroscopeVoltagekV",
    "rlnSphericalAberration": "cisTEMMicroscopeCsMM",
    "rlnAmplitudeContrast": "cisTEMAmplitudeContrast",
}


def warp(table: pd.DataFrame) -> dict:
    return {"": table}


def cryosrpnt(table: pd.DataFrame) -> dict:
    return {"": table.drop(columns="rlnMicrographName")}


def cryodrgn(table: pd.DataFrame) -> dict:
    """Group numbers and a pixel size of the image, without optics."""
    table = table.rename(columns={"rlnDetectorPixelSize": "rlnImagePixelSize"})
    return {"particles": _numbered(table.drop(columns="rlnMagnification", errors="ignore"))}


def relion(table: pd.DataFrame) -> dict:
    """Write RELION's dialect: separate optics, origins in Å, particle names kept."""
    pixel_size = table["rlnDetectorPixelSize"]
    particles = table.drop(columns=[*OPTICS, "rlnDetectorPixelSize", "rlnOriginX", "rlnOriginY"])
    particles = particles.drop(columns="rlnMagnification", errors="ignore")
    for axis in "XY":
        particles[f"rlnOrigin{axis}Angst"] = table[f"rlnOrigin{axis}"] * pixel_size
    particles["rlnOpticsGroup"] = 1
    optics = {"rlnOpticsGroupName": "first", "rlnOpticsGroup": 1, "rlnImagePixelSize": pixel_size.iloc[0]}
    optics |= {column: table[column].iloc[0] for column in OPTICS}
    return {"optics": pd.DataFrame([optics]), "particles": particles}


def nextpyp(table: pd.DataFrame) -> dict:
    """Write NextPYP's dialect: as RELION's, with whole numbers for particles and the index of the tilt."""
    blocks = relion(table)
    particles = _numbered(blocks["particles"])
    particles["rlnTiltIndex"] = particles.groupby("rlnGroupNumber").cumcount()
    return blocks | {"particles": particles}


def tomodrgn_warp(table: pd.DataFrame) -> dict:
    return {"": _preprocessed(table)}


def tomodrgn_cryosrpnt(table: pd.DataFrame) -> dict:
    return {"": _preprocessed(table.drop(columns="rlnMicrographName"))}


def tomodrgn_nextpyp(table: pd.DataFrame) -> dict:
    blocks = nextpyp(table)
    return blocks | {"particles": _preprocessed(blocks["particles"], table)}


def tomodrgn_without_b_factors(table: pd.DataFrame) -> dict:
    return {"": _preprocessed(table).drop(columns=["rlnCtfBfactor", "rlnCtfScalefactor"])}


def cistem(table: pd.DataFrame) -> dict:
    """Write cisTEM's dialect: shifts in Å of opposite sign, phase shift in radians, quoted stack column."""
    parts = table["rlnImageName"].str.partition("@")
    section, stack = parts[0], parts[2]
    written = pd.DataFrame({"cisTEMPositionInStack": section})
    for theirs, ours in CISTEM.items():
        written[ours] = table[theirs]
    for axis in "XY":
        written[f"cisTEM{axis}Shift"] = -table[f"rlnOrigin{axis}"] * table["rlnDetectorPixelSize"]
    written["cisTEMPhaseShift"] = np.radians(table["rlnPhaseShift"])
    written["cisTEMStackFilename"] = "'" + stack + "'"
    written["cisTEMParticleGroup"] = pd.factorize(table["rlnGroupName"])[0] + 1
    written["cisTEMPreExposure"] = table["rlnCtfBfactor"] / -4
    written["cisTEMTotalExposure"] = written["cisTEMPreExposure"] + 3
    written["cisTEMTiltAngle"] = -np.degrees(np.arccos(table["rlnCtfScalefactor"]))
    return {"": written}


DIALECTS = {
    "warp": (warp, "warp", "Warp/M"),
    "cryosrpnt": (cryosrpnt, "cryosrpnt", "cryoSRPNT"),
    "cryodrgn": (cryodrgn, "cryodrgn", "cryoDRGN-ET"),
    "relion": (relion, "relion", "RELION"),
    "nextpyp": (nextpyp, "nextpyp", "NextPYP"),
    "tomodrgn_warp": (tomodrgn_warp, "tomodrgn_preprocessed", "tomoDRGN-preprocessed"),
    "tomodrgn_cryosrpnt": (tomodrgn_cryosrpnt, "tomodrgn_preprocessed", "tomoDRGN-preprocessed"),
    "tomodrgn_nextpyp": (tomodrgn_nextpyp, "tomodrgn_preprocessed", "tomoDRGN-preprocessed"),
    "tomodrgn_only": (tomodrgn_without_b_factors, "tomodrgn_preprocessed", "tomoDRGN-preprocessed"),
    "cistem": (cistem, "cistem", "cisTEM"),
}


def write(folder: Path, dialect: str, table: pd.DataFrame, shuffle: int | None = None) -> Path:
    """Write `table` in a dialect, rows and columns in another order when `shuffle` is a seed."""
    blocks = DIALECTS[dialect][0](table)
    if shuffle is not None:
        name = "particles" if "particles" in blocks else ""
        block = blocks[name].sample(frac=1, random_state=shuffle)
        blocks[name] = block[block.columns[::-1]].assign(rlnUnknownColumn="x")
    return write_text_star(folder / f"{dialect}.star", blocks)


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    numbers = pd.factorize(table["rlnGroupName"])[0] + 1
    return table.drop(columns="rlnGroupName").assign(rlnGroupNumber=numbers)


def _preprocessed(table: pd.DataFrame, source: pd.DataFrame | None = None) -> pd.DataFrame:
    """With the columns that tomoDRGN appends: origins in px, dose, tilt in radians, number and split."""
    source = table if source is None else source
    return table.assign(
        tomodrgnTotalDose=source["rlnCtfBfactor"] / -4,
        tomodrgnPseudoStageTilt=np.arccos(source["rlnCtfScalefactor"]),
        rlnOriginX=source["rlnOriginX"],
        rlnOriginY=source["rlnOriginY"],
        UnfilteredParticleInds=pd.factorize(source["rlnGroupName"])[0],
        tomodrgnRandomSubset=1,
    )
