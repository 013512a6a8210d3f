"""Archives of numpy arrays (.npz) that may be damaged; no code in them is run."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.digests import check


def read_arrays(path: str | Path, needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name.

    Raises InputError when the file is missing, damaged or no such archive, or lacks one of `needed`.
    """
    check(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, MemoryError, SyntaxError,
            NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as an archive of arrays ({reason}); run the command that wrote it again"
        ) from error
    if missing := [name for name in needed if name not in arrays]:
        raise InputError(f"{path}: lacks {', '.join(missing)}; run the command that wrote it again")
    return arrays
