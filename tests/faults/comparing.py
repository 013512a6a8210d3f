"""Results compared with undisturbed ones: every byte counts but the times that each run writes anew."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

# Files that are no results: logs, lists of what was written, Snakemake's own.
NO_RESULT = re.compile(r".*\.log|\.digests|\.snakemake_timestamp|\..*\.lock")
VOLATILE = {"seconds", "particles_per_second", "time", "content"}  # content: digest of files with a time
MOMENT = re.compile(r"\d+ [A-Z][a-z]+ 20\d\d, \d\d:\d\d UTC|20\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d")
MRC_LABELS = slice(220, 1024)  # with the time of writing


def files_of(folder: Path, parts: Iterable[str]) -> dict[str, Path]:
    """The result files below the parts (files or folders) of a workflow's folder, by their relative names."""
    found: dict[str, Path] = {}
    for part in parts:
        path = folder / part
        below = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
        found |= {str(p.relative_to(folder)): p for p in below if p.is_file()}
    return {name: path for name, path in found.items() if not NO_RESULT.fullmatch(path.name)}


def differences(undisturbed: Path, disturbed: Path, parts: Sequence[str]) -> list[str]:
    """The files below `parts` that are missing, left over, or not the same, each with what is the matter."""
    expected, found = files_of(undisturbed, parts), files_of(disturbed, parts)
    said = [f"{name}: missing" for name in expected.keys() - found.keys()]
    said += [f"{name}: left behind" for name in found.keys() - expected.keys()]
    both = expected.keys() & found.keys()
    return sorted(said + [f"{n}: differs" for n in both if not _same(expected[n], found[n])])


def _same(one: Path, other: Path) -> bool:
    if one.read_bytes() == other.read_bytes():
        return True
    try:
        return content(one) == content(other)
    except Exception:  # a file that cannot be read at all is not the same
        return False


def content(path: Path) -> object:
    """What a file says, without what every run writes anew."""
    if path.suffix == ".mrc":
        raw = bytearray(path.read_bytes())
        raw[MRC_LABELS] = bytes(len(raw[MRC_LABELS]))
        return bytes(raw)
    if path.suffix == ".json":
        return lasting(json.loads(path.read_text()))
    if path.suffix == ".yaml":
        return lasting(yaml.safe_load(path.read_text()))
    if path.name == "loss.csv":
        return pd.read_csv(path).drop(columns=list(VOLATILE), errors="ignore").to_csv()
    if path.suffix == ".html":
        return MOMENT.sub("", path.read_text())
    if path.suffix == ".pkl":
        return lasting(_unpickled(path))
    return path.read_bytes()


def _unpickled(path: Path) -> object:
    from tomohet.files.pickles import load_pickles

    if path.read_bytes()[:2] == b"PK":
        return torch.load(path, map_location="cpu", weights_only=True)
    return load_pickles(path)


def lasting(value: object) -> object:
    """The value without volatile entries, and with arrays as their type, shape and bytes."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list | tuple):
        return [lasting(item) for item in value]
    return MOMENT.sub("", value) if isinstance(value, str) else value
