"""A training's output folder: its epochs, their latents and weights, and the particles of the latents."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.digests import check, is_there, missing
from tomohet.files.pickles import load_indices, load_latents
from tomohet.files.text import read_json
from tomohet.files.values import hold_to, whole
from tomohet.model.config_file.reading import read_particles_of
from tomohet.model.settings import TrainedParticles
from tomohet.particles.joining import rows_of_all
from tomohet.particles.same_input import refuse_other_input
from tomohet.particles.store_files import read_description

FINAL = -1  # stands for the files without an epoch number


@dataclass(frozen=True)
class ParticleLatents:
    """Latents of n particles.

    particles : (n,) ordinals in the store
    mean : (n, zdim)
    logvar : (n, zdim) log variances, or None
    path : of their file
    """

    particles: np.ndarray
    mean: np.ndarray
    logvar: np.ndarray | None
    path: Path

    @classmethod
    def read(
        cls, path: Path, trained: TrainedParticles, indices: str | Path | None = None
    ) -> "ParticleLatents":
        """Read a file of latents, whose rows have no numbers, and number them.

        The numbers come from the file `indices` if given, else from the training, else they are 0 to n - 1.

        Raises InputError when the number of particles is not that of the latents.
        """
        mean, logvar = load_latents(path)
        if indices is not None:
            particles, source = load_indices(indices), str(indices)
        elif trained.numbers is not None:
            particles, source = trained.ordinals(), "config.pkl"
        else:
            particles, source = np.arange(len(mean)), str(path)
        if len(particles) != len(mean):
            raise InputError(f"{source} names {len(particles)} particles, but there are {len(mean)} latents")
        return cls(particles, mean, logvar, path)

    def of(self, particles: np.ndarray) -> np.ndarray:
        """Return the means (m, zdim) of these particles, in their order.

        Raises InputError when some of them have no latents.
        """
        return self.mean[rows_of_all(particles, self.particles, self.path)]


@dataclass(frozen=True)
class RunFolder:
    """The output folder of train_vae or train_linear."""

    path: Path

    def latent_epochs(self) -> list[int]:
        """List epochs with a file of latents, ascending.

        Raises InputError when a file that was written is missing.
        """
        self._refuse_missing("z.*.train.pkl")
        return self._numbers(r"z\.(\d+)\.train\.pkl")

    def epoch(self, text: str) -> int:
        """Return the epoch meant by `latest`, a number, -1 (final files) or the path of a convergence.json.

        `latest` is the highest epoch with latents, or the final files when no epoch is numbered.

        Raises InputError when the epoch's latents do not exist.
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
        """Return the path of the latents of `epoch`."""
        return self.path / ("z.train.pkl" if epoch == FINAL else f"z.{epoch}.train.pkl")

    def weights_path(self, epoch: int) -> Path:
        """Return the path of the weights of `epoch`.

        For a last epoch without its own file, these are the final weights.

        Raises InputError when the file was written and is missing now.
        """
        numbered = self.path / f"weights.{epoch}.pkl"
        final = self.path / "weights.pkl"
        if epoch == FINAL:
            return final
        epochs = self.latent_epochs()
        check(numbered)
        return final if not numbered.is_file() and epochs and epoch == epochs[-1] else numbered

    def latents(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Read means (n, zdim) and log variances, or None, of `epoch`."""
        return load_latents(self.latents_path(epoch))

    def latents_of_particles(self, epoch: int, indices: str | Path | None = None) -> ParticleLatents:
        """Read the latents of `epoch` with the particles that they belong to; see `ParticleLatents.read`."""
        return ParticleLatents.read(self.latents_path(epoch), self.particles(), indices)

    @property
    def config_path(self) -> Path:
        """Return the path of the training's config.pkl."""
        return self.path / "config.pkl"

    def particles(self) -> TrainedParticles:
        """Read which particles the training had; nothing is recorded when there is no config.pkl."""
        return read_particles_of(self.config_path) if is_there(self.config_path) else TrainedParticles()

    def _refuse_missing(self, pattern: str) -> None:
        if gone := missing(self.path, pattern):
            names = ", ".join(sorted(path.name for path in gone))
            raise InputError(
                f"{self.path}: {names}: missing, though the training wrote them, so that fewer epochs would "
                "be judged; put them back, or run `tomohet train_vae` again in an empty folder (`tomohet "
                "cleanup` removes epochs that are not needed)"
            )

    def _numbers(self, pattern: str) -> list[int]:
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such training folder")
        found = (re.fullmatch(pattern, file.name) for file in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)


def refuse_other_models(round_dir: Path, store: Path) -> None:
    """Raise InputError when a model in a round's folder was made from another dataset than the store."""
    description = read_description(store)
    for model in ("linear", "train_vae") if description is not None else ():
        refuse_other_input(
            RunFolder(round_dir / model).particles().origin, description, round_dir / model, store
        )


def chosen_epoch(path: Path) -> int:
    """Return the epoch recorded in a convergence.json."""
    if not is_there(path):
        raise InputError(f"--epoch {path}: expected latest, a number, or the path of a convergence.json")
    found = read_json(path)
    hold_to(found, {"epoch": whole(FINAL, 10**9)}, f"{path}: expected convergence_vae's file")
    return found["epoch"]
