"""A network that is taught by the linear model, and trusted as far as held-out tilt images bear it out.

A tenth of each particle's tilts trains no decoder. After every epoch they tell

- how much of what the network adds to the linear maps is real: it is scaled by the factor that predicts them
  best, between 0 and 1, so that the decoder is never a worse one than the linear model;
- whether the encoder may change latents (it is released once the decoder beats the linear model);
- whether its latents, or those in closed form, predict them better than the linear model's: only then are
  they the training's results.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.inference import Teacher
from tomohet.model.latent_prior import fit_latent_prior
from tomohet.model.latent_terms import network_share
from tomohet.model.mlp import linear_parameters
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

ROUNDS_OF_LATENTS = 3  # how often in a training latents in closed form are inferred anew


@dataclass
class Teaching:
    """The linear model's part in a training.

    fitted, unseen : the images that train the decoder, and those that test it
    start : (P, 2, K) linear posteriors from all images of both; `fitted.start` has those of its own
    near : likelihood of the rows that the linear model was fitted to
    folder : gets held_out.csv and the verdict on it (`held_out`)
    """

    model: HeterogeneityVAE
    fitted: ParticleImages
    unseen: ParticleImages
    start: Tensor
    near: Likelihood
    epochs: int
    seed: int
    folder: Path
    history: list[dict] = field(default_factory=list)
    own: Tensor | None = None  # (P, 2, zdim): latents in closed form from all images
    linear: Tensor | None = None  # (P, 2, zdim): the linear posteriors from the fitted images

    def __post_init__(self) -> None:
        zdim = self.model.decoder.zdim
        self.linear = padded(self.fitted.start, zdim)
        self.start = padded(self.start, zdim)
        self.fitted.start = self.linear.clone()

    def after_epoch(self, epoch: int) -> None:
        """Judge decoder and latents."""
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
        """Mean and log variance (P, zdim) of every particle from all its images."""
        if isinstance(self.model.encoder, FreeLatents):
            found = self.start if self.own is None else self.own
            return found[:, 0].cpu().numpy(), found[:, 1].cpu().numpy()
        before, self.fitted.start = self.fitted.start, self.start
        found = infer_latents(self.model, self.fitted)
        self.fitted.start = before
        return found

    def state(self) -> dict:
        """What a continuation needs beside the weights."""
        return {"fitted": self.fitted.start, "own": self.own, "history": self.history}

    def load_state(self, state: dict) -> None:
        """Take up where `state` was taken."""
        self.fitted.start, self.own, self.history = state["fitted"], state["own"], state["history"]

    @torch.no_grad()
    def _scale_network(self) -> dict:
        """Scale what the network adds to the linear maps; its gain on held-out images, in nats."""
        decoder, everywhere = self.model.decoder, self.near.everywhere()
        share = _summed(self.unseen, decoder, everywhere, self.fitted.start[:, 0])
        product, power = share.double().unbind(1)
        factor = float((product.sum() / power.sum().clamp_min(1e-30)).clamp(0, 1))
        for parameter in linear_parameters(decoder.decoder.affine_layers()[-1]):
            parameter *= factor
        gain = 2 * factor * product - factor**2 * power
        return {"share_of_network": factor} | _named(gain, "decoder")

    def _test_encoder(self, encoder: TaughtEncoder) -> dict:
        """Whether the encoder's latents predict held-out images better than the linear model's."""
        encoder.trusted = True
        mu, _ = infer_latents(self.model, self.fitted)
        gain = self._gain(torch.as_tensor(mu, device=self.linear.device))
        encoder.trusted = bool(gain.sum() > 0)
        return _named(gain, "latents")

    def _infer_latents(self) -> dict:
        """Latents in closed form, under the decoder as it is and a prior learnt from all of them."""
        decoder, encoder = self.model.decoder, self.model.encoder
        z = self.fitted.start[:, 0]
        a, b = as_measured(all_terms(decoder, self.fitted, self.near, z), z)
        prior = fit_latent_prior(a, b, self.seed)
        z, variance = free_latents(decoder, self.fitted, self.near, z, prior)
        gain = self._gain(z)
        trusted = bool(gain.sum() > 0)
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
        """(P,) how much better latents `z` predict held-out images than the linear ones, in nats."""
        both = [
            all_terms(self.model.decoder, self.unseen, self.near, x).misfit for x in (self.linear[:, 0], z)
        ]
        return (both[0] - both[1]).double()


def _named(gain: Tensor, what: str) -> dict:
    """Sum over particles and its standard error."""
    error = gain.std() * len(gain) ** 0.5
    return {f"gain_of_{what}": gain.sum().item(), f"error_of_{what}": error.item()}


def _summed(images: ParticleImages, decoder, likelihood: Likelihood, z: Tensor) -> Tensor:
    """`network_share` (P, 2) of all particles of `images`."""
    groups = in_groups(np.flatnonzero(images.tilts > 0), PARTICLES_AT_ONCE * images.processes.size)
    found = z.new_zeros(len(images), 2)
    parts = [group[images.processes.part(len(group))] for group in groups]
    for own, batch in zip(parts, images.batches(groups), strict=True):
        if len(own):
            own = torch.as_tensor(own, device=z.device)
            found[own] = network_share(decoder, likelihood.rows(batch), z[own])
    return images.processes.add_up(found)


def teach(
    teacher: Teacher,
    model: HeterogeneityVAE,
    store: Store,
    particles: np.ndarray,
    split: TiltSplit,
    fitted: ParticleImages,
    unseen: ParticleImages,
    **course,
) -> Teaching:
    """Give the model the linear maps and the images their linear posteriors; course: epochs, seed, folder."""
    device, n_basis = fitted.device, model.decoder.base.n_basis
    model.decoder.base.fill(*teacher.maps(store, n_basis))
    part = with_images(store, particles, split.trained)
    whole = with_images(store, particles, split.trained | split.judging)
    # Basis maps are in the order of their power: a smaller network is taught by the first of them.
    fitted.start = teacher.posterior(part, particles, device)[..., :n_basis]
    start = teacher.posterior(whole, particles, device)[..., :n_basis]
    if model.encoder.sees == "maps":
        fitted.maps = teacher.particle_maps(part, particles, device)
    rows = store.images_of(particles)
    for images, mask in ((fitted, split.trained), (unseen, split.judging)):
        images.noise = teacher.relative_noise(store, rows[mask], device)
    near = Likelihood(fitted.half_plane, teacher.noise(device))
    return Teaching(model, fitted, unseen, start, near, **course)
