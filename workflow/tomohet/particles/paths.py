"""Locations of the image stacks named in a STAR file, and the content of their headers."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.mrc import stack_header
from tomohet.particles.table import PIXEL_SIZE_TOLERANCE

HEADER_THREADS = 8
NAMES_TRIED = 100  # number of names tried to find the project's root
HEADER_BATCH = 64  # files per task: with one file per task, scheduling would take as long as reading
STAMP_BATCH = 1024


def resolve_stacks(written: Sequence[str], star: Path, datadir: str | Path | None) -> list[Path]:
    """Find each stack: as written, relative to the STAR file, or in `datadir`; each file on its own.

    In `datadir` the written relative path is tried first, then parent/basename, then the basename. Without
    `datadir` the project's root takes its place: the folder above the STAR file from which one of the first
    names leads to a file (as RELION writes names), else the STAR file's folder.

    Raises InputError when files are missing (how many of how many, the first three, the paths tried), or when
    two written paths lead to one file.
    """
    if datadir is not None and not Path(datadir).is_dir():
        raise InputError(f"--datadir {datadir}: no such folder")
    base = _base(written, star, datadir)
    found = find_stacks(written, star, datadir)
    complete = {name: path for name, path in found.items() if path is not None}
    missing = [name for name in found if name not in complete]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        tried = ", ".join(_candidates(missing[0], str(star.parent), base))
        raise InputError(
            f"{star}: {len(missing)} of {len(found)} image stacks are missing: {shown}; for the first was "
            f"tried: {tried}; give the stacks' folder with --datadir"
        )
    owner: dict[str, str] = {}
    for name, path in complete.items():
        if path in owner:
            raise InputError(
                f"{star}: the stacks {owner[path]} and {name} both lead to {path}; keep their folders apart "
                "below --datadir"
            )
        owner[path] = name
    return [Path(complete[name]) for name in written]


def find_stacks(
    written: Sequence[str], star: Path, datadir: str | Path | None = None
) -> dict[str, str | None]:
    """Find the real path of each stack, by name, or None; the search is that of `resolve_stacks`."""
    folder, base = str(star.parent), _base(written, star, datadir)
    return {name: _find(name, folder, base) for name in written}


def stack_stamps(
    written: Sequence[str], star: Path, datadir: str | Path | None = None
) -> list[tuple[int, int] | None]:
    """Return size and time of change (ns) of each stack, None for a missing one; in the order of `written`.

    Stacks are searched for as in `resolve_stacks`, but the location of the previous stack is tried first. The
    stamps only tell whether anything has changed, possibly among several hundred thousand files.
    """
    folder, base = str(star.parent), _base(written, star, datadir)

    def stamps(names: Sequence[str]) -> list[tuple[int, int] | None]:
        found, last = [], 0
        for name in names:
            places = _candidates(name, folder, base)
            stamp = None
            for place in sorted(range(len(places)), key=lambda place: place != last):
                try:
                    status = os.stat(places[place])
                except OSError:
                    continue
                stamp, last = (status.st_size, status.st_mtime_ns), place
                break
            found.append(stamp)
        return found

    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        parts = [written[start : start + STAMP_BATCH] for start in range(0, len(written), STAMP_BATCH)]
        return [stamp for stamps_of_part in pool.map(stamps, parts) for stamp in stamps_of_part]


def _base(written: Sequence[str], star: Path, datadir: str | Path | None) -> str:
    if datadir is not None:
        return str(datadir)
    roots = (project_root(name, star) for name in written[:NAMES_TRIED])  # single stacks may be missing
    return str(next(filter(None, roots), star.parent))


def project_root(written: str, star: Path) -> Path | None:
    """Return the folder above `star` from which the path `written` starts; None when there is none."""
    return next((folder for folder in star.absolute().parent.parents if (folder / written).is_file()), None)


def _candidates(written: str, star_folder: str, base: str) -> list[str]:
    """List the locations where a stack may be, most specific first.

    They are plain text, because there may be a file per particle.
    """
    folder, name = os.path.split(written)
    places = [written]
    if not os.path.isabs(written):
        places += [os.path.join(star_folder, written), os.path.join(base, written)]
    places += [os.path.join(base, os.path.basename(folder), name), os.path.join(base, name)]
    return list(dict.fromkeys(places))


def _find(written: str, star_folder: str, base: str) -> str | None:
    places = _candidates(written, star_folder, base)
    return next((os.path.realpath(place) for place in places if os.path.isfile(place)), None)


def read_headers(stacks: Sequence[Path]) -> pd.DataFrame:
    """Read depth, box and header pixel size of every stack (columns stack, n_sections, box, pixel_size_A).

    Raises InputError when images are not square or of odd size, or when stacks of one pixel size differ in
    box. Boxes of different pixel sizes may differ, because `--rescale` resamples them to one grid.
    """
    headers = read_any_headers(stacks)
    _refuse_mixed_boxes(headers)
    return headers


def read_any_headers(stacks: Sequence[Path]) -> pd.DataFrame:
    """Read headers as `read_headers` does, for stacks of any box."""
    # Opening files waits on the disk or the network, so many are opened at once.
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        batches = [stacks[start : start + HEADER_BATCH] for start in range(0, len(stacks), HEADER_BATCH)]
        found = [header for headers in pool.map(_headers, batches) for header in headers]
    shapes = np.array([shape for shape, _ in found], dtype=np.int64).reshape(-1, 3)
    wrong = np.flatnonzero((shapes[:, 1] != shapes[:, 2]) | (shapes[:, 1] % 2 == 1))
    if len(wrong):
        raise InputError(
            f"{stacks[wrong[0]]}: images of {shapes[wrong[0], 2]} x {shapes[wrong[0], 1]} px, expected "
            "square images with an even box"
        )
    return pd.DataFrame(
        {
            "stack": [str(stack) for stack in stacks],
            "n_sections": shapes[:, 0],
            "box": shapes[:, 1],
            "pixel_size_A": [pixel_size_A for _, pixel_size_A in found],
        }
    )


def _headers(stacks: Sequence[Path]) -> list[tuple[tuple[int, int, int], float]]:
    return [stack_header(stack) for stack in stacks]


def _refuse_mixed_boxes(headers: pd.DataFrame) -> None:
    boxes, counts = np.unique(headers["box"], return_counts=True)
    if len(boxes) < 2:
        return
    usual = boxes[counts.argmax()]
    of_usual_A = headers.loc[headers["box"] == usual, "pixel_size_A"].median()
    same_pixels = np.isclose(headers["pixel_size_A"], of_usual_A, rtol=PIXEL_SIZE_TOLERANCE, atol=0)
    odd_ones = headers[(headers["box"] != usual) & same_pixels]
    if len(odd_ones):
        odd_one = odd_ones.iloc[0]
        raise InputError(
            f"{odd_one['stack']}: wrong box {odd_one['box']} px, expected {usual} px as in {counts.max()} of "
            f"{len(headers)} stacks; extract all particles with one box"
        )
