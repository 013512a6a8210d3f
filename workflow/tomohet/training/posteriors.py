"""What a linear model tells a network of its images: posteriors of the latents, noise and particle maps."""

import numpy as np
import torch

from tomohet.linear.fitted_maps import FittedMaps
from tomohet.model.taught import MAP_BOX
from tomohet.model.vae import HeterogeneityVAE
from tomohet.particles.store import Store
from tomohet.training.batches import ParticleImages
from tomohet.training.splits import with_images


def with_posteriors(
    images: ParticleImages,
    maps: FittedMaps,
    model: HeterogeneityVAE,
    store: Store,
    particles: np.ndarray,
    mask: np.ndarray,
) -> ParticleImages:
    """Return `images` with linear posteriors, noise levels and, if the encoder reads them, particle maps.

    maps : of `FittedMaps.for_store`
    mask : over the images of `particles`, true where they belong to `images`

    Each of several processes reads the images of its own particles alone. All get all posteriors. The maps
    of other processes' particles are 0.
    """
    part, own = with_images(store, particles, mask), particles[images.mine]
    # Basis maps are in the order of their power: a network with fewer latents starts from the first of them.
    start = torch.zeros(len(images), 2, model.decoder.base.n_basis, device=images.device)
    particle_maps = None
    if model.encoder.sees == "maps":
        particle_maps = torch.zeros(len(images), MAP_BOX**3, dtype=torch.float16, device=images.device)
    if len(own):
        mine = torch.as_tensor(images.mine, device=images.device)
        start[mine] = maps.posterior(part, own)[..., : start.shape[2]]
        if particle_maps is not None:
            particle_maps[mine] = maps.particle_maps(part, own)
    return images.knowing(
        start=images.processes.add_up(start),
        noise=maps.relative_noise(store, store.images_of(particles)[mask]),
        maps=particle_maps,
    )
