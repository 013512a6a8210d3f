"""Warm start of the linear model from that of a larger set of particles.

EM of the search starts from latents. The parent's latents are taken from its training tilts alone, under maps
that were fitted to these tilts alone (`SavedModel.held_out`). Every third tilt of a particle is held out, by
its place in the tilt series, so a particle has the same held-out tilts in both fits.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.files.text import read_json
from tomohet.linear.saved_model import SavedModel
from tomohet.particles.store import Store

NEW = 0.5  # share of a latent's norm beside the parent's latents, above which it counts as a further one

log = logging.getLogger(__name__)


def parent_latents(folder: Path, store: Store, particles: np.ndarray) -> Tensor | None:
    """Return latents (N, K) of particles (store ordinals) from their training tilts, by a parent's fit.

    None where the parent held out wedges of tilts, which are not those of a first search, or confirmed no
    component.

    Raises InputError when the model was not fitted, on this store, to all these particles.
    """
    model = SavedModel.read(folder, store.box)
    fitted = model.settings.particles
    if fitted.origin.store_digest != store.description["digest"]:
        raise InputError(
            f"--warm-start {folder}: fitted to another store than {store.folder}, so that its held-out "
            "tilts are not known there; run train_linear again on this store"
        )
    if (unknown := np.setdiff1d(particles, fitted.ordinals())).size:
        raise InputError(
            f"--warm-start {folder}: fitted without {len(unknown):,} of {len(particles):,} particles, the "
            f"first is {unknown[0]}; give the model of a round that has all of them"
        )
    if read_json(folder / "summary.json").get("surroundings_found"):
        log.info("%s: it held out wedges of tilts; starting from the images instead", folder)
        return None
    latents = model.held_out(store, particles, "cpu").used
    if not latents.shape[1]:
        log.info("%s: it confirms no component; starting from the images instead", folder)
        return None
    log.info("EM starts from the latents of %s (confirmed components: %d)", folder, latents.shape[1])
    return latents


def joined_starts(warm: Tensor, cold: Tensor, k: int) -> Tensor:
    """Return k uncorrelated latents (N, k) of unit variance: the parent's (N, K), then of `cold` (N, k).

    Latents of `cold` that mostly repeat others are left out; noise fills up what is then missing.
    """
    count = len(warm)
    chosen = torch.empty(count, 0, dtype=torch.float64)
    draw = torch.randn(count, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    candidates = torch.cat([warm.double().cpu(), cold.double().cpu(), draw], dim=1)
    for z in (candidates - candidates.mean(0)).T:
        rest = z - chosen @ (chosen.T @ z)
        if rest.norm() > NEW * z.norm():
            chosen = torch.cat([chosen, (rest / rest.norm())[:, None]], dim=1)
        if chosen.shape[1] == k:
            break
    return (chosen * count**0.5).to(cold)
