"""What a linear model tells a network of its images: posteriors of the latents, noise and particle maps."""

import numpy as np

from tomohet.linear.inference import Teacher
from tomohet.model.vae import HeterogeneityVAE
from tomohet.particles.store import Store
from tomohet.training.batches import ParticleImages
from tomohet.training.splits import with_images


def with_posteriors(
    images: ParticleImages,
    teacher: Teacher,
    model: HeterogeneityVAE,
    store: Store,
    particles: np.ndarray,
    mask: np.ndarray,
) -> ParticleImages:
    """Return `images` with linear posteriors, noise levels and, if the encoder reads them, particle maps.

    mask : over the images of `particles`, true where they belong to `images`
    """
    device, part = images.device, with_images(store, particles, mask)
    # Basis maps are in the order of their power: a network with fewer latents starts from the first of them.
    return images.knowing(
        start=teacher.posterior(part, particles, device)[..., : model.decoder.base.n_basis],
        noise=teacher.relative_noise(store, store.images_of(particles)[mask], device),
        maps=teacher.particle_maps(part, particles, device) if model.encoder.sees == "maps" else None,
    )
