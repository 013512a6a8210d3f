"""Archives of numpy arrays (.npz) that may be damaged; no code in them is run."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check


def read_arrays(path: str | Path, needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name.

    Raises InputError when the file is missing, damaged or no such archive, or lacks one of `needed`.
    """
    check(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as arrays ({reason(error)}); make it again") from error
    if missing := [name for name in needed if name not in arrays]:
        raise InputError(f"{path}: lacks {', '.join(missing)}; make it again")
    return arrays
