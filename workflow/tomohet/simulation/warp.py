"""The Warp 1 dialect: an image series, one row per tilt image, and a volume series, one per particle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet.files.star import write_star
from tomohet.particles.table import ROTATION_COLUMNS
from tomohet.physics.geometry import matrix_to_euler
from tomohet.simulation.config import SimulationConfig
from tomohet.simulation.stacks import growing_stack
from tomohet.simulation.tilt_series import Particles, Tomogram

# rlnDetectorPixelSize is in µm at this magnification, so that its value is the pixel size in Å.
MAGNIFICATION = 10000.0
B_FACTOR_PER_DOSE = -4.0


def micrograph_name(tomogram: Tomogram) -> str:
    """Return the name of a tomogram in both dialects."""
    return f"{tomogram.name}.tomostar"


def group_names(tomograms: list[Tomogram], particles: Particles) -> np.ndarray:
    """Return particle ids (n,): tomogram and number in it."""
    return np.array(
        [f"{tomograms[t].name}_{i:06d}" for t, i in zip(particles.tomogram, particles.number, strict=True)]
    )


class WarpWriter:
    """Writer of the image series: one stack per tomogram, then particles.star and volumes.star."""

    def __init__(self, folder: Path, config: SimulationConfig, box: int, pixel_size_A: float) -> None:
        self.folder, self.config, self.box, self.pixel_size_A = folder, config, box, pixel_size_A
        self.rows: list[pd.DataFrame] = []
        (folder / "stacks").mkdir(parents=True, exist_ok=True)

    @contextmanager
    def tomogram(self, tomogram: Tomogram, n_particles: int) -> Iterator["TomogramStack"]:
        """Open the stack of one tomogram's visible images."""
        name = f"stacks/{tomogram.name}.mrcs"
        shape = (n_particles * int(tomogram.visible.sum()), self.box, self.box)
        with growing_stack(self.folder / name, shape, self.pixel_size_A) as data:
            stack = TomogramStack(name, data)
            yield stack
        self.rows += stack.rows

    def finish(self, tomograms: list[Tomogram], particles: Particles) -> None:
        """Write particles.star and volumes.star, particles in their order."""
        names = group_names(tomograms, particles)
        micrographs = np.array([micrograph_name(t) for t in tomograms])[particles.tomogram]
        images = pd.concat(self.rows).sort_values(["particle", "tilt"], ignore_index=True)
        write_star(self.folder / "volumes.star", {"": self._volume_series(names, micrographs, particles)})
        write_star(self.folder / "particles.star", {"": self._image_series(images, names, micrographs)})

    def _image_series(self, images: pd.DataFrame, names: np.ndarray, micrographs: np.ndarray) -> pd.DataFrame:
        rotation = images[list(ROTATION_COLUMNS)].to_numpy().reshape(-1, 3, 3)
        rot, tilt, psi = matrix_to_euler(rotation).round(6).T
        return pd.DataFrame(
            {
                "rlnMagnification": MAGNIFICATION,
                "rlnDetectorPixelSize": self.pixel_size_A,
                "rlnVoltage": images.voltage_kV,
                "rlnSphericalAberration": images.cs_mm,
                "rlnAmplitudeContrast": images.amplitude_contrast,
                "rlnPhaseShift": images.phase_shift_deg,
                "rlnDefocusU": images.defocus_u_A.round(3),
                "rlnDefocusV": images.defocus_v_A.round(3),
                "rlnDefocusAngle": images.defocus_angle_deg,
                "rlnImageName": images["section"].astype(str) + "@" + images["stack"].astype(str),
                "rlnMicrographName": micrographs[images.particle],
                "rlnCoordinateX": images.image_x_px.round(3),
                "rlnCoordinateY": images.image_y_px.round(3),
                "rlnAngleRot": rot,
                "rlnAngleTilt": tilt,
                "rlnAnglePsi": psi,
                "rlnOriginX": images.shift_x_px.round(6),
                "rlnOriginY": images.shift_y_px.round(6),
                "rlnCtfBfactor": (B_FACTOR_PER_DOSE * images.dose_e_A2).round(6),
                "rlnCtfScalefactor": np.cos(np.deg2rad(images.tilt_deg)).round(9),
                "rlnRandomSubset": images.particle % 2 + 1,
                "rlnGroupName": names[images.particle],
            }
        )

    def _volume_series(
        self, names: np.ndarray, micrographs: np.ndarray, particles: Particles
    ) -> pd.DataFrame:
        x, y, z = (particles.position_A / self.pixel_size_A).round(4).T
        rot, tilt, psi = particles.euler_deg.T
        origin = particles.origin_px.T
        return pd.DataFrame(
            {
                "rlnMagnification": MAGNIFICATION,
                "rlnDetectorPixelSize": self.pixel_size_A,
                "rlnMicrographName": micrographs,
                "rlnGroupName": names,
                "rlnCoordinateX": x,
                "rlnCoordinateY": y,
                "rlnCoordinateZ": z,
                "rlnAngleRot": rot,
                "rlnAngleTilt": tilt,
                "rlnAnglePsi": psi,
                "rlnOriginX": origin[0],
                "rlnOriginY": origin[1],
                "rlnOriginZ": origin[2],
                "rlnRandomSubset": np.arange(len(names)) % 2 + 1,
            }
        )


class TomogramStack:
    """The open stack of one tomogram and the rows of the images in it."""

    def __init__(self, name: str, data: np.memmap) -> None:
        self.name, self.data, self.filled = name, data, 0
        self.rows: list[pd.DataFrame] = []

    def add(self, recorded: torch.Tensor, images: pd.DataFrame) -> None:
        """Append the visible images of recorded (m, D, D), with inverted contrast.

        Warp makes protein light.
        """
        visible = images.visible.to_numpy(copy=True)
        rows = images[visible].copy()
        last = self.filled + len(rows)
        self.data[self.filled : last] = -recorded[torch.as_tensor(visible)].cpu().numpy()
        rows["stack"], rows["section"] = self.name, np.arange(self.filled + 1, last + 1)
        self.rows.append(rows)
        self.filled = last
