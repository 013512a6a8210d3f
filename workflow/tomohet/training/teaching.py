"""Training of a network that starts from the linear model; held-out tilts decide how much of it is kept.

A tenth of each particle's tilts does not train the decoder. After every epoch these held-out tilts decide

- the scale of the network's contribution to the volumes: the factor between 0 and 1 that predicts the
  held-out images best, so that the decoder is never worse than the linear model;
- how much of the contribution may depend on the latents: all particles improve the mean map, but few
  particles show differences beyond the linear maps, and where there are none the network fits noise;
- whether the encoder may change latents (it is released once the decoder beats the linear model);
- whether the latents of the encoder, or those in closed form, predict the held-out images better than the
  linear model's; only then do they become the results of the training.

The scale of a contribution N to a base B is s = sum a / sum q, clipped to [0, 1], with a and q of
`model.latent_terms.network_share`; its gain is 2 s a - s^2 q.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.inference import Teacher
from tomohet.linear.prediction import source_tensor, summed_copies
from tomohet.linear.significance import ADOPTED_SE, exceeds
from tomohet.model.latent_prior import fit_latent_prior
from tomohet.model.latent_terms import network_share
from tomohet.model.mlp import scale_, scale_inputs_
from tomohet.model.taught import FreeLatents, TaughtEncoder, padded
from tomohet.model.vae import HeterogeneityVAE
from tomohet.particles.store import Store
from tomohet.training.batches import ParticleImages
from tomohet.training.free_latents import all_terms, as_measured, free_latents
from tomohet.training.held_out import write_held_out
from tomohet.training.latents import PARTICLES_AT_ONCE, infer_latents
from tomohet.training.likelihood import Likelihood
from tomohet.training.order import in_groups
from tomohet.training.splits import TiltSplit, with_images

log = logging.getLogger(__name__)

ROUNDS_OF_LATENTS = 3  # number of times in a training that latents in closed form are inferred
FACTORS_OF_LATENTS = (1.0, 0.5, 0.0)  # tried after every epoch on the network's weights for latents


@dataclass
class Teaching:
    """The linear model's part in a training.

    fitted, unseen : the images that train the decoder, and the held-out images that test it
    whole : the images of both
    near : likelihood of the Fourier points that the linear model was fitted to
    source : (P,) number of the particle whose images each particle has, where some are copies
    folder : gets held_out.csv and the verdict (`held_out`)

    `start` of `fitted` and of `whole` holds the linear posteriors from their own images; `unseen` has none.
    """

    model: HeterogeneityVAE
    fitted: ParticleImages
    unseen: ParticleImages
    whole: ParticleImages
    near: Likelihood
    epochs: int
    seed: int
    folder: Path
    history: list[dict] = field(default_factory=list)
    own: Tensor | None = None  # (P, 2, zdim): latents in closed form from all images
    linear: Tensor | None = None  # (P, 2, zdim): the linear posteriors from the fitted images
    source: Tensor | None = None

    def __post_init__(self) -> None:
        self.linear = padded(self.fitted.start, self.model.decoder.zdim)
        self.fitted.start = self.linear.clone()

    def after_epoch(self, epoch: int) -> None:
        """Judge decoder and latents on the held-out images."""
        self.model.eval()
        row = {"epoch": epoch, **self._scale_network()}
        encoder = self.model.encoder
        if isinstance(encoder, FreeLatents):
            every = -(-self.epochs // ROUNDS_OF_LATENTS)
            if (epoch + 1) % every == 0 or epoch + 1 == self.epochs:
                row |= self._infer_latents()
        elif encoder.released or row["gain_of_decoder"] > row["error_of_decoder"]:
            encoder.released = True
            row |= self._test_encoder(encoder)
        self.history = [past for past in self.history if past["epoch"] < epoch] + [row]
        log.info("held-out tilts: %s", ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch"))
        if self.fitted.processes.leads:
            write_held_out(self.folder, self.history)

    def latents(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance (P, zdim) of every particle from all its images."""
        if getattr(self.model.encoder, "trusted", False):
            return infer_latents(self.model, self.whole)
        found = padded(self.whole.start, self.model.decoder.zdim) if self.own is None else self.own
        return found[:, 0].cpu().numpy(), found[:, 1].cpu().numpy()

    def state(self) -> dict:
        """Return what a continuation needs besides the weights."""
        return {
            "linear": self.linear,
            "fitted": self.fitted.start,
            "own": self.own,
            "history": self.history,
        }

    def load_state(self, state: dict | None) -> None:
        """Continue from a `state`.

        Raises ValueError when the state is from a training without a linear model, or with other particles or
        tilt images.
        """
        if state is None:
            raise ValueError("that training did not start from a linear model")
        linear = state["linear"]
        if linear.shape != self.linear.shape or not torch.allclose(linear, self.linear, atol=1e-2):
            raise ValueError("that training had other particles, other tilt images or another linear model")
        self.fitted.start, self.own, self.history = state["fitted"], state["own"], state["history"]

    @torch.no_grad()
    def _scale_network(self) -> dict:
        """Scale the network's contribution and its dependence on latents.

        Returns the gain on held-out images.
        """
        decoder = self.model.decoder
        first, *_, last = decoder.decoder.affine_layers()
        share = _summed(self.unseen, decoder, self.near.everywhere(), self.fitted.start[:, 0])
        product, power = share.double().unbind(2)
        factors = (product.sum(0) / power.sum(0).clamp_min(1e-30)).clamp(0, 1)
        gains = summed_copies(2 * factors * product - factors**2 * power, self.source)
        best = int(gains.sum(0).argmax())
        factor, of_latents = float(factors[best]), FACTORS_OF_LATENTS[best]
        scale_inputs_(first, decoder.n_features, of_latents)
        scale_(last, factor)
        shares = {"share_of_network": factor, "share_of_latents": of_latents}
        return shares | _named(gains[:, best], "decoder")

    def _test_encoder(self, encoder: TaughtEncoder) -> dict:
        """Test whether the encoder's latents predict held-out images better than the linear model's."""
        encoder.trusted = True
        mu, _ = infer_latents(self.model, self.fitted)
        gain = self._gain(torch.as_tensor(mu, device=self.linear.device))
        encoder.trusted = _adopted(gain)
        return _named(gain, "latents")

    def _infer_latents(self) -> dict:
        """Infer latents in closed form, under the current decoder and a prior learnt from all of them."""
        decoder, encoder = self.model.decoder, self.model.encoder
        z = self.fitted.start[:, 0]
        a, b = as_measured(all_terms(decoder, self.fitted, self.near, z), z)
        prior = fit_latent_prior(a, b, self.seed)
        z, variance = free_latents(decoder, self.fitted, self.near, z, prior)
        gain = self._gain(z)
        trusted = _adopted(gain)
        encoder.prior = prior if trusted else None
        self.fitted.start = torch.stack((z, variance.log()), dim=1) if trusted else self.linear.clone()
        self.own = self._from_all_images(z, prior) if trusted else None
        return _named(gain, "latents") | {"components_of_prior": len(prior.weight)}

    def _from_all_images(self, z: Tensor, prior) -> Tensor:
        decoder = self.model.decoder
        terms = all_terms(decoder, self.fitted, self.near, z)
        terms += all_terms(decoder, self.unseen, self.near, z)
        mean, covariance = prior.posterior(*as_measured(terms, z))
        return torch.stack((mean, torch.diagonal(covariance, dim1=1, dim2=2).log()), dim=1)

    def _gain(self, z: Tensor) -> Tensor:
        """Compute by how many nats latents `z` predict held-out images better than the linear ones.

        Returns one gain per particle; the gains of all copies of one particle are added.
        """
        both = [
            all_terms(self.model.decoder, self.unseen, self.near, x).misfit for x in (self.linear[:, 0], z)
        ]
        return summed_copies((both[0] - both[1]).double(), self.source)


