"""Archives of numpy arrays (.npz) that may be damaged; no code in them is run."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check
from tomohet.files.regular import refuse_irregular

MOST_INFLATED = 100  # highest compression ratio that is accepted; empty maps reach a few tens
ANY_SIZE = 2**28  # bytes up to which any compression ratio is accepted


def read_arrays(path: str | Path, needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file by name.

    Raises InputError when the file is missing, damaged or not such an archive, or lacks one of `needed`.
    """
    check(path)
    refuse_irregular(path)
    try:
        _refuse_bomb(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as arrays ({reason(error)}); make it again") from error
    if missing := [name for name in needed if name not in arrays]:
        raise InputError(f"{path}: {', '.join(missing)} is missing; make the file again")
    return arrays


def _refuse_bomb(path: str | Path) -> None:
    """Raise ValueError when the archive's content would take far more memory than any written by numpy."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    most = max(ANY_SIZE, MOST_INFLATED * Path(path).stat().st_size)
    if size > most:
        raise ValueError(f"{size:,} bytes when decompressed, expected {most:,} at most")
