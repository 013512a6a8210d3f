"""Linear model read from the output folder of train_linear; states and networks start from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.files.arrays import read_arrays
from tomohet.files.tables import read_table
from tomohet.linear.fitted_maps import FittedMaps
from tomohet.linear.poses import PoseEstimates
from tomohet.linear.prediction import TABLES, SplitLikelihood, source_tensor
from tomohet.model.config_file.reading import read_settings
from tomohet.model.load import read_weights
from tomohet.model.settings import LinearFit, LinearSettings
from tomohet.particles.joining import rows_of
from tomohet.particles.refined_poses import POSE_COLUMNS, REFINE
from tomohet.particles.same_input import refuse_other_input
from tomohet.particles.store import Store

# Likelihood of training and held-out images, in an output folder of train_linear.
HELD_OUT = "held_out.npz"
# Errors of the particles' poses, in the same folder.
POSES = "poses.parquet"


@dataclass(frozen=True)
class SavedModel:
    """Linear model of an output folder of train_linear.

    settings, fit : as recorded
    maps : in the units of the store that the model was fitted to
    """

    folder: Path
    settings: LinearSettings
    fit: LinearFit
    maps: FittedMaps

    @classmethod
    def read(cls, folder: Path, box: int) -> "SavedModel":
        """Read what `linear.output.write_run` wrote.

        Raises InputError if the folder is not from train_linear, or was fitted to another box.
        """
        settings = read_settings(folder / "config.pkl")
        if not isinstance(settings, LinearSettings):
            raise InputError(f"{folder}: a model of train_vae or train_nn, expected train_linear's")
        if settings.box != box:
            raise InputError(f"{folder}: fitted to a box of {settings.box}, not {box}")
        weights, fit = read_weights(folder / "weights.pkl"), settings.fit
        if fit is None or "spectral_variance" not in weights.get("posterior", {}):
            raise InputError(f"{folder}: fitted by an earlier version; run train_linear again")
        tensors = weights["model_state_dict"] | weights["posterior"]
        expected = {"mean": (box,) * 3, "mask": (box,) * 3, "basis": (settings.n_basis, box, box, box)}
        found = {name: tuple(tensors[name].shape) if name in tensors else "nothing" for name in expected}
        if found != expected or len(tensors["tomogram_noise"]) != len(fit.tomograms):
            raise InputError(
                f"{folder}: weights.pkl and config.pkl are not of the same fit ({found}, expected "
                f"{expected}); run train_linear again"
            )
        maps = FittedMaps.of_tensors(
            tensors,
            max_frequency=fit.max_frequency,
            tomograms=fit.tomograms,
            scale=settings.scale,
            pixel_size_A=settings.pixel_size_A,
            tilt_shift_px=fit.tilt_shift_A / settings.pixel_size_A,
        )
        return cls(folder, settings, fit, maps)

    def poses(self, store: Store, particles: np.ndarray) -> PoseEstimates:
        """Return the pose errors of particles (store ordinals).

        They are 0 for particles that the model was not fitted to, and for all particles if train_linear was
        told not to refine poses. The prior is kept: errors that are not corrected are integrated out.
        """
        if not any(self.fit.pose_deviation):
            return PoseEstimates.none(len(particles))
        path = self.folder / POSES
        table = read_table(path, {"particle": "whole numbers"} | dict.fromkeys(POSE_COLUMNS, "numbers"))
        estimates = PoseEstimates.read(table, self.fit.pose_deviation, store.pixel_size_A)
        rows = rows_of(particles, table["particle"].to_numpy(), path)
        return estimates.of_rows(rows if table.attrs.get(REFINE, True) else np.full_like(rows, -1))

    def held_out(self, store: Store, particles: np.ndarray, device: torch.device | str) -> SplitLikelihood:
        """Return likelihoods of training and held-out images along reproducible directions.

        There are at most as many directions as basis maps.

        Raises InputError if the model was not fitted to all these particles, or was fitted to another store.
        """
        refuse_other_input(self.settings.particles.origin, store.description, self.folder, store.folder)
        path = self.folder / HELD_OUT
        tables = read_arrays(path, list(TABLES))
        known = tables.get("particle", self.settings.particles.ordinals())  # not in earlier versions' files
        if known.dtype.kind not in "iu" or any(
            len(tables[name]) != len(known) or tables[name].dtype.kind != "f" for name in TABLES
        ):
            raise InputError(f"{path}: tables of unlike particles; run train_linear again")
        rows = rows_of(particles, known, path)
        if (unknown := rows < 0).any():
            raise InputError(
                f"{self.folder}: fitted without {unknown.sum():,} of {len(particles):,} particles, so that "
                "the number of states cannot be found; fit train_linear to these particles, or give --states"
            )
        found = (torch.as_tensor(tables[name][rows]).to(device) for name in TABLES)
        return SplitLikelihood(*found, source_tensor(store, particles, device))
