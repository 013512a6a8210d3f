"""Pickles that may come from anyone: plain values and numpy arrays are read, code is never run."""

import pickle
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle

# Everything named here only builds values. numpy 1 and 2 use different module paths for the same functions.
_ALLOWED = {
    "builtins": {
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "range",
        "set", "slice", "str", "tuple",
    },
    "collections": {"OrderedDict"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
    "_codecs": {"encode"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
}  # fmt: skip


class Foreign:
    """Stands in for an object of another program: keeps its name and state, runs none of its code."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """The class of this name, as `pickle` asks for it; only those that hold data are found."""
        if module == "__builtin__":  # Python 2 pickles
            module = "builtins"
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if module == "numpy" and (name in ("ndarray", "dtype") or _is_scalar_type(name)):
            return getattr(np, name)
        if module == "numpy.dtypes" and name.endswith("DType"):
            return getattr(np.dtypes, name)
        if module.split(".")[0] == "tomodrgn":
            return type(name, (Foreign,), {"__module__": module})
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _is_scalar_type(name: str) -> bool:
    found = getattr(np, name, None)
    return isinstance(found, type) and issubclass(found, np.generic)


def load_pickles(path: str | Path) -> list:
    """All values pickled one after another in a file.

    Raises InputError when the file is missing, is no pickle, or holds anything but plain values, numpy
    arrays and dates.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such pickle file")
    values = []
    with open(path, "rb") as file:
        while file.peek(1):
            try:
                values.append(_RestrictedUnpickler(file).load())
            except (pickle.UnpicklingError, EOFError, ImportError, AttributeError, TypeError, ValueError,
                    IndexError, KeyError, UnicodeDecodeError) as error:  # fmt: skip
                raise InputError(
                    f"{path}: refused as a pickle of plain values and numpy arrays ({error}); "
                    "write it again with plain lists or numpy arrays"
                ) from error
    if not values:
        raise InputError(f"{path}: the pickle file is empty")
    return values


def save_latents(path: str | Path, mu: np.ndarray, logvar: np.ndarray) -> None:
    """Write latent means and log variances, both (n_particles, zdim), as two consecutive pickled arrays."""
    write_pickle(path, np.asarray(mu, np.float32), np.asarray(logvar, np.float32))


def load_latents(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Latent means (n_particles, zdim) float32 and log variances, or None when the file has only means."""
    arrays = []
    for value in load_pickles(path)[:2]:
        array = np.asarray(value)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(f"{path}: expected latents of shape (particles, zdim), found {array.shape}")
        arrays.append(array.astype(np.float32))
    if len(arrays) == 2 and arrays[0].shape != arrays[1].shape:
        raise InputError(
            f"{path}: means {arrays[0].shape} and log variances {arrays[1].shape} differ in shape"
        )
    return arrays[0], arrays[1] if len(arrays) == 2 else None


def load_indices(path: str | Path) -> np.ndarray:
    """A one-dimensional list of 0-based indices as int64.

    Raises InputError unless the file holds one-dimensional integers that are not negative.
    """
    indices = np.asarray(load_pickles(path)[0])
    if indices.size == 0:
        return np.zeros(0, np.int64)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise InputError(
            f"{path}: expected a one-dimensional list of integers, "
            f"found {indices.dtype} of shape {indices.shape}"
        )
    if indices.min() < 0:
        raise InputError(f"{path}: index {indices.min()} is negative; indices are 0-based")
    return indices.astype(np.int64)
