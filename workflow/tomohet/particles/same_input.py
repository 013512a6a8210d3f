"""Whether a model's particles are those of a store: their numbers mean nothing in any other dataset."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from tomohet.errors import InputError

log = logging.getLogger(__name__)


def file_digests(paths: Iterable[str | Path]) -> dict[str, str]:
    """SHA-256 of particle files by path, as `inputs` of store.yaml has them."""
    return {str(path): hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


def input_digests(description: dict) -> list[str]:
    """SHA-256 of the particle files of a store (`description`: store.yaml), in ascending order."""
    inputs = description.get("inputs")
    return sorted(map(str, inputs.values())) if isinstance(inputs, dict) else []


def same_input(config: dict, description: dict) -> bool:
    """Whether a model's configuration counts the particles of this store (`description`: store.yaml).

    It does where it names this store, or another of the same particle files: the numbers count the particles
    of the input, whatever was selected or resampled. A configuration that names no store is believed.
    """
    if config.get("store_digest") in (None, description["digest"]):
        return True
    digests = config.get("input_digests")
    return bool(digests) and digests == input_digests(description)


def refuse_other_input(config: dict, description: dict, model: str | Path, store: str | Path) -> None:
    """Raise InputError when a model's particles are looked up in a store of another dataset."""
    if not same_input(config, description):
        raise InputError(
            f"{model}: a model of the particles of another store than {store}, so that its particles are "
            "others here; run its training on this store again, or name its own store"
        )


def warn_of_other_input(config: dict, description: dict, model: str | Path, store: str | Path) -> None:
    """Say so when a model of one dataset is used on another, where it need not be of the same particles."""
    if not same_input(config, description):
        log.warning("%s: a model of the particles of another store than %s", model, store)
