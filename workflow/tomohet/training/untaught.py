"""Held-out tilt images judge a network that does not start from a linear model.

The test tilts of `--fraction-train` train nothing. After epochs of a calendar (`training.judging`) each
particle's latent, inferred from its other tilts, predicts them. The gain is the decrease of their misfit from
that of one volume for all particles, the decoder's at the mean latent: what the network has learnt of
the differences between particles, and not of their common structure. It is in nats for images whose noise
variance is the mean squared residual at the first judgement.

The misfit itself goes with the common structure as well, which every step of the optimiser moves. It tells
which of the epochs that know the differences has the best volumes (`held_out.preferred_epochs`).
"""

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.prediction import summed_copies
from tomohet.model.latent_terms import misfits
from tomohet.model.vae import HeterogeneityVAE
from tomohet.training.batches import ParticleImages
from tomohet.training.held_out import reason_to_end, write_held_out
from tomohet.training.judging import (
    PASSES_OF_TRAINING,
    Calendar,
    is_best,
    paired_change,
    paired_fall,
    points,
    standard_error,
)
from tomohet.training.latents import PARTICLES_AT_ONCE, infer_latents
from tomohet.training.objectives import DataTerm
from tomohet.training.order import in_groups

PASSES_OF_JUDGING = 2  # of the decoder: with the particles' latents, and with the mean latent

log = logging.getLogger(__name__)


@dataclass
class UntaughtJudge:
    """Judge of a network without a linear model.

    fitted, unseen : the images that train the network, and the test images
    data : the reconstruction term of the training; its weights are those of the misfit
    folder : gets held_out.csv and the verdict (`held_out`)
    source : (P,) number of the particle whose images each particle has, where some are copies
    judged, best : (P,) gain on each particle when it was last judged, and in the best judgement
    noise : noise variance of the images, None before the first judgement
    """

    model: HeterogeneityVAE
    fitted: ParticleImages
    unseen: ParticleImages
    data: DataTerm
    epochs: int
    folder: Path
    source: Tensor | None = None
    history: list[dict] = field(default_factory=list)
    judged: Tensor | None = None
    best: Tensor | None = None
    noise: float | None = None
    start: None = None  # no linear model has latents to start from
    calendar: Calendar = field(init=False)

    def __post_init__(self) -> None:
        training = PASSES_OF_TRAINING * self.data.rows_per_image * points(self.fitted)
        self.data = replace(self.data, rows_per_image=1.0)
        self.calendar = Calendar.of(self.epochs, training, PASSES_OF_JUDGING * points(self.unseen), 0.0)
        log.info("test tilts judge after every %d epochs", self.calendar.every)

    def after_epoch(self, epoch: int, max_frequency: float, may_end: bool = False) -> str:
        """Judge the network, if the calendar says so; return why the training may end, else "".

        max_frequency : highest frequency that the epoch fitted, cycles/px; images are compared up to it
        may_end : whether the training may end before its last epoch
        """
        if not self.calendar.judges(epoch):
            return ""
        started = time.monotonic()
        self.model.eval()
        own, common = self._misfits(self.unseen.limited(max_frequency))
        gain = common - own
        row = {"epoch": epoch, "particles": self._particles(), "gain_of_decoder": gain.sum().item()}
        row |= {"error_of_decoder": standard_error(gain).item()} | paired_change(self.judged, gain)
        row |= paired_fall(self.best, gain)
        row |= {"misfit_of_volumes": own.sum().item(), "max_frequency": max_frequency}
        before = [past for past in self.history if past["epoch"] < epoch]
        self.judged, self.best = gain, gain if is_best(row, before) else self.best
        self.history = [*before, row]
        said = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch")
        log.info("test tilts (judged in %.1f s): %s", time.monotonic() - started, said)
        processes = self.fitted.processes
        reason = reason_to_end(self.history) if may_end and not self.calendar.is_last(epoch) else ""
        reason = processes.as_the_leader(reason, self.fitted.device)
        if processes.leads:
            write_held_out(self.folder, self.history, reason)
        return reason

    def state(self) -> dict:
        """Return what a continuation needs besides the weights."""
        return {"history": self.history, "judged": self.judged, "best": self.best, "noise": self.noise}

    def load_state(self, state: dict | None) -> None:
        """Continue from a `state`; a training from before there was one is judged from here on."""
        if state is not None:
            self.history, self.judged, self.noise = state["history"], state["judged"], state["noise"]
            self.best = state.get("best")

    def _particles(self) -> int:
        """Count the particles with held-out images; copies of one count once."""
        present = np.flatnonzero(self.unseen.tilts > 0)
        return len(present if self.source is None else np.unique(self.source.cpu().numpy()[present]))

    @torch.no_grad()
    def _misfits(self, images: ParticleImages) -> tuple[Tensor, Tensor]:
        """Compute the misfits (P,), in nats, of the particles' own volumes and of one volume for all.

        Those of copies are added.
        """
        mu, _ = infer_latents(self.model, self.fitted)
        z = torch.as_tensor(mu, device=self.fitted.device)
        mean = z.nanmean(0, keepdim=True).expand_as(z).contiguous()
        groups = in_groups(np.flatnonzero(images.tilts > 0), PARTICLES_AT_ONCE * images.processes.size)
        parts = [group[images.processes.part(len(group))] for group in groups]
        found = z.new_zeros(len(images), 3, dtype=torch.float64)
        for own, batch in zip(parts, images.batches(groups), strict=True):
            if not len(own):
                continue
            at = torch.as_tensor(own, device=z.device)
            rows = self.data.rows(batch, True, torch.Generator(z.device))
            for column, latent in enumerate((z, mean)):
                misfit = misfits(self.model.decoder, rows, latent[at], dtype=self.data.dtype)
                found[at, column] = misfit.double()
            found[at, 2] = torch.bincount(rows.particle, rows.weight, len(own)).double()
        own, common, weight = images.processes.add_up(found).unbind(1)
        if self.noise is None:
            self.noise = (own.sum() / weight.sum()).item()
        return tuple(summed_copies(misfit / self.noise, self.source) for misfit in (own, common))
