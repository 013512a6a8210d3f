"""The training loop: epochs over shuffled particles, resumable after any step.

All randomness of a step derives from (seed, epoch, step), and the order of particles from (seed, epoch). With
the weights, the optimiser state and the position, a continuation therefore repeats the uninterrupted run.
Several processes share each batch (`processes`): their gradients are summed before the step. The result is
that of one process, up to the order of summation, and a run may continue with another number of processes.
"""

import datetime
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from tomohet.errors import InputError, Interrupted
from tomohet.files.atomic import write_csv
from tomohet.files.digests import changed, missing, sealed
from tomohet.model.kernels import chosen
from tomohet.model.load import read_weights
from tomohet.options.training import NetworkOptions, TrainVaeOptions
from tomohet.progress import track
from tomohet.training.batches import Fetched, ParticleImages
from tomohet.training.checkpoints import CHECKPOINT, save_checkpoint
from tomohet.training.divergence import give_up, refuse_rise
from tomohet.training.interruption import StopRequest, agreed_stop, stop_requests
from tomohet.training.optimiser_step import OptimiserStep
from tomohet.training.position import Position, losses_until
from tomohet.training.schedules import frequency_share, learning_rate_factor

log = logging.getLogger(__name__)

ADAM_EPSILON = 1e-4  # as published
STEPS_BETWEEN_CHECKS_ON_CUDA = 50  # reading the loss waits for the device


