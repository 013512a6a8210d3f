"""Linear model read from the output folder of train_linear; states and networks start from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.files.arrays import read_arrays
from tomohet.files.tables import read_table
from tomohet.files.values import LIST, MAPPING, hold_to, number
from tomohet.linear.fitted_maps import FittedMaps
from tomohet.linear.poses import PoseEstimates
from tomohet.linear.prediction import TABLES, SplitLikelihood, source_tensor
from tomohet.model.load import load_config, read_weights
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

    config : contents of config.pkl
    maps : in the units of the store that the model was fitted to
    """

    folder: Path
    config: dict
    maps: FittedMaps

    @classmethod
    def read(cls, folder: Path, box: int) -> "SavedModel":
        """Read what `linear.output.write_run` wrote.

        Raises InputError if the folder is not from train_linear, or was fitted to another box.
        """
        config = load_config(folder / "config.pkl")
        if config["model_args"]["kind"] != "linear":
            raise InputError(
                f"{folder}: a model of kind {config['model_args']['kind']}, expected train_linear's"
            )
        if config["lattice_args"]["boxsize"] - 1 != box:
            raise InputError(
                f"{folder}: fitted to a box of {config['lattice_args']['boxsize'] - 1}, not {box}"
            )
        if "pose_deviation" not in config:
            raise InputError(f"{folder}: fitted by an earlier version; run train_linear again")
        hold_to(
            config,
            {"tomograms": LIST, "particles": LIST, "training_args": MAPPING, "pose_deviation": LIST},
            folder / "config.pkl",
        )
        hold_to(config["training_args"], {"max_frequency": number(1e-6, 0.5)}, folder / "config.pkl")
        weights = read_weights(folder / "weights.pkl")
        if "spectral_variance" not in weights.get("posterior", {}):
            raise InputError(f"{folder}: fitted by an earlier version; run train_linear again")
        tensors = weights["model_state_dict"] | weights["posterior"]
        fitted, tomograms = config["model_args"]["zdim"], config["tomograms"]
        expected = {"mean": (box,) * 3, "mask": (box,) * 3, "basis": (fitted, box, box, box)}
        found = {name: tuple(tensors[name].shape) if name in tensors else "nothing" for name in expected}
        if found != expected or len(tensors["tomogram_noise"]) != len(tomograms):
            raise InputError(
                f"{folder}: weights.pkl and config.pkl are not of the same fit ({found}, expected "
                f"{expected}); run train_linear again"
            )
        maps = FittedMaps.of_tensors(
            tensors,
            max_frequency=config["training_args"]["max_frequency"],
            tomograms=tomograms,
            scale=config["scale"],
            pixel_size_A=config["angpix"],
            tilt_shift_px=config.get("tilt_shift_A", 0.0) / config["angpix"],
        )
        return cls(folder, config, maps)

    def poses(self, store: Store, particles: np.ndarray) -> PoseEstimates:
        """Return the pose errors of particles (store ordinals).

        They are 0 for particles that the model was not fitted to, and for all particles if train_linear was
        told not to refine poses. The prior is kept: errors that are not corrected are integrated out.
        """
        if not any(self.config["pose_deviation"]):
            return PoseEstimates.none(len(particles))
        rows, known = self._rows(particles)
        table = read_table(self.folder / POSES, dict.fromkeys(POSE_COLUMNS, "numbers"))
        estimates = PoseEstimates.read(table, self.config["pose_deviation"], store.pixel_size_A)
        return estimates.of_rows(np.where(table.attrs.get(REFINE, True) & known, rows, -1))

    def held_out(self, store: Store, particles: np.ndarray, device: torch.device | str) -> SplitLikelihood:
        """Return likelihoods of training and held-out images along reproducible directions.

        There are at most as many directions as basis maps.

        Raises InputError if the model was not fitted to all these particles, or was fitted to another store.
        """
        refuse_other_input(self.config, store.description, self.folder, store.folder)
        rows, known = self._rows(particles)
        if not known.all():
            raise InputError(
                f"{self.folder}: fitted without {(~known).sum():,} of {len(particles):,} particles, so that "
                "the number of states cannot be found; fit train_linear to these particles, or give --states"
            )
        path, count = self.folder / HELD_OUT, len(self.config["particles"])
        tables = read_arrays(path, list(TABLES))
        if any(len(tables[name]) != count or tables[name].dtype.kind != "f" for name in TABLES):
            raise InputError(f"{path}: not of the {count} particles of config.pkl; run train_linear again")
        found = (torch.as_tensor(tables[name][rows]).to(device) for name in TABLES)
        return SplitLikelihood(*found, source_tensor(store, particles, device))

    def _rows(self, particles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each particle's row (n,) in the model's tables, and whether (n,) the model has it."""
        fitted = np.asarray(self.config["particles"])
        rows = np.searchsorted(fitted, particles).clip(max=len(fitted) - 1)
        return rows, fitted[rows] == particles
