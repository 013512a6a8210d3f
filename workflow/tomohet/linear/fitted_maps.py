"""Maps of a fitted linear model, and what they say about the images of any store.

The fit makes these maps, `linear.output` writes them, and states and networks start from them. The maps are
in the units of one store; `FittedMaps.for_store` converts them to the units of another.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.em import expectation
from tomohet.model.taught import MAP_BOX, stack_posterior
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.noise import Noise
from tomohet.reconstruction.nuisance import Nuisance
from tomohet.reconstruction.observations import Observations, dose_bins, tomograms_of
from tomohet.reconstruction.particle_maps import particle_maps


@dataclass(frozen=True)
class FittedMaps:
    """Mean map and basis maps of a linear model, with the assumptions of its forward model.

    mean : mean map with noise, nuisance maps and image shifts, but without pose errors, which belong to
        particles (`poses.PoseEstimates`)
    basis : (K, D, D, D) posterior means of the basis maps, the most powerful first
    basis_variance : (K, shells) posterior variance of the basis maps' Fourier coefficients
    local_variance : (D, D, D) prior variance of differences between particles at each voxel, relative to its
        mean
    spectral_variance : (D//2+1,) power of differences between particles relative to the mean map
    max_frequency : highest frequency of the Fourier points used, cycles per pixel
    tomograms : names of the tomograms, in the order of the noise
    scale : grey value of an image for which a value in these maps is 1 (`Store.scale`)
    pixel_size_A : pixel size of the images
    """

    mean: MeanMap
    basis: Tensor
    basis_variance: Tensor
    local_variance: Tensor
    spectral_variance: Tensor
    max_frequency: float
    tomograms: list[str]
    scale: float
    pixel_size_A: float

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor], **about) -> "FittedMaps":
        """Build maps from named tensors (`tensors`); `about` has the other fields, and tilt_shift_px."""
        noise = Noise(tensors["noise"], tensors["tomogram_noise"], tensors.get("dose_noise"))
        nuisance = None
        if "nuisance" in tensors:
            nuisance = Nuisance(tensors["nuisance"], tensors["nuisance_variance"])
        shift = {"tilt_shift_px": about.pop("tilt_shift_px")}
        mean = MeanMap(tensors["mean"], tensors["mask"], noise, tensors["power"], nuisance=nuisance, **shift)
        names = ("basis", "basis_variance", "local_variance", "spectral_variance")
        return cls(mean, *(tensors[name] for name in names), **about)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, on the host."""
        mean, nuisance = self.mean, self.mean.nuisance
        found = {
            "mean": mean.volume,
            "basis": self.basis,
            "basis_variance": self.basis_variance,
            "mask": mean.mask,
            "noise": mean.noise.common,
            "tomogram_noise": mean.noise.by_tomogram.contiguous(),
            "dose_noise": mean.noise.by_dose,
            "power": mean.power,
            "local_variance": self.local_variance,
            "spectral_variance": self.spectral_variance,
        }
        if nuisance is not None:
            found |= {"nuisance": nuisance.maps, "nuisance_variance": nuisance.variance}
        return {name: tensor.cpu() for name, tensor in found.items()}

    def for_store(self, store: Store, device: torch.device | str) -> "FittedMaps":
        """Return the maps in the units of a store's images, with the noise of its tomograms.

        The noise keeps its size, because images are divided by their own noise.
        """
        unit, names = self.scale / store.scale, tomograms_of(store)[0]
        mean, nuisance = self.mean, self.mean.nuisance
        if nuisance is not None:
            maps, variance = nuisance.maps.to(device), nuisance.variance.to(device)
            nuisance = Nuisance(unit * maps, unit**2 * variance)
        mean = MeanMap(
            unit * mean.volume.to(device),
            mean.mask.to(device),
            mean.noise.of_tomograms(self.tomograms, names).to(device),
            unit**2 * mean.power.to(device),
            nuisance=nuisance,
            tilt_shift_px=mean.tilt_shift_px * self.pixel_size_A / store.pixel_size_A,
        )
        return FittedMaps(
            mean,
            unit * self.basis.to(device),
            unit**2 * self.basis_variance.to(device),
            self.local_variance.to(device),
            self.spectral_variance.to(device),
            self.max_frequency,
            names,
            store.scale,
            store.pixel_size_A,
        )

    def observations(self, store: Store, particles: np.ndarray, box: int | None = None) -> Observations:
        """Return the images of particles (store ordinals) up to the frequency that the fit used."""
        return Observations(
            store, particles, max_frequency=self.max_frequency, box=box, device=self.basis.device
        )

    def posterior(self, store: Store, particles: np.ndarray) -> Tensor:
        """Return posterior mean and log variance (P, 2, K) of particles (store ordinals), in closed form.

        The maps have to be those of `for_store`. Nuisance variables are integrated out. Residual pose errors
        are ignored, as in networks.
        """
        observations = self.observations(store, particles)
        latents, _ = expectation(observations, self.mean, self.basis, self.basis_variance, accumulate=False)
        latents = latents.first(len(self.basis))
        return stack_posterior(latents.mean, torch.diagonal(latents.covariance, dim1=1, dim2=2).log())

    def particle_maps(self, store: Store, particles: np.ndarray) -> Tensor:
        """Return each particle's back-projected difference from the mean map, flat (P, voxels) float16.

        The maps have to be those of `for_store`. Each particle's map is scaled to unit root mean square,
        which is that of its noise, because particles have different numbers of tilts.
        """
        return particle_maps(self.observations(store, particles, MAP_BOX), self.mean).unit

    def relative_noise(self, store: Store, rows: np.ndarray) -> Tensor:
        """Return the (m,) noise variance of images (rows of the store) relative to the noise of all images.

        The maps have to be those of `for_store`. The variances are geometric means over the Fourier points.
        """
        noise, images = self.mean.noise, store.images.iloc[rows]
        device = noise.common.device
        tomogram = tomograms_of(store)[1][images["particle"].to_numpy()]
        own = torch.as_tensor(tomogram, device=device)
        if noise.by_dose is None:
            level = noise.by_tomogram.log().mean(1)[own]
        else:
            shell = store.half_plane.shell[: len(noise.common)]
            share = torch.bincount(shell, minlength=noise.by_dose.shape[2]).to(noise.by_dose) / len(shell)
            dose = torch.as_tensor(dose_bins(images), device=device)
            level = (noise.by_dose.clamp_min(1e-30).log() @ share)[own, dose]
        relative = (level - noise.common.log().mean()).exp()
        return relative * torch.as_tensor(store.noise_factor[rows], device=device)
