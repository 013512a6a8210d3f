"""Pickles from untrusted sources: plain values and numpy arrays are read, code is never run."""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check
from tomohet.files.values import refuse_vast

# All these functions only build values. numpy 1 and 2 use different module paths for the same functions.
_ALLOWED = {
    "builtins": {"bool", "complex", "dict", "float", "int", "range", "slice", "str"},
    "collections": {"OrderedDict"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
}
LARGEST_INDEX = 2**31 - 1  # of particles and images
PLAIN = (bool, int, float, complex, str, np.generic)


def _copying(kind: type) -> Callable:
    """Make a builder of a list, a set, ... from given items.

    A number or a range is refused, because it may be huge.
    """

    def build(*values: object) -> object:
        if values and isinstance(values[0], int | range):
            raise pickle.UnpicklingError(f"it asks for a {kind.__name__} of {values[0]}")
        return kind(*values)

    return build


def _encode(text: str, encoding: str) -> bytes:
    """Encode bytes as protocol 2 writes them; no other codec is run."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def _empty_array(_subtype: object, shape: tuple, _kind: bytes) -> np.ndarray:
    """Create the array that is filled next; in pickles written by numpy it has no size yet."""
    if shape != (0,):
        raise pickle.UnpicklingError(f"it asks for an array of shape {shape}")
    return np.ndarray((0,), "b")


def _scalar(kind: np.dtype, value: bytes | str) -> np.generic:
    """Create a scalar from as many bytes as its type has."""
    if kind.hasobject or not isinstance(value, bytes | str) or len(value) != kind.itemsize:
        raise pickle.UnpicklingError(f"it holds a scalar of type {kind} with another value")
    return np.frombuffer(value.encode("latin1") if isinstance(value, str) else value, kind)[0]


# Replacements of functions that would take any requested amount of memory, believe a size, or run any codec.
_GUARDED = {
    ("builtins", kind.__name__): _copying(kind) for kind in (bytearray, bytes, frozenset, list, set, tuple)
}
for _core in ("core", "_core"):
    _GUARDED |= {(f"numpy.{_core}.multiarray", name): guarded for name, guarded in
                 (("_reconstruct", _empty_array), ("scalar", _scalar))}  # fmt: skip
_GUARDED |= {("_codecs", "encode"): _encode, ("numpy", "ndarray"): None}  # ndarray only for `_reconstruct`


class Foreign:
    """Replacement for an object of another program.

    It keeps the name and state, and runs none of the code.
    """

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _RestrictedUnpickler(pickle._Unpickler):
    """Unpickler of data types alone; its states of arrays are checked, which numpy takes on trust."""

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def load_build(self) -> None:
        """Give the object below the top of the stack the state on top of it, as `pickle` does."""
        made, state = self.stack[-2:]  # type: ignore[attr-defined]
        if isinstance(made, np.dtype):
            _refuse_other_type(made, state)
        elif isinstance(made, np.ndarray):
            _refuse_other_size(state)
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> object:
        """Return the object of this name, as `pickle` requests it; only names of data types are found."""
        if module == "__builtin__":  # Python 2 pickles
            module = "builtins"
        if (module, name) in _GUARDED:
            return _GUARDED[module, name]
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if module == "numpy" and (name == "dtype" or _is_scalar_type(name)):
            return getattr(np, name)
        if module == "numpy.dtypes" and name.endswith("DType"):
            return getattr(np.dtypes, name)
        if module.split(".")[0] == "tomodrgn":
            return type(name, (Foreign,), {"__module__": module})
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _refuse_other_type(kind: np.dtype, state: object) -> None:
    """Refuse any state but that of this type in some byte order: numpy believes sizes and flags."""
    version, _, *expected = kind.__reduce__()[2]  # type: ignore[index]
    match state:
        case (found, "<" | ">" | "=" | "|" | b"<" | b">" | b"=" | b"|", *rest):
            if (found, rest) == (version, expected):
                return
    raise pickle.UnpicklingError(f"it describes the type {kind} as {state}")


def _refuse_other_size(state: object) -> None:
    """Refuse the state of an array whose bytes are not as many as its shape and type say."""
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], np.dtype):
        raise pickle.UnpicklingError("it holds an array without shape, type and values")
    _, shape, kind, _, values = state
    if not isinstance(shape, tuple) or not all(type(edge) is int and edge >= 0 for edge in shape):
        raise pickle.UnpicklingError(f"it holds an array of shape {shape}")
    items, size = (list, 1) if kind.hasobject else (bytes | str | bytearray, kind.itemsize)
    if not isinstance(values, items) or len(values) != size * math.prod(shape):
        raise pickle.UnpicklingError(f"it holds an array of shape {shape} and type {kind} with other values")


def _is_scalar_type(name: str) -> bool:
    found = getattr(np, name, None)
    return isinstance(found, type) and issubclass(found, (np.number, np.bool_, np.str_))


def load_pickles(path: str | Path) -> list:
    """Read all values pickled one after another in a file.

    Raises InputError when the file is missing, is not a pickle, holds anything but plain values, numpy arrays
    and dates, or is not what was written (`files.digests`).
    """
    path = Path(path)
    check(path)
    if not path.is_file():
        raise InputError(f"{path}: no such pickle file")
    content = io.BytesIO(path.read_bytes())
    size, values = len(content.getbuffer()), []
    try:
        while (start := content.tell()) < size:
            _refuse_false_lengths(content, size)
            content.seek(start)
            values.append(_RestrictedUnpickler(content).load())
            refuse_vast(values[-1], 10 * size + 10**5)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: refused as a pickle of plain values and numpy arrays ({reason(error)}); "
            "write it again with plain lists or numpy arrays"
        ) from error
    if not values:
        raise InputError(f"{path}: the pickle file is empty")
    return values


def _refuse_false_lengths(content: io.BytesIO, size: int) -> None:
    """Scan the instructions of a pickle without executing them, in linear time.

    Raises ValueError for an item longer than the file, and UnpicklingError for a memo entry with a number
    that no file of this size needs: memory would be allocated for all entries before it.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > size:
            raise pickle.UnpicklingError(f"it asks for {argument:,} memo entries in {size:,} bytes")


def load_array(path: str | Path) -> np.ndarray:
    """Read the first value in a file as an array. Raises InputError where `as_array` finds none."""
    return _checked_array(load_pickles(path)[0], path)


def _checked_array(value: object, path: str | Path) -> np.ndarray:
    try:
        return as_array(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: expected an array or a list of plain values, found {error}") from error


def as_array(value: object) -> np.ndarray:
    """Convert a flat list, tuple, set or range of plain values, or a list of such rows, to an array.

    An array is returned as it is. Raises ValueError for anything else: lists that share their parts may be
    huge as an array.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, range):
        if len(value) > LARGEST_INDEX:
            raise ValueError(f"a range of {len(value):,} numbers")
        return np.asarray(list(value))
    if not isinstance(value, list | tuple | set | frozenset):
        return np.asarray(*_flat([value]))
    items = list(value)
    if not items or not all(isinstance(item, list | tuple | np.ndarray) for item in items):
        return np.asarray(_flat(items))
    if len(items) * max(map(len, items)) > LARGEST_INDEX:
        raise ValueError(f"{len(items):,} rows of up to {max(map(len, items)):,} numbers")
    return np.stack([item if isinstance(item, np.ndarray) else np.asarray(_flat(item)) for item in items])


def _flat(items: list | tuple) -> list | tuple:
    """Return the items as they are, if all are plain values."""
    strange = {type(item).__name__ for item in items if not isinstance(item, PLAIN)}
    if strange:
        raise ValueError(f"{', '.join(sorted(strange))} where plain values are expected")
    return items


def save_latents(path: str | Path, mu: np.ndarray, logvar: np.ndarray) -> None:
    """Write latent means and log variances, both (n_particles, zdim), as two consecutive pickled arrays."""
    write_pickle(path, np.asarray(mu, np.float32), np.asarray(logvar, np.float32))


def load_latents(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read latent means (n_particles, zdim) float32 and log variances, or None if only means are there."""
    arrays = []
    for value in load_pickles(path)[:2]:
        array = _checked_array(value, path)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(f"{path}: expected latents of shape (particles, zdim), found {array.shape}")
        arrays.append(array.astype(np.float32, copy=False))
    if len(arrays) == 2 and arrays[0].shape != arrays[1].shape:
        raise InputError(
            f"{path}: means {arrays[0].shape} and log variances {arrays[1].shape} differ in shape"
        )
    return arrays[0], arrays[1] if len(arrays) == 2 else None


def load_indices(path: str | Path) -> np.ndarray:
    """Read a one-dimensional list of 0-based indices as int64.

    Raises InputError unless the file holds one-dimensional integers that are not negative.
    """
    indices = load_array(path)
    if indices.size == 0:
        return np.zeros(0, np.int64)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise InputError(
            f"{path}: expected a one-dimensional list of integers, "
            f"found {indices.dtype} of shape {indices.shape}"
        )
    if indices.min() < 0:
        raise InputError(f"{path}: index {indices.min()} is negative; indices are 0-based")
    if indices.max() > LARGEST_INDEX:
        raise InputError(f"{path}: index {indices.max()} is larger than the number of any file's particles")
    return indices.astype(np.int64)
