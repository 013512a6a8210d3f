"""The output folder of a training: its files at the start, after each epoch and at the end."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.digests import changed, sealed
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import save_latents
from tomohet.model.load import read_weights
from tomohet.model.volumes import TrainedVolumes
from tomohet.processes import Processes
from tomohet.training.checkpoints import CHECKPOINT, save_checkpoint, set_aside
from tomohet.training.latents import gaussian_divergence
from tomohet.training.loop import Training

log = logging.getLogger(__name__)

RESULTS = (
    "weights*.pkl", "z*.pkl", "reconstruct*.mrc", "loss.*", "held_out.*", "summary.json", "convergence_*.pkl",
    CHECKPOINT,
)  # fmt: skip
OF_EPOCHS = ("weights.*.pkl", "z.[0-9]*.pkl")  # which only the training itself can write again


def warn_of_idle(processes: Processes, batch_size: int) -> None:
    """Warn where a batch has fewer particles than there are processes to share it."""
    if batch_size < processes.size and processes.leads:
        log.warning(
            "--batch-size %d: %d of the %d processes have nothing to do; use a batch size of at least %d, "
            "better a multiple of it",
            batch_size, processes.size - batch_size, processes.size, processes.size,
        )  # fmt: skip


def begin(training: Training, load: str | None, folder: Path) -> None:
    """Continue from the weights of `--load`, or from the folder's checkpoint if its settings are the same.

    A training that was started from `--load WEIGHTS` and then stopped continues from its checkpoint. When the
    file of an epoch is damaged, the training starts afresh, because its readers ask for that.

    Raises InputError when `--load latest` finds nothing that could be continued.
    """
    if training.processes.leads:
        _begin(training, load, folder)
    training.processes.wait()  # until the leader has moved aside the files of an earlier training
    if not training.processes.leads:
        _begin(training, load, folder)


def _begin(training: Training, load: str | None, folder: Path) -> None:
    checkpoint = folder / CHECKPOINT
    if load not in (None, "latest"):
        own = read_weights(checkpoint) if checkpoint.is_file() else {}
        if own.get("digest") == training.digest and own.get("loaded") == load:
            training.continue_from_checkpoint()
        else:
            training.continue_from_weights(Path(load))
        return
    if not checkpoint.is_file():
        if load == "latest":
            raise InputError(f"--load latest: {folder} holds no {CHECKPOINT} to continue from")
        set_aside(folder, RESULTS)
    elif read_weights(checkpoint)["digest"] == training.digest:
        damaged = [path for pattern in OF_EPOCHS for path in changed(folder, pattern)]
        if damaged and load is None:
            log.warning("%s: not what the training wrote: starting afresh", damaged[0])
            set_aside(folder, RESULTS)
        else:
            training.continue_from_checkpoint()
    elif load == "latest":
        raise InputError(
            f"--load latest: the training in {folder} had other settings or other particles; repeat its "
            "options (see its config.yaml), or leave out --load to start afresh"
        )
    else:
        log.info("the training in %s had other settings or other particles: starting afresh", folder)
        set_aside(folder, RESULTS)


class EpochResults:
    """Writer of weights, latents and map: every `every` epochs, and the final ones at the end.

    An epoch with which a training ends before its last one is written as well.

    latents : returns means and log variances of all particles, from the training images and, if tilts are
        split, from the test images; None for a homogeneous volume (zdim 0)
    """

    def __init__(
        self,
        folder: Path,
        training: Training,
        volumes: TrainedVolumes,
        latents: Callable[[], list[tuple[np.ndarray, np.ndarray]]] | None,
        every: int,
        first: int,
    ) -> None:
        self.folder, self.training, self.volumes, self.latents = folder, training, volumes, latents
        self.every, self.first = every, first

    def __call__(self, epoch: int) -> None:
        """Write the results of epoch number `epoch` if they are due."""
        if (epoch + self.first) % self.every == 0 or self.training.position.ended:
            self._write(f".{epoch}", self.training.weights())

    def finish(self) -> None:
        """Write the files without an epoch's number from the current weights; weights.pkl comes last."""
        weights = self.training.weights()
        weights["epoch"] -= 1  # the last completed epoch
        self._write("", weights)

    def _write(self, tag: str, weights: dict) -> None:
        model, folder = self.training.model, self.folder
        model.eval()
        latents = self.latents() if self.latents else []
        if not self.training.processes.leads:
            return
        z = np.zeros((1, 0), np.float32)
        if latents:
            mu, logvar = latents[0]
            with sealed(folder / f"z{tag}.train.pkl"):
                save_latents(folder / f"z{tag}.train.pkl", mu, logvar)
            z = mu.mean(0, keepdims=True)
            if len(latents) > 1:
                self._write_test_latents(tag, mu, logvar, *latents[1])
        volume = self.volumes.volumes(torch.from_numpy(z).to(self.volumes.device))[0].cpu().numpy()
        write_volume(folder / f"reconstruct{tag}.mrc", volume, self.volumes.pixel_size_A)
        with sealed(folder / f"weights{tag}.pkl"):
            save_checkpoint(folder / f"weights{tag}.pkl", weights)

    def _write_test_latents(self, tag: str, mu, logvar, test_mu, test_logvar) -> None:
        """Write latents from the test tilts, and their KL divergence from the training latents."""
        with sealed(self.folder / f"z{tag}.test.pkl"):
            save_latents(self.folder / f"z{tag}.test.pkl", test_mu, test_logvar)
        divergence = gaussian_divergence(mu, logvar, test_mu, test_logvar)
        write_pickle(self.folder / f"convergence_latent_kld{tag}.pkl", divergence)
        log.info(
            "KL divergence of train and test latents: median %.4g, 90th percentile %.4g",
            *np.nanpercentile(divergence, [50, 90]),
        )


def write_tilt_distribution(folder: Path, tilts: np.ndarray, file_type: str) -> None:
    """Plot the distribution of tilt images per particle into `tilts_per_particle.<file type>`."""
    from tomohet.plots import figure, save

    fig, axes = figure()
    values, counts = np.unique(tilts, return_counts=True)
    axes.bar(values, counts, width=0.8)
    axes.set(title="Tilt images per particle", xlabel="tilt images", ylabel="particles")
    save(fig, folder / f"tilts_per_particle.{file_type}")


def write_loss_figure(folder: Path, history: list[dict], file_type: str) -> None:
    """Plot the losses over epochs into `loss.<file type>`."""
    from tomohet.plots import figure, save

    fig, axes = figure()
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["total"] for row in history], marker="o", markersize=3, label="total")
    axes.plot(epochs, [row["gen"] for row in history], label="reconstruction")
    axes.set(title="Training loss", xlabel="epoch", ylabel="mean weighted squared residual")
    axes.legend()
    save(fig, folder / f"loss.{file_type}")
