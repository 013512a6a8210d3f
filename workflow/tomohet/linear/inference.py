"""Fitted linear model, read from its folder, and its posteriors of any particles; networks start from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.files.arrays import read_arrays
from tomohet.files.tables import read_table
from tomohet.linear.em import expectation
from tomohet.linear.poses import PoseEstimates
from tomohet.linear.prediction import TABLES, SplitLikelihood, source_tensor
from tomohet.model.config_file.reading import read_settings
from tomohet.model.load import read_weights
from tomohet.model.settings import LinearFit, LinearSettings
from tomohet.model.taught import MAP_BOX, stack_posterior
from tomohet.particles.joining import rows_of
from tomohet.particles.refined_poses import POSE_COLUMNS, REFINE
from tomohet.particles.same_input import refuse_other_input
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.noise import Noise
from tomohet.reconstruction.nuisance import Nuisance
from tomohet.reconstruction.observations import Observations, dose_bins, tomograms_of
from tomohet.reconstruction.particle_maps import particle_maps

# Likelihood of training and held-out images, in an output folder of train_linear.
HELD_OUT = "held_out.npz"
# Errors of the particles' poses, in the same folder.
POSES = "poses.parquet"


def read_linear(folder: Path, box: int) -> tuple[LinearSettings, LinearFit, dict[str, Tensor]]:
    """Read settings and tensors (`linear.output.write_run`) of an output folder of train_linear.

    Raises InputError if the folder is not from train_linear, or was fitted to another box.
    """
    settings = read_settings(folder / "config.pkl")
    if not isinstance(settings, LinearSettings):
        raise InputError(f"{folder}: a model of train_vae or train_nn, expected train_linear's")
    if settings.box != box:
        raise InputError(f"{folder}: fitted to a box of {settings.box}, not {box}")
    if settings.fit is None:
        raise InputError(f"{folder}: fitted by an earlier version; run train_linear again")
    weights = read_weights(folder / "weights.pkl")
    if "spectral_variance" not in weights.get("posterior", {}):
        raise InputError(f"{folder}: fitted by an earlier version; run train_linear again")
    state = weights["model_state_dict"] | weights["posterior"]
    expected = {"mean": (box,) * 3, "mask": (box,) * 3, "basis": (settings.n_basis, box, box, box)}
    found = {name: tuple(state[name].shape) if name in state else "nothing" for name in expected}
    if found != expected or len(state["tomogram_noise"]) != len(settings.fit.tomograms):
        raise InputError(
            f"{folder}: weights.pkl and config.pkl are not of the same fit ({found}, expected {expected}); "
            "run train_linear again"
        )
    return settings, settings.fit, state


@dataclass(frozen=True)
class Teacher:
    """Linear model of an output folder of train_linear: its settings and tensors."""

    folder: Path
    settings: LinearSettings
    fit: LinearFit
    state: dict[str, Tensor]

    @classmethod
    def of(cls, folder: Path, box: int) -> "Teacher":
        """Read a folder; raise InputError if it is not from train_linear, or for another box."""
        return cls(folder, *read_linear(folder, box))

    @property
    def n_basis(self) -> int:
        """Number of basis maps."""
        return self.settings.n_basis

    @property
    def nuisance(self) -> Nuisance | None:
        """Nuisance maps: outside the focus mask, or explained by imaging conditions; None without."""
        if "nuisance" not in self.state:
            return None
        return Nuisance(self.state["nuisance"], self.state["nuisance_variance"])

    def maps(self, store: Store, n_basis: int) -> tuple[Tensor, Tensor]:
        """Return the mean (D, D, D) and the first n_basis basis maps, in the units of the store's images."""
        unit = self.settings.scale / store.scale
        return unit * self.state["mean"], unit * self.state["basis"][:n_basis]

    def basis_variance(self, store: Store, device: torch.device | str) -> Tensor:
        """Posterior variance (K, shells) of coefficients of the basis maps, in the units of the images."""
        return (self.settings.scale / store.scale) ** 2 * self.state["basis_variance"].to(device)

    def posterior(self, store: Store, particles: np.ndarray, device: torch.device) -> Tensor:
        """Return posterior mean and log variance (P, 2, K) of particles (store ordinals), in closed form.

        Nuisance variables are integrated out. Poses are corrected, and residual pose errors are ignored, as
        in networks.
        """
        store = self.poses(store, particles).corrected(store, particles)
        observations = self._observations(store, particles, device)
        basis = self.maps(store, self.n_basis)[1].to(device), self.basis_variance(store, device)
        latents, _ = expectation(observations, self.mean_map(store, device), *basis, accumulate=False)
        latents = latents.first(self.n_basis)
        return stack_posterior(latents.mean, torch.diagonal(latents.covariance, dim1=1, dim2=2).log())

    def particle_maps(self, store: Store, particles: np.ndarray, device: torch.device) -> Tensor:
        """Return each particle's back-projected difference from the mean map, flat (P, voxels) float16.

        Each map is scaled to unit root mean square, which is that of its noise, because particles have
        different numbers of tilts.
        """
        store = self.poses(store, particles).corrected(store, particles)
        observations = self._observations(store, particles, device, MAP_BOX)
        maps = particle_maps(observations, self.mean_map(store, device)).flatten(1)
        return (maps / maps.square().mean(1, keepdim=True).sqrt().clamp_min(1e-30)).half()

    def mean_map(self, store: Store, device: torch.device | str) -> MeanMap:
        """Return the mean map in the units of the store's images, with noise, nuisance maps and image shifts.

        The noise is that of the store's tomograms.
        """
        unit = self.settings.scale / store.scale
        mean, mask, power = (self.state[name].to(device) for name in ("mean", "mask", "power"))
        noise, nuisance = self._noise(tomograms_of(store)[0], device), self.nuisance
        if nuisance is not None:
            maps, variance = nuisance.maps.to(device), nuisance.variance.to(device)
            nuisance = Nuisance(unit * maps, unit**2 * variance)
        shift_px = self.fit.tilt_shift_A / store.pixel_size_A
        return MeanMap(unit * mean, mask, noise, unit**2 * power, nuisance=nuisance, tilt_shift_px=shift_px)

    def poses(self, store: Store, particles: np.ndarray) -> PoseEstimates:
        """Return the pose errors of particles (store ordinals).

        They are 0 for particles that the model was not fitted to, and for all particles if train_linear was
        told not to refine poses. The prior is kept: errors that are not corrected are integrated out.
        """
        if not any(self.fit.pose_deviation):
            return PoseEstimates.none(len(particles))
        path = self.folder / POSES
        table = read_table(path, {"particle": "whole numbers"} | dict.fromkeys(POSE_COLUMNS, "numbers"))
        estimates = PoseEstimates.read(table, self.fit.pose_deviation, store.pixel_size_A)
        rows = rows_of(particles, table["particle"].to_numpy(), path)
        return estimates.of_rows(rows if table.attrs.get(REFINE, True) else np.full_like(rows, -1))

    def _observations(
        self, store: Store, particles: np.ndarray, device: torch.device, box: int | None = None
    ) -> Observations:
        """Images of particles (store ordinals) up to the frequency that the model was fitted to."""
        frequency = self.fit.max_frequency
        return Observations(store, particles, max_frequency=frequency, box=box, device=device)

    def held_out(self, store: Store, particles: np.ndarray, device: torch.device | str) -> SplitLikelihood:
        """Return likelihoods of training and held-out images along reproducible directions.

        There are at most as many directions as basis maps.

        Raises InputError if the model was not fitted to all these particles, or was fitted to another store.
        """
        refuse_other_input(self.settings.particles.origin, store.description, self.folder, store.folder)
        path = self.folder / HELD_OUT
        tables = read_arrays(path, list(TABLES))
        known = tables.get("particle", self.settings.particles.ordinals())  # not in earlier versions' files
        if known.dtype.kind not in "iu" or any(
            len(tables[name]) != len(known) or tables[name].dtype.kind != "f" for name in TABLES
        ):
            raise InputError(f"{path}: tables of unlike particles; run train_linear again")
        rows = rows_of(particles, known, path)
        if (unknown := rows < 0).any():
            raise InputError(
                f"{self.folder}: fitted without {unknown.sum():,} of {len(particles):,} particles, so that "
                "the number of states cannot be found; fit train_linear to these particles, or give --states"
            )
        found = (torch.as_tensor(tables[name][rows]).to(device) for name in TABLES)
        return SplitLikelihood(*found, source_tensor(store, particles, device))

    def noise(self, device: torch.device) -> Tensor:
        """Return the (rows,) noise variance of the half-plane points that the model was fitted to."""
        return self.state["noise"].to(device)

    def relative_noise(self, store: Store, rows: np.ndarray, device: torch.device) -> Tensor:
        """Return the (m,) noise variance of images (rows of the store) relative to `noise`.

        The variances are geometric means over the Fourier points.
        """
        names, tomogram = tomograms_of(store)
        noise = self._noise(names, device)
        images = store.images.iloc[rows]
        own = torch.as_tensor(tomogram[images["particle"].to_numpy()], device=device)
        if noise.by_dose is None:
            level = noise.by_tomogram.log().mean(1)[own]
        else:
            shell = store.half_plane.shell[: len(noise.common)]
            share = torch.bincount(shell, minlength=noise.by_dose.shape[2]).to(noise.by_dose) / len(shell)
            dose = torch.as_tensor(dose_bins(images), device=device)
            level = (noise.by_dose.clamp_min(1e-30).log() @ share)[own, dose]
        relative = (level - noise.common.log().mean()).exp()
        return relative * torch.as_tensor(store.noise_factor[rows], device=device)

    def _noise(self, tomograms: list[str], device: torch.device | str) -> Noise:
        names = ("noise", "tomogram_noise", "dose_noise")
        state = {name: self.state[name].to(device) for name in names if name in self.state}
        return noise_of(self.fit.tomograms, state, tomograms)


def noise_of(known: list[str], state: dict[str, Tensor], tomograms: list[str]) -> Noise:
    """Return the noise of images of these tomograms: as fitted, or the common noise of unknown tomograms."""
    common = state["noise"]
    number = {name: index for index, name in enumerate(known)}
    rows = [state["tomogram_noise"][number[name]] if name in number else common for name in tomograms]
    by_dose = state.get("dose_noise")
    if by_dose is not None:
        typical = by_dose.log().mean(0).exp()
        by_dose = torch.stack([by_dose[number[name]] if name in number else typical for name in tomograms])
    return Noise(common, torch.stack(rows), by_dose)
