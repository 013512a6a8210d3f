"""What a linear model tells a network of its images: posteriors of the latents, noise and particle maps."""

import numpy as np

from tomohet.linear.fitted_maps import FittedMaps
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
    """
    part = with_images(store, particles, mask)
    # Basis maps are in the order of their power: a network with fewer latents starts from the first of them.
    return images.knowing(
        start=maps.posterior(part, particles)[..., : model.decoder.base.n_basis],
        noise=maps.relative_noise(store, store.images_of(particles)[mask]),
        maps=maps.particle_maps(part, particles) if model.encoder.sees == "maps" else None,
    )
