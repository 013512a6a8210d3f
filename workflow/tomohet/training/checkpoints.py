"""Checkpoints: the files from which a training continues exactly where it stopped."""

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np

from tomohet.files.digests import forget
from tomohet.model.config_file.writing import deciding_entries
from tomohet.model.saving import save_weights
from tomohet.model.settings import NetworkSettings
from tomohet.options import TrainNnOptions, TrainVaeOptions
from tomohet.particles.store import Store

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pkl"


def settings_digest(
    settings: NetworkSettings, options: TrainVaeOptions | TrainNnOptions, store: Store
) -> str:
    """Digest everything that decides the course of a training: hyper-parameters, particles and images.

    The number of epochs counts only where a schedule stretches with it, so that a finished training can be
    continued. The chosen particles count; the options that chose them and the places of files do not.
    """
    decisive = deciding_entries(settings, options)
    stretched = options.lr_warmup or options.march or options.lr_schedule == "cosine"
    if isinstance(options, TrainVaeOptions):
        # Latents in closed form are inferred a few times, evenly over the training.
        stretched = stretched or options.beta == "e" or options.encoder == "free"
        if options.until == "converged":
            decisive["until"] = options.until
    if stretched:
        decisive["n"] = options.num_epochs
    particles = settings.particles.ordinals()
    images = store.images_of(particles)
    decisive |= {
        "seed": settings.seed,
        "particles": settings.particles.numbers,
        "images": hashlib.sha256(store.data_rows[images].astype(np.int64).tobytes()).hexdigest(),
        "store": store.digest,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def save_checkpoint(path: Path, content: dict) -> None:
    """Write tensors and plain values in a form that `model.load.read_weights` opens."""
    save_weights(path, content)


def set_aside(folder: Path, patterns: tuple[str, ...]) -> None:
    """Move an earlier training's files into `superseded.N`, so that its epochs do not mix with new ones."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    if not files:
        return
    number = 1
    while (folder / f"superseded.{number}").exists():
        number += 1
    aside = folder / f"superseded.{number}"
    aside.mkdir()
    forget(*files)
    for file in files:
        os.replace(file, aside / file.name)
    log.info("%d files of an earlier training moved to %s", len(files), aside)