def _adopted(gain: Tensor) -> bool:
    """Tell whether latents of this gain (P,) replace the linear model's."""
    return exceeds(gain.sum().item(), _error(gain).item(), ADOPTED_SE)


def _error(gain: Tensor) -> Tensor:
    return gain.std() * len(gain) ** 0.5


def _named(gain: Tensor, what: str) -> dict:
    """Return the sum over particles and its standard error under the names of `what`."""
    return {f"gain_of_{what}": gain.sum().item(), f"error_of_{what}": _error(gain).item()}


def _summed(images: ParticleImages, decoder, likelihood: Likelihood, z: Tensor) -> Tensor:
    """Compute `network_share` (P, F, 2) of all particles of `images`, for all FACTORS_OF_LATENTS."""
    groups = in_groups(np.flatnonzero(images.tilts > 0), PARTICLES_AT_ONCE * images.processes.size)
    found = z.new_zeros(len(images), len(FACTORS_OF_LATENTS), 2)
    parts = [group[images.processes.part(len(group))] for group in groups]
    for own, batch in zip(parts, images.batches(groups), strict=True):
        if len(own):
            at = torch.as_tensor(own, device=z.device)
            found[at] = network_share(decoder, likelihood.rows(batch), z[at], FACTORS_OF_LATENTS)
    return images.processes.add_up(found)


def teach(
    teacher: Teacher,
    model: HeterogeneityVAE,
    store: Store,
    particles: np.ndarray,
    split: TiltSplit,
    fitted: ParticleImages,
    unseen: ParticleImages,
    whole: ParticleImages,
    **course,
) -> Teaching:
    """Fill the model with the linear maps and the images with their linear posteriors.

    course : epochs, seed and folder of the `Teaching` that is returned
    """
    model.decoder.base.fill(*teacher.maps(store, model.decoder.base.n_basis))
    take_posteriors(fitted, teacher, model, store, particles, split.trained)
    take_posteriors(whole, teacher, model, store, particles, split.trained | split.judging)
    unseen.noise = teacher.relative_noise(store, store.images_of(particles)[split.judging], unseen.device)
    near = Likelihood(fitted.half_plane, teacher.noise(fitted.device))
    source = source_tensor(store, particles, fitted.device)
    return Teaching(model, fitted, unseen, whole, near, source=source, **course)


def take_posteriors(
    images: ParticleImages,
    teacher: Teacher,
    model: HeterogeneityVAE,
    store: Store,
    particles: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Give `images` their linear posteriors, noise levels and, if the encoder reads them, particle maps.

    mask : over the images of `particles`, true where they belong to `images`
    """
    device, part = images.device, with_images(store, particles, mask)
    # Basis maps are in the order of their power: a network with fewer latents starts from the first of them.
    images.start = teacher.posterior(part, particles, device)[..., : model.decoder.base.n_basis]
    images.noise = teacher.relative_noise(store, store.images_of(particles)[mask], device)
    if model.encoder.sees == "maps":
        images.maps = teacher.particle_maps(part, particles, device)
