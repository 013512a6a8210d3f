"""Refined poses of particles: the table that train_linear writes, and a store with these poses.

`poses.parquet` of an output folder of train_linear lists, for the particles that the model was fitted to,
what takes the stated pose to the refined one. Its attributes name the store and say whether later stages use
it (`REFINE`): that is decided once, by train_linear.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.tables import read_table
from tomohet.particles.same_input import input_digests, same_input
from tomohet.particles.store import Store
from tomohet.physics.geometry import corrected_poses

POSE_COLUMNS = tuple(
    f"{kind}_{axis}_{unit}" for kind, unit in (("turn", "deg"), ("move", "A")) for axis in "xyz"
)
# Attributes of the table: whether later stages use it; standard deviations of a rotation (rad) and of a shift
# (Å) along one axis over the particles, 0 where images do not tell that poses have errors.
REFINE, DEVIATION = "refine_poses", "deviation_rad_A"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefinedPoses:
    """particle (n,): ordinals in the store; error (n, 6): rotation vector (rad) and shift (Å) that take the
    stated pose to the refined one, along the axes of the stated pose; deviation (2,): of all errors, as in
    the table; used: whether later stages use them."""

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
        path = Path(path)
        columns = {"particle": "whole numbers"} | dict.fromkeys(POSE_COLUMNS, "numbers")
        table = read_table(path, columns)
        said = table.attrs
        if not isinstance(said.get(REFINE), bool) or len(said.get(DEVIATION) or ()) != 2:
            raise InputError(f"{path}: expected poses.parquet of train_linear; run train_linear again")
        if not same_input(said, store.description):
            raise InputError(
                f"{path}: poses of the particles of another store than {store.folder}; name poses.parquet of "
                "the train_linear that was run on this store"
            )
        particle, count = table["particle"].to_numpy(np.int64), len(store.particles)
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
        """Whether the poses have errors, and train_linear was asked to refine them."""
        if not self.used:
            log.info("%s: poses stay as stated: train_linear ran with --no-refine-poses", self.path)
        elif not self.deviation.any():
            log.info("%s: poses stay as stated: train_linear found no errors", self.path)
        return self.used and bool(self.deviation.any())

    def of_all(self, store: Store) -> np.ndarray:
        """(N, 6) errors, rad and px of the store, of all its particles; 0 where the table has none."""
        errors = np.zeros((len(store.particles), 6))
        errors[self.particle] = self.error
        errors[:, 3:] /= store.pixel_size_A
        return errors

    def applied(self, store: Store) -> Store:
        """The store with refined poses; particles that the table does not list keep theirs."""
        if not self.to_be_used:
            return store
        log.info("%s: refined poses of %d particles", self.path, len(self.particle))
        owner = store.images["particle"].to_numpy()
        return store.with_poses(*corrected_poses(store.rotations(), self.of_all(store)[owner]))


def described(
    table: pd.DataFrame, description: dict, refine: bool, deviation_rad_A: np.ndarray
) -> pd.DataFrame:
    """The table with its attributes, for particles of the store of this description (store.yaml)."""
    digests = {"store_digest": description["digest"], "input_digests": input_digests(description)}
    table.attrs = digests | {REFINE: bool(refine), DEVIATION: np.asarray(deviation_rad_A, float).tolist()}
    return table
