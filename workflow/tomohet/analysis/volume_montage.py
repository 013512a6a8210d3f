"""A picture of many volumes: central sections side by side."""

from collections.abc import Sequence
from pathlib import Path

from tomohet import plots
from tomohet.files.mrc import read_volume

MOST = 50  # volumes in one picture


def montage(volumes: Sequence[Path], path: Path, title: str, names: Sequence[str] | None = None) -> None:
    """Write a picture of the first 50 volumes [z,y,x] (paths) on one grey scale."""
    shown = list(volumes)[:MOST]
    names = list(names)[:MOST] if names is not None else [file.stem for file in shown]
    if len(volumes) > MOST:
        title = f"{title} (first {MOST} of {len(volumes)})"
    plots.save(plots.slices_montage([read_volume(file)[0] for file in shown], names, title), path)
