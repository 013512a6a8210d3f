"""How many components are confirmed where three pieces come and go, by how the images' slices were cut.

    python tests/benchmarks/bench_slices.py [--slices exact cubic] [--snr 0.05 0.01]
        [--seeds 5] [--first-seed 0] [--particles 400] [--map MRC]

Other simulators interpolate the volumes of which they take images. Their images differ from those of the
volume by what depends on the view, all tilts of a particle alike, and the linear model may take this for
structure. Data sets of the program's simulator, box 48, 41 tilts, poses as stated; only the slices differ:

- exact: sums over all voxels (`tomohet.simulation.projection`);
- cubic: cubic splines through the volume's transform, which is not padded;
- unfiltered: the same without the filter that makes a spline pass through the values;
- rotated: the volume is turned by cubic splines and added up along the beam.

Prints first the error of each kind of slices, relative rms up to half of Nyquist, over random views of the
whole particle. Then, for each data set: the components confirmed; those that a condition of imaging explains,
with the share explained; the z value of surroundings; the AUC of each piece by a cross-validated linear
read-out of the latents. At the end their means, and the share of the sets whose components are within 1 of
what varies.

--map: instead of the simulator's particle, the middle of a map of 48 voxels or more along each axis, three
caps of which are the pieces. It fills the box, so that to turn it takes ten minutes a set.
"""

import argparse
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from bench_poses import of_blocks
from scipy import ndimage
from simulated_sets import command
from torch import Tensor

from tomohet.files.mrc import read_volume
from tomohet.linear.fit import LinearModel, fit_linear_model
from tomohet.particles.store import open_store
from tomohet.physics.fourier import transform2
from tomohet.physics.geometry import random_rotations
from tomohet.physics.lattice import half_plane
from tomohet.simulation import experiment, projection
from tomohet.simulation.config import Block, SimulationConfig
from tomohet.simulation.simulate import simulate
from tomohet.simulation.specimen import Specimen
from tomohet.simulation.truth import load_truth

BOX = 48
PIECES = (Block("S1", 0.09, 0.6), Block("S2", 0.07, 0.5), Block("S3", 0.05, 0.4))
PARTICLE = SimulationConfig(box=BOX, tilt_step=3.0, blocks=PIECES, dialect="warp")
# Density below this share of a map's highest is not turned.
OUTSIDE = 1e-4
POINTS_AT_ONCE, VIEWS = 2**21, 100