@dataclass(frozen=True)
class Plan:
    """Length, learning rate and reporting intervals of a training.

    learning_rate : of a step, with the batch size taken into account
    warmup : fraction of the training over which the learning rate rises
    march : fraction of the training over which the highest fitted frequency grows to `max_frequency`,
        cycles/px (frequency marching)
    checkpoint_minutes : time between checkpoints within an epoch
    log_interval : particles between log lines
    until_converged : whether the training ends before `epochs` when held-out tilt images say so
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    lr_schedule: str
    warmup: float
    seed: int
    checkpoint_minutes: float
    log_interval: int
    max_frequency: float = 0.5
    march: float = 0.0
    until_converged: bool = False

    def may_end(self, epoch: int) -> bool:
        """Tell whether the training may end with an epoch: not while the fitted frequencies grow."""
        return self.until_converged and self.frequency(epoch) == self.max_frequency

    def frequency(self, epoch: int) -> float:
        """Return the highest frequency fitted in an epoch, cycles/px."""
        return self.max_frequency * frequency_share(self.march, epoch, self.epochs)

    @classmethod
    def of(cls, options: NetworkOptions) -> "Plan":
        """Take the plan from the options of a training.

        The learning rate grows with the square root of the batch size, and is doubled unless
        `sequential_tilt_sampling` is set (published rule).
        """
        doubled = 1 if options.sequential_tilt_sampling else 2
        return cls(
            epochs=options.num_epochs,
            batch_size=options.batch_size,
            learning_rate=options.lr * options.batch_size**0.5 * doubled,
            weight_decay=options.wd,
            lr_schedule=options.lr_schedule,
            warmup=options.lr_warmup,
            seed=options.seed,
            checkpoint_minutes=options.checkpoint_minutes,
            log_interval=options.particles_between_lines,
            max_frequency=options.max_frequency,
            march=options.march,
            until_converged=isinstance(options, TrainVaeOptions) and options.until == "converged",
        )


class Training:
    """A network, its optimiser and its position in the plan.

    Parameters
    ----------
    objective : has `losses(batch, seen, generator)`
    digest : of everything that decides the course of the training (`checkpoints.settings_digest`)
    judge : judges the network by held-out tilt images after every epoch (`teaching.Teaching`,
        `untaught.UntaughtJudge`), None for a training that holds none out

    """

    def __init__(
        self,
        model: nn.Module,
        objective,
        images: ParticleImages,
        plan: Plan,
        folder: Path,
        digest: str,
        judge=None,
    ) -> None:
        self.model, self.objective, self.images, self.plan = model, objective, images, plan
        self.folder, self.digest, self.judge = folder, digest, judge
        self.processes = images.processes
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self._trained, lr=plan.learning_rate, weight_decay=plan.weight_decay, eps=ADAM_EPSILON, fused=True
        )
        self._optimise = OptimiserStep(objective, images, self._trained, self.optimiser)
        self.position = Position()
        self.loaded: str | None = None
        self._saved_at = time.monotonic()

    def continue_from_checkpoint(self) -> None:
        """Continue from the folder's checkpoint, which has the same digest."""
        content = read_weights(self.folder / CHECKPOINT, self.images.device)
        self._load(content)
        self.loaded = content["loaded"]
        self.position = Position(**content["position"])
        chosen.take(content.get("kernels"), self.images.device)
        log.info("continuing at epoch %d, step %d", self.position.epoch, self.position.step)
        if changed(self.folder, "loss.csv") or missing(self.folder, "loss.csv"):
            self._write_losses(self.position.history)

    def continue_from_weights(self, path: Path) -> None:
        """Continue after the epoch of a weights file, with its weights and optimiser state.

        Raises InputError when the weights do not fit the network, or no epoch is left to train.
        """
        content = read_weights(path, self.images.device)
        try:
            self._load(content)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"--load {path}: the weights do not fit these network options ({reason})"
            ) from error
        self.loaded = str(path)
        self.position = Position(epoch=content["epoch"] + 1, history=losses_until(path, content["epoch"]))
        if self.position.epoch >= self.plan.epochs:
            raise InputError(
                f"--load {path}: these weights are from the end of epoch {content['epoch']}, so --num-epochs "
                f"{self.plan.epochs} leaves nothing to train; ask for more epochs"
            )

    def run(self, finish_epoch: Callable[[int], None]) -> None:
        """Train to the end of the plan, or until the judge ends it.

        finish_epoch : called with each epoch's number after the epoch

        Raises Interrupted after SIGTERM or Ctrl-C, once everything is saved, and InputError when training
        diverges.
        """
        total = self.plan.epochs * len(self.images)
        if self.position == Position():
            self._save()  # a run that dies before its second checkpoint leaves files to continue, not to move
        with (
            stop_requests() as request,
            track(total=total, unit="particles", description="training") as progress,
        ):
            while self.position.epoch < self.plan.epochs and not self.position.ended:
                self._epoch(request, progress)
                self._end_epoch(finish_epoch)

    def weights(self) -> dict:
        """Collect the content of a weights file: epoch, network, optimiser, and the training's identity.

        `model_state_dict`, `optimizer_state_dict` and `scaler` are the published names. `digest` is that of
        the settings; `loaded` is the weights file from which the training was started.
        """
        return {
            "epoch": self.position.epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimiser.state_dict(),
            "scaler": {},
            "digest": self.digest,
            "loaded": self.loaded,
            "teaching": self.judge.state() if self.judge else None,
        }

    def _load(self, content: dict) -> None:
        self.model.load_state_dict(content["model_state_dict"])
        self.optimiser.load_state_dict(content["optimizer_state_dict"])
        if self.judge:
            self.judge.load_state(content["teaching"])

    def _epoch(self, request: StopRequest, progress: tqdm) -> None:
        position, plan, particles = self.position, self.plan, len(self.images)
        images = self.images.limited(plan.frequency(position.epoch))
        if self.judge:
            images = images.knowing(start=self.judge.start)
        groups = images.shuffled(np.random.default_rng([plan.seed, position.epoch]))
        seen = min(position.step * plan.batch_size, particles)
        progress.update(position.epoch * particles + seen - progress.n)
        sums = torch.tensor(position.sums, dtype=torch.float64, device=self.images.device)
        started = time.monotonic() - position.seconds
        check_every = STEPS_BETWEEN_CHECKS_ON_CUDA if self.images.device.type == "cuda" else 1
        self.model.train()
        self._optimise.begin(images)
        for batch in images.fetched(groups, first=position.step):
            losses, stop = self._step(batch, position.epoch * particles + seen, request)
            n = batch.whole.particles
            sums.add_(losses, alpha=n)
            position.step += 1
            seen += n
            progress.update(n)
            checked = position.step % check_every == 0 or position.step == len(groups)
            if checked:
                self._refuse_non_finite(sums)
            if seen // plan.log_interval > (seen - n) // plan.log_interval:
                self._log_interval(seen, losses)
            position.seconds = time.monotonic() - started
            stopped = agreed_stop(request, stop, checked)
            if stopped or self._save_is_due():
                position.sums = sums.tolist()
                self._save()
                if stopped:
                    self._stop(stopped)
        position.sums = sums.tolist()

    def _step(
        self, batch: Fetched, seen: int, request: StopRequest
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Make one optimiser step; return (total, gen, kld) on the device and the stop signals of all."""
        plan, position = self.plan, self.position
        state = np.random.SeedSequence([plan.seed, position.epoch, position.step]).generate_state(
            1, np.uint64
        )
        progress = seen / (plan.epochs * len(self.images))
        factor = learning_rate_factor(plan.lr_schedule, plan.warmup, progress + 1e-9)
        for group in self.optimiser.param_groups:
            group["lr"] = plan.learning_rate * factor
        return self._optimise(batch, seen, int(state[0] >> np.uint64(1)), request.signal or 0)

    def _end_epoch(self, finish_epoch: Callable[[int], None]) -> None:
        position, seconds = self.position, self.position.seconds
        total, gen, kld = (total / len(self.images) for total in position.sums)
        refuse_rise(self.plan, self.position, gen)
        rate = len(self.images) / max(seconds, 1e-9)
        log.info(
            "# =====> Epoch: %d Average gen loss = %.15f, KLD = %.15f, total loss = %.15f; Finished in %s",
            position.epoch + 1, gen, kld, total, datetime.timedelta(seconds=max(seconds, 1e-6)),
        )  # fmt: skip
        row = {"epoch": position.epoch, "gen": gen, "kld": kld, "total": total, "seconds": seconds}
        history = [*position.history, row | {"particles_per_second": rate}]
        self.model.eval()
        if self.judge:
            epoch, may_end = position.epoch, self.plan.may_end(position.epoch)
            position.ended = self.judge.after_epoch(epoch, self.plan.frequency(epoch), may_end)
        finish_epoch(position.epoch)
        self._write_losses(history)
        self.position = Position(epoch=position.epoch + 1, history=history, ended=position.ended)
        self._save()

    def _write_losses(self, history: list[dict]) -> None:
        if self.processes.leads and history:
            with sealed(self.folder / "loss.csv"):
                write_csv(self.folder / "loss.csv", pd.DataFrame(history))

    def _log_interval(self, seen: int, losses: torch.Tensor) -> None:
        total, gen, kld = losses.tolist()
        log.info(
            "# [Train Epoch: %d/%d] [%d/%d subtomos] gen loss=%.6f, kld=%.6f, loss=%.6f",
            self.position.epoch + 1, self.plan.epochs, seen, len(self.images), gen, kld, total,
        )  # fmt: skip

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.plan.checkpoint_minutes

    def _save(self) -> None:
        if any(not torch.isfinite(p).all() for p in self.model.parameters()):
            give_up(self.plan, self.position, "the weights are no longer finite numbers")
        if self.processes.leads:
            content = self.weights() | {"position": vars(self.position)}
            content["kernels"] = chosen.record(self.images.device)
            save_checkpoint(self.folder / CHECKPOINT, content)
        self._saved_at = time.monotonic()

    def _stop(self, number: int) -> None:
        name = signal.Signals(number).name
        log.error(
            "stopped by %s in epoch %d after %d steps; everything is saved: run the same command to continue",
            name, self.position.epoch, self.position.step,
        )  # fmt: skip
        self.processes.wait()  # for the leader's files: srun ends the others soon after the first that ends
        raise Interrupted(number)

    def _refuse_non_finite(self, sums: torch.Tensor) -> None:
        if not torch.isfinite(sums).all():
            give_up(self.plan, self.position, "the loss is no longer a finite number")
