"""Warm start of a network from that of a larger set of particles: its weights, and its held-out tilts.

The parent's decoder has seen its training tilts. Tilts that judge the child must be among those that judged
the parent, else the child's gain would contain what its parent has fitted. The child therefore takes the
split of the parent, which follows from the parent's particles and seed, or from the parent's own parent.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.model.config_file.reading import read_vae_settings
from tomohet.model.load import read_weights
from tomohet.model.settings import Network, NetworkSettings
from tomohet.model.taught import FreeLatents
from tomohet.model.vae import HeterogeneityVAE
from tomohet.particles.store import Store
from tomohet.training.splits import TiltSplit


@dataclass(frozen=True)
class WarmStart:
    """The finished network of train_vae from which another starts.

    folder : output folder of train_vae
    settings : as recorded there
    """

    folder: Path
    settings: NetworkSettings

    @classmethod
    def read(
        cls, folder: Path, store: Store, particles: np.ndarray, linear_digest: str | None
    ) -> "WarmStart":
        """Read a network for a part of its particles (store ordinals).

        linear_digest : of the linear model of --init

        Raises InputError when the network was not trained, on this store, on all these particles, or started
        from another linear model.
        """
        settings = read_vae_settings(folder / "config.pkl")
        if settings.particles.origin.store_digest != store.description["digest"]:
            raise InputError(
                f"--warm-start {folder}: trained on another store than {store.folder}, so that its "
                "held-out tilts are not known there; train it again on this store"
            )
        if (unknown := np.setdiff1d(particles, settings.particles.ordinals())).size:
            raise InputError(
                f"--warm-start {folder}: trained without {len(unknown):,} of {len(particles):,} particles, "
                f"the first is {unknown[0]}; give the network of a round that has all of them"
            )
        if settings.start.linear_digest is None or settings.start.linear_digest != linear_digest:
            raise InputError(
                f"--warm-start {folder}: it started from another linear model than that of --init, expected "
                f"--init {settings.start.linear or 'a linear model'} (or train this network again)"
            )
        return cls(folder, settings)

    def same_shape(self, network: Network) -> Network:
        """Return the shape of the network to train: the given one, with room for the parent's tilts.

        Raises InputError when it differs from the parent's.
        """
        theirs = self.settings.network
        if network.encoder is None or theirs.encoder is None:
            raise InputError(f"--warm-start {self.folder}: expected a network of train_vae with its latents")
        network = replace(network, encoder=replace(network.encoder, longest=theirs.encoder.longest))
        asked, found = ({**vars(one.decoder), **vars(one.encoder)} for one in (network, theirs))
        other = [name for name in asked if asked[name] != found[name]]
        if other:
            raise InputError(
                f"--warm-start {self.folder}: its network has {other[0]} {found[other[0]]}, found "
                f"{asked[other[0]]} here; a warm start needs the same architecture"
            )
        return network

    def split(self, store: Store, particles: np.ndarray) -> TiltSplit:
        """Return the parent's split of the images of particles (store ordinals)."""
        return _of_images(_split_of_run(self.folder, store), store.images_of(particles))

    def fill(self, model: HeterogeneityVAE) -> None:
        """Load the parent's weights; latents start from the linear model of all runs of the chain."""
        model.load_state_dict(read_weights(self.folder / "weights.pkl")["model_state_dict"])
        if isinstance(model.encoder, FreeLatents):
            model.encoder.adopt(None)

    @property
    def digest(self) -> str:
        """SHA-256 of the parent's weights."""
        return hashlib.sha256((self.folder / "weights.pkl").read_bytes()).hexdigest()


def _split_of_run(folder: Path, store: Store) -> TiltSplit:
    """Return the split of a training as masks over all images of the store; others are in no part."""
    settings = read_vae_settings(folder / "config.pkl")
    rows = store.images_of(settings.particles.ordinals())
    if settings.start.warm is not None:
        own = _of_images(_split_of_run(settings.start.warm, store), rows)
    else:
        fraction = settings.data_set.fraction_train
        own = TiltSplit.of_store(store, settings.particles.ordinals(), fraction, True, settings.seed or 0)
    parts = []
    for part in (own.trained, own.judging, own.test):
        mask = np.zeros(len(store.images), bool)
        mask[rows] = part
        parts.append(mask)
    return TiltSplit(*parts)


def _of_images(split: TiltSplit, rows: np.ndarray) -> TiltSplit:
    return TiltSplit(split.trained[rows], split.judging[rows], split.test[rows])
