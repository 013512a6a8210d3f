"""Refined poses of particles: the table that train_linear writes, and a store with these poses.

`posed_files` writes the poses into STAR files.

`poses.parquet` of an output folder of train_linear lists the errors that take the stated poses to the refined
ones, for the particles that the model was fitted to. Its attributes name the store, and state whether later
stages use the poses (`REFINE`); train_linear decides this once.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.tables import read_table
from tomohet.particles.same_input import Origin, file_digests, same_input
from tomohet.particles.store import Store
from tomohet.physics.geometry import corrected_poses

POSE_COLUMNS = tuple(
    f"{kind}_{axis}_{unit}" for kind, unit in (("turn", "deg"), ("move", "A")) for axis in "xyz"
)
# Attributes of the table: whether later stages use it; standard deviations over the particles of a rotation
# (rad) and of a shift (Å) along one axis, 0 where the images give no evidence of pose errors.
REFINE, DEVIATION = "refine_poses", "deviation_rad_A"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefinedPoses:
    """Refined poses as errors of the stated ones.

    particle : (n,) ordinals in the store
    error : (n, 6) rotation vector (rad) and shift (Å) that take the stated pose to the refined one, along the
        axes of the stated pose
    deviation : (2,) standard deviations of all errors, as in the table
    used : whether later stages use the poses
    """

    path: Path
    particle: np.ndarray
    error: np.ndarray
    deviation: np.ndarray
    used: bool

    @classmethod
    def read(cls, path: str | Path, store: Store) -> "RefinedPoses":
        """Read poses.parquet of train_linear for a store of the same particles.

        Raises InputError when it is no such table, of another store's particles, or damaged.
        """
        named = "give poses.parquet of a train_linear run on this store"
        other = f"these are poses of particles of another store than {store.folder}; {named}"
        return cls._read(Path(path), store.description, len(store.particles), other)

    @classmethod
    def read_for_files(cls, path: str | Path, inputs: Sequence[Path], count: int) -> "RefinedPoses":
        """Read poses.parquet for the particles of STAR files, as a store prepared from them counts them.

        inputs : the file, or all files of an optimisation set; the set or particles file is the first
        count : particles in it

        Raises InputError as `read` does, and when a file is not the one from which the store was prepared.
        """
        other = (
            f"these are poses of particles of another file than {inputs[0]}, or of that file before a "
            "change; give poses.parquet of a train_linear run on a store prepared from this file"
        )
        return cls._read(Path(path), {"digest": "", "inputs": file_digests(inputs)}, count, other)

    @classmethod
    def _read(cls, path: Path, description: dict, count: int, other: str) -> "RefinedPoses":
        """Return the checked table; `other` is the message for a table of other particles."""
        columns = {"particle": "whole numbers"} | dict.fromkeys(POSE_COLUMNS, "numbers")
        table = read_table(path, columns)
        said = table.attrs
        if not isinstance(said.get(REFINE), bool) or len(said.get(DEVIATION) or ()) != 2:
            raise InputError(f"{path}: expected poses.parquet of train_linear; run train_linear again")
        if not same_input(Origin.recorded(said), description):
            raise InputError(f"{path}: {other}")
        particle = table["particle"].to_numpy(np.int64)
        wrong = (particle < 0) | (particle >= count) | table["particle"].duplicated().to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{path}: row {row}, column 'particle': found {particle[row]}, expected each of 0 to "
                f"{count - 1} once at most"
            )
        values = table[list(POSE_COLUMNS)].to_numpy(np.float64, copy=True)
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise InputError(
                f"{path}: row {row}, column '{POSE_COLUMNS[column]}': found {values[row, column]}, expected "
                "a finite number; run train_linear again"
            )
        values[:, :3] = np.radians(values[:, :3])
        return cls(path, particle, values, np.asarray(said[DEVIATION], np.float64), said[REFINE])

    @property
    def to_be_used(self) -> bool:
        """Tell whether the poses have errors, and train_linear was asked to refine them."""
        if not self.used:
            log.info("%s: poses stay as stated: train_linear ran with --no-refine-poses", self.path)
        elif not self.deviation.any():
            log.info("%s: poses stay as stated: train_linear found no errors", self.path)
        return self.used and bool(self.deviation.any())

    def of_rows(self, particle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (m, 6) errors, rad and Å, of the particles (m,) of some rows, and which rows (m,) have any.

        Other rows, and rows of the unknown particle -1, have 0.
        """
        errors = np.zeros((max(self.particle.max(initial=-1), particle.max(initial=-1)) + 2, 6))
        errors[self.particle] = self.error  # the last row, for particle -1, stays 0
        errors = errors[particle]
        return errors, np.asarray(errors.any(axis=1))

    def of_all(self, store: Store) -> np.ndarray:
        """Return (N, 6) errors of all particles of the store, in rad and px; 0 where the table has none."""
        errors = np.zeros((len(store.particles), 6))
        errors[self.particle] = self.error
        errors[:, 3:] /= store.pixel_size_A
        return errors

    def applied(self, store: Store) -> Store:
        """Return the store with refined poses; particles that the table does not list keep theirs."""
        if not self.to_be_used:
            return store
        log.info("%s: refined poses of %d particles", self.path, len(self.particle))
        owner = store.images["particle"].to_numpy()
        return store.with_poses(*corrected_poses(store.rotations(), self.of_all(store)[owner]))


def described(
    table: pd.DataFrame, description: dict, refine: bool, deviation_rad_A: np.ndarray
) -> pd.DataFrame:
    """Attach the attributes to the table, for particles of the store with this description (store.yaml)."""
    attributes: dict[Any, Any] = {
        **Origin.of_store(description).entries(),
        REFINE: bool(refine),
        DEVIATION: np.asarray(deviation_rad_A, float).tolist(),
    }
    table.attrs = attributes
    return table
