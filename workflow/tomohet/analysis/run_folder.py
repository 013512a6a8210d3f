"""A training's output folder: its epochs, their latents and weights, and whose latents they are."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.pickles import load_indices, load_latents, load_pickles

FINAL = -1  # the files without an epoch number


@dataclass(frozen=True)
class RunFolder:
    """The output folder of train_vae or train_linear."""

    path: Path

    def latent_epochs(self) -> list[int]:
        """Epochs with a file of latents, ascending."""
        return self._numbers(r"z\.(\d+)\.train\.pkl")

    def weight_epochs(self) -> list[int]:
        """Epochs with a file of weights, ascending."""
        return self._numbers(r"weights\.(\d+)\.pkl")

    def epoch(self, text: str) -> int:
        """The epoch meant by `latest`, a number, -1 (final files) or the path of a convergence.json.

        `latest` is the highest epoch with latents; the final files when none is numbered.
        Raises InputError when its latents do not exist.
        """
        known = self.latent_epochs()
        if text == "latest":
            epoch = known[-1] if known else FINAL
        elif re.fullmatch(r"-?\d+", text):
            epoch = int(text)
        else:
            epoch = chosen_epoch(Path(text))
        if not self.latents_path(epoch).is_file():
            found = ", ".join(map(str, known)) if known else "none"
            raise InputError(
                f"{self.path}: no {self.latents_path(epoch).name}; epochs with latents: {found}; "
                "choose one with --epoch"
            )
        return epoch

    def latents_path(self, epoch: int) -> Path:
        """Path of the latents of `epoch`."""
        return self.path / ("z.train.pkl" if epoch == FINAL else f"z.{epoch}.train.pkl")

    def weights_path(self, epoch: int) -> Path:
        """Path of the weights of `epoch`; the final weights where the last epoch has none of its own."""
        numbered = self.path / f"weights.{epoch}.pkl"
        final = self.path / "weights.pkl"
        if epoch == FINAL:
            return final
        epochs = self.latent_epochs()
        return final if not numbered.is_file() and epochs and epoch == epochs[-1] else numbered

    def latents(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Means (n, zdim) and log variances, or None, of `epoch`."""
        return load_latents(self.latents_path(epoch))

    @property
    def config_path(self) -> Path:
        """Path of the training's config.pkl."""
        return self.path / "config.pkl"

    def config(self) -> dict:
        """The training's parameters; empty when there is no config.pkl."""
        return load_pickles(self.config_path)[0] if self.config_path.is_file() else {}

    def _numbers(self, pattern: str) -> list[int]:
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such training folder")
        found = (re.fullmatch(pattern, file.name) for file in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)


def chosen_epoch(path: Path) -> int:
    """The epoch recorded in a convergence.json."""
    if not path.is_file():
        raise InputError(f"--epoch {path}: expected latest, a number, or the path of a convergence.json")
    try:
        return int(json.loads(path.read_text())["epoch"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: holds no 'epoch'; expected convergence_vae's file") from error


def particles_of(n: int, indices: str | Path | None, config: dict) -> np.ndarray:
    """Store ordinals (n,) of the particles whose latents are given.

    From the file `indices` if given, else from the training's configuration, else 0 to n - 1.
    Raises InputError when their number is not n.
    """
    if indices is not None:
        particles, source = load_indices(indices), str(indices)
    elif config.get("particles") is not None:
        particles, source = np.asarray(config["particles"], np.int64), "config.pkl"
    else:
        return np.arange(n)
    if len(particles) != n:
        raise InputError(f"{source} names {len(particles)} particles, but there are {n} latents")
    return particles
