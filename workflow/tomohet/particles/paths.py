"""Where the image stacks named in a STAR file are, and what their headers say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.mrc import stack_header


def resolve_stacks(written: Sequence[str], star: Path, datadir: str | Path | None) -> list[Path]:
    """Find each stack: as written, relative to the STAR file, in `datadir`; each file on its own.

    In `datadir` the written relative path is tried first, then parent/basename, then the basename; without
    `datadir` the STAR file's folder takes its place.
    Raises InputError when files are missing (how many of how many, the first three, what was tried), or when
    two written paths lead to one file.
    """
    base = Path(datadir) if datadir is not None else star.parent
    if not base.is_dir():
        raise InputError(f"--datadir {base}: no such folder")
    found = {name: _find(Path(name), star.parent, base) for name in written}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        tried = ", ".join(str(path) for path in _candidates(Path(missing[0]), star.parent, base))
        raise InputError(
            f"{star}: {len(missing)} of {len(found)} image stacks are missing: {shown}; for the first was "
            f"tried: {tried}; give the stacks' folder with --datadir"
        )
    owner: dict[Path, str] = {}
    for name, path in found.items():
        if path in owner:
            raise InputError(
                f"{star}: the stacks {owner[path]} and {name} both lead to {path}; keep their folders apart "
                "below --datadir"
            )
        owner[path] = name
    return [found[name] for name in written]


def _candidates(written: Path, star_folder: Path, base: Path) -> list[Path]:
    """Places where a stack may be, most specific first."""
    relative = [] if written.is_absolute() else [star_folder / written, base / written]
    tail = base / written.parent.name / written.name if written.parent.name else base / written.name
    return list(dict.fromkeys([written, *relative, tail, base / written.name]))


def _find(written: Path, star_folder: Path, base: Path) -> Path | None:
    for candidate in _candidates(written, star_folder, base):
        if candidate.is_file():
            return candidate.resolve()
    return None


def read_headers(stacks: Sequence[Path]) -> pd.DataFrame:
    """Depth, box and header pixel size of every stack (columns stack, n_sections, box, pixel_size_A).

    Raises InputError when images are not square or of odd size, or when the stacks differ in box.
    """
    rows = []
    for stack in stacks:
        (n_sections, height, width), pixel_size_A = stack_header(stack)
        if height != width or height % 2:
            raise InputError(
                f"{stack}: images of {width} x {height} px, expected square images with an even box"
            )
        rows.append((str(stack), n_sections, height, pixel_size_A))
    headers = pd.DataFrame(rows, columns=["stack", "n_sections", "box", "pixel_size_A"])
    boxes, counts = np.unique(headers["box"], return_counts=True)
    if len(boxes) > 1:
        usual = boxes[counts.argmax()]
        odd_one = headers[headers["box"] != usual].iloc[0]
        raise InputError(
            f"{odd_one['stack']}: wrong box {odd_one['box']} px, expected {usual} px as in {counts.max()} of "
            f"{len(headers)} stacks; extract all particles with one box"
        )
    return headers
