"""A network that starts from a linear model, and its images, for the tests of teaching."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tomohet.linear.saved_model import SavedModel
from tomohet.model.settings import DecoderShape, EncoderShape, Network
from tomohet.model.vae import build_vae
from tomohet.particles.store import open_store
from tomohet.training.batches import ParticleImages
from tomohet.training.splits import TiltSplit
from tomohet.training.teaching import Teaching, teach

CPU = torch.device("cpu")
ENCODERS = ("tilts", "backprojected", "free")
SMALL_ENCODER = EncoderShape(
    layers_a=1, width_a=16, out_a=8, longest=21, layers_b=1, width_b=16, mask_px=None, pooling="mean",
    seeds=1, heads=4, layer_norm=False,
)  # fmt: skip


def network(box: int, encoder: str):
    """Make a small network over the two basis maps of `tiny_linear`."""
    decoder = DecoderShape(
        zdim=2, layers=1, width=16, activation="relu", encoding="gaussian", per_axis=3, feat_sigma=0.5,
        extent=0.5, hermitian=True, n_basis=2,
    )  # fmt: skip
    return build_vae(box, Network(decoder, replace(SMALL_ENCODER, source=encoder)), seed=0)


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
