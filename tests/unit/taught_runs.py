"""A network that starts from a linear model, and its images, for the tests of teaching."""

from pathlib import Path

import numpy as np
import torch

from tomohet.linear.saved_model import SavedModel
from tomohet.model.vae import build_vae
from tomohet.particles.store import open_store
from tomohet.training.batches import ParticleImages
from tomohet.training.splits import TiltSplit
from tomohet.training.teaching import Teaching, teach

CPU = torch.device("cpu")
ENCODERS = ("tilts", "backprojected", "free")


def network(box: int, encoder: str):
    """Make a small network over the two basis maps of `tiny_linear`."""
    arguments = {
        "encoder": encoder, "qlayersA": 1, "qdimA": 16, "out_dimA": 8, "qlayersB": 1, "qdimB": 16, "zdim": 2,
        "ntilts": 21, "players": 1, "pdim": 16, "activation": "relu", "enc_mask": None,
        "pooling_function": "mean", "num_seeds": 1, "num_heads": 4, "layer_norm": False,
        "pe_type": "gaussian", "pe_dim": 3, "feat_sigma": 0.5, "l_extent": 0.5, "hermitian": True,
        "n_basis": 2,
    }  # fmt: skip
    return build_vae(box, arguments, seed=0)


def taught(store_folder: Path, linear: Path, folder: Path, encoder: str) -> Teaching:
    """Prepare a training up to its first epoch."""
    stated = open_store(store_folder)
    particles = np.arange(len(stated.particles))
    saved = SavedModel.read(linear, stated.box)
    store = saved.poses(stated, particles).corrected(stated, particles)
    split = TiltSplit.of(np.diff(store.offsets), 1.0, True, seed=0)
    fitted, unseen, whole = (
        ParticleImages(store, particles, CPU, keep=mask)
        for mask in (split.trained, split.judging, split.trained | split.judging)
    )
    maps, model = saved.maps.for_store(store, CPU), network(store.box, encoder)
    course = {"epochs": 1, "seed": 0, "folder": folder}
    return teach(maps, model, store, particles, split, fitted, unseen, whole, **course)
