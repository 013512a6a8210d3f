"""What is measured: sizes of data and network, random data of that size on disk, and the arithmetic in it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet.files.mrc import write_stack
from tomohet.files.star import write_star
from tomohet.particles.dialects import read_particles
from tomohet.particles.store import Store
from tomohet.particles.store_writing import write_store
from tomohet.physics.imaging import image_parameters
from tomohet.physics.lattice import half_ball
from tomohet.training.batches import LossRows

STAR, STORE = "particles.star", "prepared"
ENCODER_WIDTH, ENCODER_OUT = 256, 128


@dataclass(frozen=True)
class Workload:
    """Images and network of one size.

    box : px. pixel_size_A : Å. tilts : per particle, 3 e-/Å^2 each. dose_mask : leave out rows beyond the
    optimal dose. particles : in the data set. batch : particles per step. layers, width : of the decoder.
    zdim : latent size.
    """

    name: str
    box: int
    pixel_size_A: float
    tilts: int
    dose_mask: bool
    particles: int
    batch: int
    layers: int
    width: int
    zdim: int

    def training_options(self) -> list[str]:
        """Options of `train_vae` for this network; all others are the command's defaults."""
        options = [
            *("--zdim", self.zdim, "--batch-size", self.batch),
            *("--dec-layers", self.layers, "--dec-dim", self.width),
            *("--enc-dim-A", ENCODER_WIDTH, "--enc-dim-B", ENCODER_WIDTH, "--out-dim-A", ENCODER_OUT),
            *("--recon-dose-weight", "--recon-tilt-weight"),
            *(["--l-dose-mask"] if self.dose_mask else []),
        ]
        return [str(option) for option in options]

    def write(self, folder: Path) -> Store:
        """Noise images of that size with random poses, as a STAR file and a stack, and prepared."""
        rng = np.random.default_rng(0)
        n = self.particles * self.tilts
        folder.mkdir(parents=True, exist_ok=True)
        images = rng.standard_normal((n, self.box, self.box), dtype=np.float32)
        write_stack(folder / "stack.mrcs", images, self.pixel_size_A)
        write_star(folder / STAR, {"": self._image_table(rng)})
        return write_store(folder / STORE, read_particles(folder / STAR))

    def _image_table(self, rng: np.random.Generator) -> pd.DataFrame:
        """A row per image, in the columns of Warp."""
        n = self.particles * self.tilts
        particle, tilt = (a.ravel() for a in np.mgrid[: self.particles, : self.tilts])
        angle = np.radians(60 * tilt / max(self.tilts - 1, 1))
        defocus = rng.uniform(2e4, 4e4, n)
        return pd.DataFrame(
            {
                "rlnImageName": [f"{section}@stack.mrcs" for section in range(1, n + 1)],
                "rlnMicrographName": "TS_1.tomostar",
                "rlnGroupName": [f"TS_1_{p:05d}" for p in particle],
                "rlnDetectorPixelSize": self.pixel_size_A,
                "rlnVoltage": 300.0,
                "rlnSphericalAberration": 2.7,
                "rlnAmplitudeContrast": 0.07,
                "rlnPhaseShift": 0.0,
                "rlnDefocusU": defocus,
                "rlnDefocusV": defocus - 300,
                "rlnDefocusAngle": rng.uniform(0, 180, n),
                **{f"rlnAngle{name}": rng.uniform(0, 180, n) for name in ("Rot", "Tilt", "Psi")},
                **{f"rlnOrigin{axis}": rng.uniform(-2, 2, n) for axis in "XY"},
                "rlnCtfBfactor": -4.0 * 3 * tilt,
                "rlnCtfScalefactor": np.cos(angle),
            }
        )

    def rows(self, store: Store) -> float:
        """Half-plane rows of a particle that enter the loss."""
        loss_rows = LossRows(dose_mask=self.dose_mask)
        prefix = loss_rows.prefix(image_parameters(store.images), store.half_plane)
        return int(prefix.sum()) / self.particles

    def training_flop(self, rows: float) -> float:
        """Multiplications and additions of the decoder for `rows`, forward and backward.

        Three products per layer (values, gradient of weights, gradient of inputs), two for the first, whose
        input is the coordinates' encoding.
        """
        features = 6 * (self.box // 2)
        return 2 * rows * (2 * features * self.width + 3 * self.layers * self.width**2 + 3 * 2 * self.width)

    def decoding_flop(self, box: int) -> float:
        """The same of one map of side `box`, forward; the coordinates' part is shared by all maps."""
        return 2 * half_ball(box).n * (self.layers * self.width**2 + 2 * self.width)

    def encoding_flop(self, store: Store) -> float:
        """The same of one particle's encoder A, forward; encoder B is nothing beside it."""
        per_image = (
            2 * store.half_plane.n * ENCODER_WIDTH + 3 * ENCODER_WIDTH**2 + ENCODER_WIDTH * ENCODER_OUT
        )
        return 2 * self.tilts * per_image


def workloads(device: torch.device) -> list[Workload]:
    """Small images with a small network, and the sizes of real data with the network used for them.

    A GPU needs more than one particle per step to be busy.
    """
    batch = 1 if device.type == "cpu" else 8
    medium = (64, 5.0, 41), (32, batch, 3, 512, 128)
    large = (96, 3.7, 41), (16, batch, 3, 512, 128)
    return [
        Workload("D=32, 9 tilts, 3x256", 32, 10.0, 9, False, 64, 8, 3, 256, 8),
        Workload("D=64, 41 tilts, 3x512", *medium[0], False, *medium[1]),
        Workload("D=64, dose mask", *medium[0], True, *medium[1]),
        Workload("D=96, 41 tilts, 3x512", *large[0], False, *large[1]),
        Workload("D=96, dose mask", *large[0], True, *large[1]),
    ]
