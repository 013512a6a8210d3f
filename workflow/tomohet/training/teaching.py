"""Training of a network that starts from the linear model; held-out tilts decide how much of it is kept.

A tenth of each particle's tilts does not train the decoder. After epochs of a calendar these tilts decide,
before the last epoch those of a random sample of particles (`training.judging`),

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
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.fitted_maps import FittedMaps
from tomohet.linear.prediction import source_tensor, summed_copies
from tomohet.linear.significance import ADOPTED_SE, exceeds
from tomohet.model.latent_prior import fit_latent_prior
from tomohet.model.latent_terms import misfits, network_share
from tomohet.model.mlp import scale_, scale_inputs_
from tomohet.model.taught import FreeLatents, TaughtEncoder, padded
from tomohet.model.vae import HeterogeneityVAE
from tomohet.particles.store import Store
from tomohet.training.batches import ParticleImages
from tomohet.training.free_latents import STEPS, Inferred, all_terms, as_measured, free_latents
from tomohet.training.held_out import reason_to_end, write_held_out
from tomohet.training.judging import (
    FACTORS_OF_LATENTS,
    PASSES_OF_TRAINING,
    Calendar,
    is_best,
    judging_particles,
    paired_change,
    paired_fall,
    points,
    standard_error,
    work_of_judging,
)
from tomohet.training.latents import PARTICLES_AT_ONCE, infer_latents
from tomohet.training.likelihood import Likelihood
from tomohet.training.posteriors import with_posteriors
from tomohet.training.splits import TiltSplit

HIGHEST = 0.5  # cycles/px: Nyquist
# Since the judgement before, and since the best one, by the same particles.
CHANGE = ("change_of_decoder", "error_of_change", "fall_since_best", "error_of_fall")

log = logging.getLogger(__name__)


@dataclass
class Teaching:
    """The linear model's part in a training.

    fitted, unseen : the images that train the decoder, and the held-out images that test it
    whole : the images of both
    near : likelihood of the Fourier points that the linear model was fitted to
    source : (P,) number of the particle whose images each particle has, where some are copies
    folder : gets held_out.csv and the verdict (`held_out`)
    rows_per_image : fraction of each image's Fourier points that a training step draws
    dtype : of the factors of the network's products, as in the training
    sample : positions of the particles that judge before the last epoch, None for all

    start : (P, 2, zdim) latents from which the network starts: the linear ones, until better ones are adopted

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
    source: Tensor | None = None
    rows_per_image: float = 1.0
    dtype: torch.dtype = torch.float32
    judged: Tensor | None = None  # (P,) gain on each particle when it was last judged; nan if it was not
    best: Tensor | None = None  # likewise, in the best judgement
    sample: np.ndarray | None = field(init=False)
    linear: Tensor = field(init=False)  # (P, 2, zdim): the linear posteriors from the fitted images
    start: Tensor = field(init=False)
    calendar: Calendar = field(init=False)

    def __post_init__(self) -> None:
        self.linear = padded(self.fitted.start, self.model.decoder.zdim)
        self.start = self.linear.clone()
        source = None if self.source is None else self.source.cpu().numpy()
        self.sample = judging_particles(self.unseen.tilts, source, self.seed)
        steps = STEPS if isinstance(self.model.encoder, FreeLatents) else 0
        training = self.rows_per_image * points(self.fitted)
        work = work_of_judging(self.fitted, self.unseen, self.sample, len(self.near.noise), steps)
        self.calendar = Calendar.of(self.epochs, PASSES_OF_TRAINING * training, *work)
        self._judges, self._highest = None, HIGHEST
        if self.sample is not None:
            log.info("%d particles judge before the last epoch", len(self.sample))
        log.info("held-out tilts judge after every %d epochs", self.calendar.every)

    def after_epoch(self, epoch: int, max_frequency: float = HIGHEST, may_end: bool = False) -> str:
        """Judge decoder and latents on the held-out images, if the calendar says so.

        max_frequency : highest frequency that the epoch fitted, cycles/px; images are compared up to it
        may_end : whether the training may end before its last epoch

        Returns why the training ends with this epoch, "" where it goes on. At the end all particles judge,
        and latents are inferred, as after the last epoch.
        """
        if not self.calendar.judges(epoch):
            return ""
        started = time.monotonic()
        self.model.eval()
        self._judges, self._highest = None if self.calendar.is_last(epoch) else self.sample, max_frequency
        row = {"epoch": epoch, **self._scale_network()}
        reason = self._reason_to_end(row) if may_end and not self.calendar.is_last(epoch) else ""
        if reason:
            self.calendar = replace(self.calendar, epochs=epoch + 1)
            if self._judges is not None:
                self._judges = None
                row = self._scale_network() | {key: row[key] for key in ("epoch", *CHANGE) if key in row}
        encoder = self.model.encoder
        if isinstance(encoder, FreeLatents):
            if self.calendar.infers_latents(epoch):
                row |= self._infer_latents()
        elif encoder.released or row["gain_of_decoder"] > row["error_of_decoder"]:
            encoder.release()
            row |= self._test_encoder(encoder)
        if is_best(row, self._before(epoch)):
            self.best = self.judged
        self.history = [*self._before(epoch), row]
        said = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch")
        log.info("held-out tilts (judged in %.1f s): %s", time.monotonic() - started, said)
        if self.fitted.processes.leads:
            write_held_out(self.folder, self.history, reason)
        return reason

    def latents(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance (P, zdim) of every particle from all its images."""
        if isinstance(self.model.encoder, TaughtEncoder) and self.model.encoder.trusted:
            return infer_latents(self.model, self.whole)
        found = padded(self.whole.start, self.model.decoder.zdim) if self.own is None else self.own
        return found[:, 0].cpu().numpy(), found[:, 1].cpu().numpy()

    def state(self) -> dict:
        """Return what a continuation needs besides the weights."""
        return {
            "linear": self.linear,
            "fitted": self.start,
            "own": self.own,
            "history": self.history,
            "judged": self.judged,
            "best": self.best,
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
        self.start, self.own, self.history = state["fitted"], state["own"], state["history"]
        self.judged, self.best = state.get("judged"), state.get("best")

    def _before(self, epoch: int) -> list[dict]:
        """Return the judgements of earlier epochs."""
        return [past for past in self.history if past["epoch"] < epoch]

    def _reason_to_end(self, row: dict) -> str:
        """Say why the training may end with this judgement, as the leading process finds; else ""."""
        reason = reason_to_end([*self._before(row["epoch"]), row])
        return self.fitted.processes.as_the_leader(reason, self.linear.device)

    @torch.no_grad()
    def _scale_network(self) -> dict:
        """Scale the network's contribution and its dependence on latents.

        Returns the gain on held-out images.
        """
        decoder = self.model.decoder
        first, *_, last = decoder.decoder.affine_layers()
        factors, z = FACTORS_OF_LATENTS, self.start[:, 0]
        share = self._held_out_sums(
            network_share, self.near.everywhere(), z, factors, shape=(len(factors), 2)
        )
        product, power = share.double().unbind(2)
        factors = (product.sum(0) / power.sum(0).clamp_min(1e-30)).clamp(0, 1)
        gains = self._per_judge(2 * factors * product - factors**2 * power)
        best = int(gains.sum(0).argmax())
        factor, of_latents = float(factors[best]), FACTORS_OF_LATENTS[best]
        scale_inputs_(first, decoder.n_features, of_latents)
        scale_(last, factor)
        shares = {"share_of_network": factor, "share_of_latents": of_latents}
        before, self.judged = self.judged, self._by_particle(gains[:, best])
        changes = paired_change(before, self.judged) | paired_fall(self.best, self.judged)
        return shares | self._named(gains[:, best], "decoder") | changes

    def _by_particle(self, gain: Tensor) -> Tensor:
        """Spread the judging particles' `gain` over all particles, nan for the others."""
        if self._judges is None:
            return gain
        particles = len(self.linear) if self.source is None else int(self.source.max()) + 1
        rows = torch.as_tensor(self._judges, device=gain.device)
        rows = rows if self.source is None else self.source[rows].unique()
        return gain.new_full((particles,), torch.nan).index_copy_(0, rows, gain)

    def _test_encoder(self, encoder: TaughtEncoder) -> dict:
        """Test whether the encoder's latents predict held-out images better than the linear model's."""
        encoder.trust(True)
        mu, _ = infer_latents(self.model, self.fitted.knowing(start=self.start), only=self._judges)
        gain = self._gain(torch.as_tensor(mu, device=self.linear.device))
        encoder.trust(_adopted(gain))
        return self._named(gain, "latents")

    def _infer_latents(self) -> dict:
        """Infer latents in closed form, under the current decoder and a prior learnt from all of them."""
        decoder, encoder = self.model.decoder, self.model.encoder
        z, fitted = self.start[:, 0], self.fitted.limited(self._highest)
        terms = all_terms(decoder, fitted, self.near, z, self.dtype)
        prior = fit_latent_prior(*as_measured(terms, z), self.seed)
        found = free_latents(decoder, fitted, self.near, z, prior, terms=terms, dtype=self.dtype)
        gain = self._gain(found.mean)
        trusted = _adopted(gain)
        encoder.adopt(prior if trusted else None)
        posterior = torch.stack((found.mean, found.variance.log()), dim=1)
        self.start = posterior if trusted else self.linear.clone()
        self.own = self._from_all_images(found, prior) if trusted else None
        return self._named(gain, "latents") | {"components_of_prior": len(prior.weight)}

    def _from_all_images(self, found: Inferred, prior) -> Tensor:
        """Add what the held-out images measure to latents inferred from the others."""
        images = self.unseen.limited(self._highest)
        unseen = all_terms(self.model.decoder, images, self.near, found.mean, self.dtype)
        a, b = as_measured(unseen, found.mean)
        mean, covariance = prior.posterior(found.precision + a, found.b + b)
        return torch.stack((mean, torch.diagonal(covariance, dim1=1, dim2=2).log()), dim=1)

    def _gain(self, z: Tensor) -> Tensor:
        """Compute by how many nats latents `z` (P, K) predict held-out images better than the linear ones.

        Returns one gain per judging particle; the gains of all copies of one particle are added.
        """
        both = [self._held_out_sums(misfits, self.near, x) for x in (self.linear[:, 0], z)]
        return self._per_judge((both[0] - both[1]).double())

    def _held_out_sums(self, function, likelihood: Likelihood, z: Tensor, *arguments, shape=()) -> Tensor:
        """Compute `function` of `model.latent_terms` for the held-out images of the judging particles.

        Returns (P, *shape). Other particles, and those without an image, get 0.
        """
        images, decoder = self.unseen.limited(self._highest), self.model.decoder
        present = images.tilts > 0
        if self._judges is not None:
            present[np.setdiff1d(np.arange(len(images)), self._judges)] = False
        groups = images.own_groups(np.flatnonzero(present), PARTICLES_AT_ONCE)
        found = z.new_zeros(len(images), *shape)
        for own, batch in zip(groups, images.batches(groups), strict=True):
            at = torch.as_tensor(own, device=z.device)
            found[at] = function(decoder, likelihood.rows(batch), z[at], *arguments, dtype=self.dtype)
        return images.processes.add_up(found)

    def _per_judge(self, values: Tensor) -> Tensor:
        """Take the judging particles' rows of `values` (P, ...), and add those of copies."""
        sums = summed_copies(values, self.source)
        if self._judges is None:
            return sums
        rows = torch.as_tensor(self._judges, device=values.device)
        return sums[rows if self.source is None else self.source[rows].unique()]

    def _named(self, gain: Tensor, what: str) -> dict:
        """Return the sum over all particles and its standard error, from the judging ones."""
        particles = len(self.linear) if self.source is None else int(self.source.max()) + 1
        share = 1.0 if self._judges is None else particles / len(gain)
        error = standard_error(gain).item()
        return {f"gain_of_{what}": share * gain.sum().item(), f"error_of_{what}": share * error}


def _adopted(gain: Tensor) -> bool:
    """Tell whether latents of this gain (P,) replace the linear model's."""
    return exceeds(gain.sum().item(), standard_error(gain).item(), ADOPTED_SE)


def teach(
    maps: FittedMaps,
    model: HeterogeneityVAE,
    store: Store,
    particles: np.ndarray,
    split: TiltSplit,
    fitted: ParticleImages,
    unseen: ParticleImages,
    whole: ParticleImages,
    **course,
) -> Teaching:
    """Fill the model with the linear maps, and join the images with their linear posteriors.

    maps : of `FittedMaps.for_store`
    course : epochs, seed, folder, rows_per_image and dtype of the `Teaching` that is returned
    """
    model.decoder.base.fill(maps.mean.volume, maps.basis[: model.decoder.base.n_basis])
    fitted = with_posteriors(fitted, maps, model, store, particles, split.trained)
    whole = with_posteriors(whole, maps, model, store, particles, split.trained | split.judging)
    rows = store.images_of(particles)[split.judging]
    unseen = unseen.knowing(noise=maps.relative_noise(store, rows))
    near = Likelihood(fitted.half_plane, maps.mean.noise.common)
    source = source_tensor(store, particles, fitted.device)
    return Teaching(model, fitted, unseen, whole, near, source=source, **course)
