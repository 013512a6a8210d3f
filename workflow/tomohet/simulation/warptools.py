"""The WarpTools dialect: an optimisation set whose particles are stacks of premultiplied tilt images.

The factors multiplied into the images, and their order, follow Warp, TiltSeries.ReconstructParticleSeries.cs.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet.files.star import write_star
from tomohet.simulation.config import SimulationConfig
from tomohet.simulation.projection import premultiplied
from tomohet.simulation.stacks import write_small_stack
from tomohet.simulation.tilt_series import Particles, Tomogram, binning, tomogram_size_px
from tomohet.simulation.warp import micrograph_name

OPTIMISATION_SET = "particles_optimisation_set.star"


class WarpToolsWriter:
    """Writer of one float16 stack of all tilts per particle, then of the three STAR files of the set."""

    def __init__(self, folder: Path, config: SimulationConfig, box: int, pixel_size_A: float) -> None:
        self.folder, self.config, self.box, self.pixel_size_A = folder, config, box, pixel_size_A
        self.done = set(config.extraction)

    def add(
        self, recorded: torch.Tensor, images: pd.DataFrame, tomogram: Tomogram, numbers: np.ndarray
    ) -> None:
        """Write the stacks of some particles of a tomogram: recorded (m * t, D, D), numbers (m,)."""
        # Multiplication by the CTF, negative for underfocus, makes protein light, and so does inversion.
        sign = 1 if ("inverted" in self.done) == ("premultiplied" in self.done) else -1
        stacks = (sign * premultiplied(recorded, self._extracted(images))).half().cpu().numpy()
        (self.folder / "stacks" / tomogram.name).mkdir(parents=True, exist_ok=True)
        for number, stack in zip(numbers, stacks.reshape(len(numbers), -1, self.box, self.box), strict=True):
            write_small_stack(self.folder / self._stack_name(tomogram, number), stack, self.pixel_size_A)

    def finish(self, tomograms: list[Tomogram], particles: Particles) -> None:
        """Write tomograms.star, particles.star and, last, the optimisation set that names them."""
        write_star(self.folder / "tomograms.star", self._tomogram_blocks(tomograms))
        write_star(
            self.folder / "particles.star",
            {
                "general": {"rlnTomoSubTomosAre2DStacks": 1},
                "optics": self._optics(tomograms),
                "particles": self._particle_table(tomograms, particles),
            },
        )
        write_star(
            self.folder / OPTIMISATION_SET,
            {"": {"rlnTomoParticlesFile": "particles.star", "rlnTomoTomogramsFile": "tomograms.star"}},
        )

    def _extracted(self, images: pd.DataFrame) -> pd.DataFrame:
        """Return the image table with the factors that the extraction multiplies in."""
        return images.assign(
            ctf_premultiplied="premultiplied" in self.done,
            dose_weighted="dose_weighted" in self.done,
            dose_b_factor_A2=self.config.dose_b_factor_A2,
            cut_off="cut_off" in self.done,
            scale_factor=scale_factors(images["tilt_deg"]) if "scaled" in self.done else 1.0,
        )

    def _stack_name(self, tomogram: Tomogram, number: int) -> str:
        return f"stacks/{tomogram.name}/{tomogram.name}_{self.pixel_size_A:.2f}A_{number:06d}.mrcs"

    def _unbinned_pixel_size_A(self) -> float:
        return self.pixel_size_A / binning(self.pixel_size_A)

    def _optics(self, tomograms: list[Tomogram]) -> pd.DataFrame:
        group = np.arange(1, len(tomograms) + 1)
        return pd.DataFrame(
            {
                "rlnOpticsGroup": group,
                "rlnOpticsGroupName": [f"opticsGroup{i}" for i in group],
                "rlnSphericalAberration": self.config.cs_mm,
                "rlnVoltage": self.config.voltage_kV,
                "rlnTomoTiltSeriesPixelSize": self._unbinned_pixel_size_A(),
                "rlnCtfDataAreCtfPremultiplied": int("premultiplied" in self.done),
                "rlnImageDimensionality": 2,
                "rlnTomoSubtomogramBinning": binning(self.pixel_size_A),
                "rlnImagePixelSize": self.pixel_size_A,
                "rlnImageSize": self.box,
                "rlnAmplitudeContrast": self.config.amplitude_contrast,
            }
        )

    def _particle_table(self, tomograms: list[Tomogram], particles: Particles) -> pd.DataFrame:
        # WarpTools writes coordinates in pixels of the extracted images, and origins in Å.
        x, y, z = (particles.position_A / self.pixel_size_A).round(6).T
        rot, tilt, psi = particles.euler_deg.T
        origin_A = (particles.origin_px * self.pixel_size_A).round(6).T
        owner = [tomograms[i] for i in particles.tomogram]
        frames = {t.name: "[" + ",".join(str(int(v)) for v in t.visible) + "]" for t in tomograms}
        return pd.DataFrame(
            {
                "rlnTomoName": [micrograph_name(t) for t in owner],
                "rlnTomoParticleId": particles.number,
                "rlnCoordinateX": x,
                "rlnCoordinateY": y,
                "rlnCoordinateZ": z,
                "rlnAngleRot": rot,
                "rlnAngleTilt": tilt,
                "rlnAnglePsi": psi,
                "rlnTomoParticleName": particle_names(tomograms, particles),
                "rlnOpticsGroup": particles.tomogram + 1,
                "rlnImageName": [
                    self._stack_name(t, i) for t, i in zip(owner, particles.number, strict=True)
                ],
                "rlnOriginXAngst": origin_A[0],
                "rlnOriginYAngst": origin_A[1],
                "rlnOriginZAngst": origin_A[2],
                "rlnTomoVisibleFrames": [frames[t.name] for t in owner],
            }
        )

    def _tomogram_blocks(self, tomograms: list[Tomogram]) -> dict[str, pd.DataFrame]:
        size = tomogram_size_px(self.pixel_size_A)
        overview = pd.DataFrame(
            {
                "rlnTomoName": [micrograph_name(t) for t in tomograms],
                "rlnTomoTiltSeriesName": [f"{t.name}.mrc" for t in tomograms],
                "rlnTomoFrameCount": [len(t.tilt_deg) for t in tomograms],
                "rlnTomoSizeX": size[0],
                "rlnTomoSizeY": size[1],
                "rlnTomoSizeZ": size[2],
                "rlnTomoHand": -1.0,
                "rlnOpticsGroupName": [f"opticsGroup{i}" for i in range(1, len(tomograms) + 1)],
                "rlnTomoTiltSeriesPixelSize": self._unbinned_pixel_size_A(),
                "rlnVoltage": self.config.voltage_kV,
                "rlnSphericalAberration": self.config.cs_mm,
                "rlnAmplitudeContrast": self.config.amplitude_contrast,
                "rlnTomoImportFractionalDose": self.config.total_dose / len(tomograms[0].tilt_deg),
            }
        )
        if self.config.dose_b_factor_A2:
            overview["rlnCtfBfactorPerElectronDose"] = self.config.dose_b_factor_A2
        return {"global": overview} | {micrograph_name(t): self._tilts(t) for t in tomograms}

    def _tilts(self, tomogram: Tomogram) -> pd.DataFrame:
        rows = {
            f"rlnTomoProj{axis}": [f"[{x:.9g},{y:.9g},{z:.9g},0]" for x, y, z in tomogram.rotation[:, i]]
            for i, axis in enumerate("XYZ")
        }
        # Raw stacks have a scale factor in the file too.
        is_stated = "scaled" in self.done or "premultiplied" not in self.done
        scale = {"rlnCtfScalefactor": scale_factors(tomogram.tilt_deg)} if is_stated else {}
        return pd.DataFrame(
            {
                **rows,
                "rlnTomoProjW": "[0,0,0,1]",
                "rlnDefocusU": tomogram.defocus_u_A,
                "rlnDefocusV": tomogram.defocus_v_A,
                "rlnDefocusAngle": tomogram.defocus_angle_deg,
                **scale,
                "rlnMicrographPreExposure": tomogram.dose_e_A2,
            }
        )


def particle_names(tomograms: list[Tomogram], particles: Particles) -> np.ndarray:
    """Return rlnTomoParticleName (n,)."""
    return np.array(
        [f"{tomograms[t].name}/{i}" for t, i in zip(particles.tomogram, particles.number, strict=True)]
    )


def scale_factors(tilt_deg: np.ndarray) -> np.ndarray:
    """Return rlnCtfScalefactor of tilts, with the decimals of the file."""
    return np.cos(np.deg2rad(tilt_deg)).round(9)
