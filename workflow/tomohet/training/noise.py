"""Loss weights per Fourier point: the inverse noise variance, estimated shell by shell.

The noise of cryo-EM images is coloured. A maximum-likelihood loss weights each residual by the inverse of its
variance. With flat weights, the noisiest shells contribute most of the noise in the gradient.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tomohet.files.atomic import write_csv
from tomohet.options.training import NetworkOptions
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import mean_map
from tomohet.reconstruction.observations import Observations

# The noise spectrum of a mean map has converged long before this number of particles.
MOST_PARTICLES = 2000


def shell_noise(
    store: Store, particles: np.ndarray, max_frequency: float, device: torch.device, seed: int
) -> Tensor:
    """Estimate the noise variance (n,) of an untreated image at each half-plane point, shell by shell.

    The estimate is the residual of the images from the mean map of (at most 2000 of) the particles. Points
    beyond `max_frequency`, in cycles/px, get the variance of the last shell within it.
    """
    if len(particles) > MOST_PARTICLES:
        chosen = np.random.default_rng([seed, 2]).choice(len(particles), MOST_PARTICLES, replace=False)
        particles = particles[np.sort(chosen)]
    found = mean_map(
        Observations(store, np.sort(particles), max_frequency=max_frequency, device=device)
    ).noise.common
    beyond = found[-1:].expand(store.half_plane.n - len(found))
    return torch.cat([found, beyond])


def point_weights(noise: Tensor) -> Tensor:
    """Return the weights (n,) of half-plane points with noise variances `noise`: the inverse, with mean 1."""
    return (1 / noise) / (1 / noise).mean()


def loss_weights(
    options: NetworkOptions, store: Store, particles: np.ndarray, device: torch.device, folder: Path | None
) -> Tensor | None:
    """Compute the weights that `--noise-model` asks for, None for flat ones.

    `folder` gets them as noise.csv.
    """
    if options.noise_model == "flat":
        return None
    noise = shell_noise(store, particles, options.max_frequency, device, options.seed)
    if folder is not None:
        write_noise(folder / "noise.csv", store, noise)
    return point_weights(noise)


def write_noise(path: Path, store: Store, noise: Tensor) -> None:
    """Write a table of the noise by shell: shell, resolution_A, variance, weight."""
    shell = store.half_plane.shell.numpy()
    shells, first = np.unique(shell, return_index=True)
    with np.errstate(divide="ignore"):
        resolution_A = store.box * store.pixel_size_A / shells
    variance, weight = (x.cpu().numpy()[first] for x in (noise, point_weights(noise)))
    columns = {"shell": shells, "resolution_A": resolution_A, "variance": variance, "weight": weight}
    write_csv(path, pd.DataFrame(columns))
