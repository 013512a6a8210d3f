"""Rewrites a WarpTools optimisation set as RELION would write it, by code other than the project's."""

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
from particle_files import write_stack, write_text_star
from scipy.spatial.transform import Rotation

ANGLES = ["Rot", "Tilt", "Psi"]


def alignment_angles(projection: np.ndarray) -> np.ndarray:
    """x tilt, y tilt, z rotation in degrees, from single matrix elements as RELION's converter takes them."""
    return np.degrees(
        [
            np.arctan2(projection[2, 1], projection[2, 2]),
            np.arcsin(-projection[2, 0]),
            np.arctan2(projection[1, 0], projection[0, 0]),
        ]
    )


def matrices(table: pd.DataFrame) -> np.ndarray:
    """Projection rotations (F, 3, 3) of a tomogram's table."""
    rows = [
        [np.fromstring(text.strip("[]"), sep=",")[:3] for text in table[f"rlnTomoProj{a}"]] for a in "XYZ"
    ]
    return np.stack(rows, axis=1)


def with_matrices(tomograms: dict) -> dict:
    """RELION 4: the matrices also move the tomogram's centre; hand +1 is the sign of WarpTools' -1."""
    overview = tomograms["global"].assign(rlnTomoHand=1.0)
    blocks = {"global": overview}
    for name in overview["rlnTomoName"]:
        table = tomograms[name].copy()
        size = overview.set_index("rlnTomoName").loc[name, [f"rlnTomoSize{a}" for a in "XYZ"]].to_numpy(float)
        rotation = matrices(table)
        moved = np.array([1854.0, 1919.0, 0.0]) - rotation @ (size // 2)
        for row, axis in enumerate("XYZ"):
            four = np.concatenate([rotation[:, row], moved[:, row : row + 1]], axis=1)
            table[f"rlnTomoProj{axis}"] = ["[" + ",".join(f"{v:.9g}" for v in tilt) + "]" for tilt in four]
        blocks[name] = table
    return blocks


def write_native_tomograms(folder: Path, job: str, tomograms: dict) -> Path:
    """RELION 5: an overview that names one file of alignment angles per series, from the project root."""
    overview = tomograms["global"].assign(rlnTomoHand=1.0)
    overview["rlnTomoTiltSeriesStarFile"] = [f"{job}/tilt_series/{n}.star" for n in overview["rlnTomoName"]]
    for name in overview["rlnTomoName"]:
        table = tomograms[name]
        angles = np.array([alignment_angles(matrix) for matrix in matrices(table)])
        tilts = table.drop(columns=[c for c in table.columns if c.startswith("rlnTomoProj")])
        for column, values in zip(("XTilt", "YTilt", "ZRot"), angles.T, strict=True):
            tilts[f"rlnTomo{column}"] = values.round(9)
        tilts["rlnTomoXShiftAngst"], tilts["rlnTomoYShiftAngst"] = 12.5, -31.25
        tilts["rlnTomoNominalStageTiltAngle"] = -angles[:, 1].round(1)
        write_text_star(folder / job / f"tilt_series/{name}.star", {name: tilts})
    return write_text_star(folder / job / "tomograms.star", {"global": overview})


def centred(particles: pd.DataFrame, overview: pd.DataFrame, pixel_size_A: float) -> pd.DataFrame:
    """Coordinates in Å from the tomogram's centre instead of extracted pixels from its corner."""
    about = overview.set_index("rlnTomoName").loc[particles["rlnTomoName"]].reset_index()
    particles = particles.copy()
    for axis in "XYZ":
        half_A = about[f"rlnTomoSize{axis}"] * about["rlnTomoTiltSeriesPixelSize"] / 2
        position_A = particles.pop(f"rlnCoordinate{axis}").to_numpy() * pixel_size_A
        particles[f"rlnCenteredCoordinate{axis}Angst"] = position_A - half_A.to_numpy()
    return particles


def unbinned(particles: pd.DataFrame, factor: float) -> pd.DataFrame:
    return particles.assign(**{f"rlnCoordinate{a}": particles[f"rlnCoordinate{a}"] * factor for a in "XYZ"})


def with_subtomogram_angles(particles: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Split each pose in a random orientation S of the subtomogram and the rest; the origin turns with S.

    `Rotation` objects here take particle to tomogram as RELION's matrix does: the transpose of intrinsic ZYZ.
    """

    def rotation(angles):
        return Rotation.from_euler("ZYZ", angles, degrees=True).inv()

    columns = [f"rlnAngle{a}" for a in ANGLES]
    total = rotation(particles[columns].to_numpy(float, copy=True))
    angles = np.stack(
        [rng.uniform(*span, len(particles)) for span in ((-180, 180), (5, 175), (-180, 180))], 1
    )
    subtomogram = rotation(angles)
    particles = particles.copy()
    particles[columns] = (subtomogram.inv() * total).inv().as_euler("ZYZ", degrees=True)
    particles[[f"rlnTomoSubtomogram{a}" for a in ANGLES]] = angles
    origin = [f"rlnOrigin{a}Angst" for a in "XYZ"]
    particles[origin] = subtomogram.inv().apply(particles[origin].to_numpy(float, copy=True))
    return particles


def write_visible_stacks(particles: pd.DataFrame, source: Path, folder: Path) -> pd.DataFrame:
    """Stacks of only the visible tilts, named from the project's root; returns the table that names them."""
    particles = particles.copy()
    names = []
    for number, (name, flags) in enumerate(
        zip(particles["rlnImageName"], particles["rlnTomoVisibleFrames"], strict=True), 1
    ):
        visible = np.array([flag.strip() != "0" for flag in flags.strip("[]").split(",")])
        with mrcfile.mmap(source / name, permissive=True) as mrc:
            names.append(f"Extract/job013/Subtomograms/T{number}/{number}_stack2d.mrcs")
            write_stack(folder / names[-1], np.array(mrc.data)[visible])
    return particles.assign(rlnImageName=names)
