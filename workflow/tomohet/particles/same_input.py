"""Check that a model and a store count the same particles: the numbers of another dataset are meaningless."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from tomohet.errors import InputError

log = logging.getLogger(__name__)


def file_digests(paths: Iterable[str | Path]) -> dict[str, str]:
    """Compute the SHA-256 of particle files by path, as in `inputs` of store.yaml."""
    return {str(path): hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


def input_digests(description: dict) -> list[str]:
    """Return the SHA-256 of the particle files of a store (`description`: store.yaml), in ascending order."""
    inputs = description.get("inputs")
    return sorted(map(str, inputs.values())) if isinstance(inputs, dict) else []


def same_input(config: dict, description: dict) -> bool:
    """Tell whether a model's configuration counts the particles of this store (`description`: store.yaml).

    It does if it names this store, or another store of the same particle files: the numbers count the
    particles of the input, independent of selection and resampling. A configuration that names no store is
    accepted.
    """
    if config.get("store_digest") in (None, description["digest"]):
        return True
    digests = config.get("input_digests")
    return bool(digests) and digests == input_digests(description)


def refuse_other_input(config: dict, description: dict, model: str | Path, store: str | Path) -> None:
    """Raise InputError when a model's particles are looked up in a store of another dataset."""
    if not same_input(config, description):
        raise InputError(
            f"{model}: this is a model of particles of another store than {store}, so its particle numbers "
            "mean other particles here; run its training on this store again, or give its own store"
        )


def warn_of_other_input(config: dict, description: dict, model: str | Path, store: str | Path) -> None:
    """Log a warning when a model of one dataset is used on another dataset, where that is allowed."""
    if not same_input(config, description):
        log.warning("%s: this is a model of particles of another store than %s", model, store)
