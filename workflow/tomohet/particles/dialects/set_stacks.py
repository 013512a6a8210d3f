"""The stacks of an optimisation set: one per particle, with all tilts or with the visible ones."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import numbers
from tomohet.particles.dialects.tilt_series import TiltSeries
from tomohet.particles.paths import read_headers, resolve_stacks


def visible_frames(table: pd.DataFrame, series: dict[str, TiltSeries], where: str) -> list[np.ndarray]:
    """Return per particle which tilts of its tomogram are used; everything but 0 counts as visible."""
    parsed = {}
    for text in table["rlnTomoVisibleFrames"].unique():
        try:
            parsed[text] = np.array([int(value) for value in text.strip("[] ").split(",")]) != 0
        except ValueError as error:
            raise InputError(
                f"{where}: rlnTomoVisibleFrames: found `{text[:40]}`, expected `[1,0,...]`"
            ) from error
    visible = [parsed[text] for text in table["rlnTomoVisibleFrames"]]
    for row, (frames, name) in enumerate(zip(visible, table["rlnTomoName"], strict=True)):
        if len(frames) != len(series[name]):
            raise InputError(
                f"{where}: row {row + 1}: rlnTomoVisibleFrames has {len(frames)} entries, but tomogram "
                f"{name} has {len(series[name])} tilts"
            )
    return visible


def stack_headers(table: pd.DataFrame, star: Path, datadir: str | Path | None, where: str) -> pd.DataFrame:
    """Return the stack header of each particle, in table order."""
    names = table["rlnImageName"]
    if (at := names.str.match(r"\d+@")).any():
        raise InputError(
            f"{where}: rlnImageName `{names[at].iloc[0]}`, expected one whole stack per particle"
        )
    distinct = list(names.unique())  # copies share their stack
    headers = read_headers(resolve_stacks(distinct, star, datadir))
    headers = headers.iloc[pd.Index(distinct).get_indexer(names)].reset_index(drop=True)
    if "rlnImageSize" in table.columns:
        stated = numbers(table, "rlnImageSize", where)
        if (wrong := np.flatnonzero(stated != headers["box"])).size:
            raise InputError(
                f"{headers['stack'][wrong[0]]}: box {headers['box'][wrong[0]]} px, but rlnImageSize says "
                f"{stated[wrong[0]]:g}; stacks and STAR file do not belong together"
            )
    return headers


def stack_sections(visible: list[np.ndarray], headers: pd.DataFrame, where: str) -> list[np.ndarray]:
    """Return the 1-based section of every frame.

    The stack's depth shows if it holds all or visible frames.
    """
    sections = []
    for frames, stack, depth in zip(visible, headers["stack"], headers["n_sections"], strict=True):
        if depth == len(frames):
            sections.append(np.arange(1, depth + 1))
        elif depth == frames.sum():
            sections.append(np.cumsum(frames))
        else:
            raise InputError(
                f"{stack}: {depth} sections, expected {len(frames)} (all tilts) or {frames.sum()} (visible "
                f"tilts) as {where} says"
            )
    return sections
