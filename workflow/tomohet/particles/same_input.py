"""Check that a model and a store count the same particles: the numbers of another dataset are meaningless."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomohet.errors import InputError

log = logging.getLogger(__name__)


def file_digests(paths: Iterable[str | Path]) -> dict[str, str]:
    """Compute the SHA-256 of particle files by path, as in `inputs` of store.yaml."""
    return {str(path): hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


def input_digests(description: dict) -> list[str]:
    """Return the SHA-256 of the particle files of a store (`description`: store.yaml), in ascending order."""
    inputs = description.get("inputs")
    return sorted(map(str, inputs.values())) if isinstance(inputs, dict) else []


@dataclass(frozen=True)
class Origin:
    """The dataset whose particles are counted, as a model's configuration and a table of poses record it.

    store_digest : of the store; None where nothing is recorded
    input_digests : of the store's particle files (`input_digests`); None where nothing is recorded
    """

    store_digest: str | None = None
    input_digests: list[str] | None = None

    @classmethod
    def of_store(cls, description: dict) -> "Origin":
        """Return the origin of the particles of a store (`description`: store.yaml)."""
        return cls(description["digest"], input_digests(description))

    @classmethod
    def recorded(cls, content: Mapping[Any, Any]) -> "Origin":
        """Return the origin that a file records, under the names of `entries`; each may be missing."""
        return cls(content.get("store_digest"), content.get("input_digests"))

    def entries(self) -> dict[str, Any]:
        """Return what a file records, by name."""
        return {"store_digest": self.store_digest, "input_digests": self.input_digests}


def same_input(origin: Origin, description: dict) -> bool:
    """Tell whether a model's origin counts the particles of this store (`description`: store.yaml).

    It does if it names this store, or another store of the same particle files: the numbers count the
    particles of the input, independent of selection and resampling. An origin that names no store is
    accepted.
    """
    if origin.store_digest in (None, description["digest"]):
        return True
    return bool(origin.input_digests) and origin.input_digests == input_digests(description)


def refuse_other_input(origin: Origin, description: dict, model: str | Path, store: str | Path) -> None:
    """Raise InputError when a model's particles are looked up in a store of another dataset."""
    if not same_input(origin, description):
        raise InputError(
            f"{model}: this is a model of particles of another store than {store}, so its particle numbers "
            "mean other particles here; run its training on this store again, or give its own store"
        )


def warn_of_other_input(origin: Origin, description: dict, model: str | Path, store: str | Path) -> None:
    """Log a warning when a model of one dataset is used on another dataset, where that is allowed."""
    if not same_input(origin, description):
        log.warning("%s: this is a model of particles of another store than %s", model, store)