class TransformSlices:
    """Slices by cubic splines through the transforms of maps (c, D, D, D)."""

    def __init__(self, maps: Tensor) -> None:
        self.box = maps.shape[-1]
        centred = np.fft.ifftshift(maps.numpy(), axes=(1, 2, 3))
        spectra = np.fft.fftshift(np.fft.fftn(centred, axes=(1, 2, 3)), axes=(1, 2, 3))
        self.coefficients = [self.coefficients_of(one) for one in spectra]

    def coefficients_of(self, spectrum: np.ndarray) -> np.ndarray:
        """Spline coefficients of a transform."""
        return ndimage.spline_filter(spectrum, output=np.complex128, mode="grid-wrap")

    def at(self, frequency_cpp: Tensor, rotation: Tensor) -> Tensor:
        """As `projection.MapSlices.at`."""
        points = (frequency_cpp.to(rotation.dtype) @ rotation[:, :2]).double().numpy()
        places = np.moveaxis(self.box * points + self.box // 2, -1, 0)[::-1]  # z, y, x
        slices = [
            ndimage.map_coordinates(one, places, mode="grid-wrap", prefilter=False)
            for one in self.coefficients
        ]
        return torch.as_tensor(np.stack(slices, axis=-1).astype(np.complex64))


class UnfilteredSlices(TransformSlices):
    """With the transform's own values for spline coefficients."""

    def coefficients_of(self, spectrum: np.ndarray) -> np.ndarray:
        """The spectrum itself."""
        return spectrum


class RotatedSlices:
    """Slices of the projections of maps (c, D, D, D) that are turned by cubic interpolation.

    Of each map the ball is turned that holds its density.
    """

    def __init__(self, maps: Tensor) -> None:
        self.box = maps.shape[-1]
        self.maps = [self._prepared(one) for one in maps.double().numpy()]

    def _prepared(self, density: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Spline coefficients, middle of the ball (x, y, z), and its voxels (p, 3) about that."""
        inside = np.argwhere(np.abs(density) > OUTSIDE * np.abs(density).max())[:, ::-1] - self.box // 2
        middle = (inside.min(0) + inside.max(0)) / 2
        radius = min(np.linalg.norm(inside - middle, axis=1).max() + 2, self.box / 2)
        axis = np.arange(-np.ceil(radius), np.ceil(radius) + 1)
        ball = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        return ndimage.spline_filter(density), middle, ball[np.linalg.norm(ball, axis=1) <= radius]

    def at(self, frequency_cpp: Tensor, rotation: Tensor) -> Tensor:
        """As `projection.MapSlices.at`, at all the frequencies of the box's half-plane."""
        hp = half_plane(self.box)
        if not torch.equal(frequency_cpp, hp.frequency):
            raise ValueError("expected the frequencies of the map's own box")
        images = np.stack([self._projections(*one, rotation.double().numpy()) for one in self.maps], axis=1)
        return hp.gather(transform2(torch.as_tensor(images))).transpose(1, 2).to(torch.complex64)

    def _projections(
        self, coefficients: np.ndarray, middle: np.ndarray, ball: np.ndarray, rotation: np.ndarray
    ) -> np.ndarray:
        """(m, D, D) sums along z of the density turned by rotations (m, 3, 3)."""
        images, step = np.zeros((len(rotation), self.box**2)), max(1, POINTS_AT_ONCE // len(ball))
        for start in range(0, len(rotation), step):
            turn = rotation[start : start + step]
            voxels = np.rint(turn @ middle)[:, None] + ball
            places = np.moveaxis(voxels @ turn + self.box // 2, -1, 0)[::-1]  # R^-1 x, as z, y, x
            values = ndimage.map_coordinates(coefficients, places, prefilter=False)
            x, y = (voxels[..., i].astype(int) + self.box // 2 for i in (0, 1))
            seen = (x >= 0) & (x < self.box) & (y >= 0) & (y < self.box)
            flat = (np.arange(len(turn))[:, None] * self.box + y) * self.box + x
            sums = np.bincount(flat[seen], values[seen], minlength=len(turn) * self.box**2)
            images[start : start + step] = sums.reshape(len(turn), -1)
        return images.reshape(-1, self.box, self.box)


SLICES = {
    "exact": projection.MapSlices,
    "cubic": TransformSlices,
    "unfiltered": UnfilteredSlices,
    "rotated": RotatedSlices,
}


def of_map(path: str) -> Specimen:
    """The middle of a map, whose caps in three directions at right angles are the pieces."""
    density, pixel_size_A = read_volume(path)
    cut = [slice(n // 2 - BOX // 2, n // 2 - BOX // 2 + BOX) for n in density.shape]
    rest = density[tuple(cut)].clip(min=0)
    total, axis, pieces = rest.sum(), np.arange(BOX) - BOX // 2, []
    for number, piece in enumerate(PIECES):
        height = np.broadcast_to(np.expand_dims(axis, [i for i in range(3) if i != number]), rest.shape)
        by_plane = np.bincount((height + BOX // 2).ravel(), rest.ravel())
        beyond = height >= axis[np.cumsum(by_plane[::-1])[::-1] > piece.mass * total][-1]
        pieces.append(np.where(beyond, rest, 0))
        rest = np.where(beyond, 0, rest)
    return Specimen(rest, np.stack(pieces), PIECES, pixel_size_A)


def row_of(model: LinearModel) -> dict:
    """What the model confirms, what it puts down to conditions of imaging, and surroundings."""
    row = {"components": model.held_out.n_components if model.held_out.found else 0}
    row["explained"] = " ".join(f"{one.condition} {one.share:.2f}" for one in model.held_out.explained)
    return row | {"surroundings": np.nan if model.surroundings is None else model.surroundings}


def fitted(place: Path, config: SimulationConfig, slices: str, specimen: Specimen | None) -> dict:
    """Simulate with these slices, prepare, fit; a row of the table."""
    with patch.object(projection, "MapSlices", SLICES[slices]):
        made = patch.object(experiment, "make_specimen", lambda *_: specimen) if specimen else nullcontext()
        with made:
            simulate(config, place / "simulated")
    command("prepare", place / "simulated" / "particles.star", "-o", place / "prepared")
    store, truth = open_store(place / "prepared"), load_truth(place / "simulated" / "truth.npz")
    rows = truth.rows_of(store.particles["source_id"].to_numpy())
    start = time.process_time()
    model = fit_linear_model(store, np.arange(config.n_particles))
    seconds = time.process_time() - start
    return row_of(model) | of_blocks(model, truth, rows) | {"CPU s": seconds}


def error_of(slices: str, specimen: Specimen) -> float:
    """Relative root mean square error of slices of the whole particle, over random views, up to half of
    Nyquist."""
    rotation = torch.as_tensor(random_rotations(VIEWS, np.random.default_rng(0))).float()
    whole = torch.as_tensor((specimen.core + specimen.blocks.sum(0))[None]).float()
    inside = half_plane(BOX).radius <= BOX / 4
    exact, cut = (SLICES[kind](whole).at(half_plane(BOX).frequency, rotation) for kind in ("exact", slices))
    return float((cut - exact)[:, inside].norm() / exact[:, inside].norm())


def main() -> None:
    """Simulate, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", nargs="+", choices=SLICES, default=["exact", "cubic"])
    parser.add_argument("--snr", type=float, nargs="+", default=[0.05, 0.01])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--particles", type=int, default=400)
    parser.add_argument("--map", metavar="MRC")
    args = parser.parse_args()
    specimen = of_map(args.map) if args.map else None
    shown = specimen or experiment.draw_experiment(PARTICLE).specimen
    for slices in args.slices:
        print(f"{slices}: slices are off by {100 * error_of(slices, shown):.2f} %", flush=True)
    rows = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for snr in args.snr:
            for slices in args.slices:
                config = replace(PARTICLE, n_particles=args.particles, snr=snr, seed=seed)
                row = {"slices": slices, "SNR": snr, "seed": seed}
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(row | fitted(Path(folder), config, slices, specimen))
                print(
                    pd.DataFrame(rows[-1:]).round(3).to_csv(index=False, header=len(rows) == 1),
                    end="",
                    flush=True,
                )
    table = pd.DataFrame(rows).drop(columns=["seed", "explained"])
    table["within 1"] = (table["components"] - len(PIECES)).abs() <= 1
    print(table.groupby(["slices", "SNR"], sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    main()
