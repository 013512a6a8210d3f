"""The mean of chosen particles: which command reconstructs it, and the folder that keeps what it wrote.

A mean is named by a digest of what it depends on, and its folder gets that name when it is complete. The same
request is therefore answered from the folder, also after a restart, and no list is kept.
"""

import logging
import math
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.atomic import write_json, write_pickle
from tomohet.files.parts import content_digest
from tomohet.files.pickles import LARGEST_INDEX
from tomohet.files.text import read_json
from tomohet.files.values import TEXT, hold_to, kind, whole
from tomohet.options.schema import read_schema
from tomohet.particles.store_files import read_description
from tomohet.rounds import layout
from tomohet.rounds.flags import command_line
from tomohet.rounds.select import among, select

log = logging.getLogger(__name__)

PREFIX, REQUEST, INDICES = "mean-", "request.json", "indices.pkl"
SECTION = "homogeneous"
REAL = kind("a number", int, float)  # not finite where half maps agree nowhere


@dataclass(frozen=True)
class Mean:
    """The reconstruction of the particles `particles` (n,) of a round, by the command `words`.

    name : of the folder, from a digest of the particles, the options, the store and the refined poses
    query : by which the particles were chosen, or None
    label : the user's name of the selection, or None
    """

    name: str
    round: str
    particles: np.ndarray
    words: tuple[str, ...]
    query: str | None = None
    label: str | None = None

    @property
    def request(self) -> dict:
        """What was asked: round, query, name, number of particles, whether poses are refined."""
        return {
            "round": self.round,
            "query": self.query,
            "name": self.label,
            "n_particles": len(self.particles),
            "refine_poses": "--refine-poses" in self.words,
        }

    def command(self, folder: Path) -> list[str]:
        """Return the words of the command that writes the maps into `folder`, where the indices lie."""
        own = ["--ind-ptcls", str(folder / INDICES), "-o", str(folder)]
        return [sys.executable, "-m", "tomohet.cli", "backproject_voxel", *self.words, *own]

    def write_request(self, folder: Path, final: Path) -> None:
        """Write the particle numbers, and the command as a user would type it, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_pickle(folder / INDICES, self.particles)
        typed = shlex.join(["tomohet", *self.command(final)[3:]])
        write_json(folder / REQUEST, self.request | {"command": typed})


def mean_of(
    results: Path,
    config: dict,
    round_name: str,
    particles: np.ndarray,
    *,
    query: str | None = None,
    label: str | None = None,
    refine_poses: bool = False,
    device: str = "auto",
) -> Mean:
    """Describe the reconstruction of particles (n,) of a round by the options of the round's own half maps.

    query : by which the particles were chosen
    label : the user's name of the selection; the mean does not depend on it
    refine_poses : refine the poses of each half set, where the round's linear model found errors

    Raises InputError when there is no prepared store, or no linear model whose poses could be refined.
    """
    store = results / layout.PREPARED.folder
    description = read_description(store)
    if description is None:
        raise InputError(f"{store} holds no prepared particles, so nothing can be reconstructed.")
    words = [str(store), *shlex.split(command_line(SECTION, section(config, SECTION, round_name)))]
    words += ["--device", device]
    known = [description["digest"], tuple(words[1:])]
    if refine_poses:
        poses = layout.LINEAR.path(results / round_name, "poses.parquet")
        if not poses.is_file():
            raise InputError(f"Round {round_name} has no refined poses ({poses.name} of the linear model).")
        words += ["--refine-poses", str(poses)]
        known.append(content_digest(poses))
    name = PREFIX + content_digest(*known, particles)[:16]
    return Mean(name, round_name, particles, tuple(words), query, label)


def section(config: dict, name: str, round_name: str) -> dict:
    """Return the options of a section, overridden by the round's; keys of other versions are left out."""
    known = read_schema()["properties"][name]["properties"]
    rounds = config.get("rounds") or {}
    given = {**(config.get(name) or {}), **((rounds.get(round_name) or {}).get(name) or {})}
    return {key: value for key, value in given.items() if key in known}


def chosen_particles(
    table: pd.DataFrame,
    particles: list[int] | None = None,
    rows: list[int] | None = None,
    query: str | None = None,
) -> np.ndarray:
    """Return the numbers (n,) int64, ascending, of particles of a round's table, chosen in one of three ways.

    particles : their numbers; rows : rows of the table, from 0; query : as for `tomohet select`

    Raises InputError unless exactly one is given, and when it chooses no particle, or one that is not there.
    """
    ways = {"particles": particles, "rows": rows, "query": query}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise InputError(f"Expected one of particles, rows and query, found {found}.")
    if query is not None:
        return select(table, query)
    if rows is not None:
        outside = [row for row in rows if row >= len(table)]
        if outside:
            raise InputError(f"rows: there is no row {outside[0]}; the table has {len(table)} rows.")
        particles = table["particle"].to_numpy(np.int64)[np.asarray(rows, np.int64)].tolist()
    return among(table, np.asarray(particles, np.int64), "particles")


def finished(folder: Path) -> Iterator[dict]:
    """Describe the means that are complete in `folder`, the oldest first.

    Damaged ones are left out with a warning.
    """
    for path in sorted(folder.glob(f"{PREFIX}*"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        if path.is_dir():
            try:
                yield described(path)
            except InputError as error:
                log.warning("%s; delete the folder to reconstruct the mean again", error)


def described(folder: Path) -> dict:
    """Describe a complete mean: its request, its resolution (Å) and the addresses of its files.

    Raises InputError when the folder is damaged.
    """
    request, numbers = read_json(folder / REQUEST), read_json(folder / layout.RECONSTRUCTION)
    hold_to(request, {"round": TEXT, "n_particles": whole(1, LARGEST_INDEX)}, folder / REQUEST)
    hold_to(numbers, {"resolution_A": REAL}, folder / layout.RECONSTRUCTION)
    resolution_A = numbers["resolution_A"]
    files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return {
        "job": folder.name,
        "state": "done",
        **request,
        "resolution_A": resolution_A if math.isfinite(resolution_A) else None,
        "sentence": numbers.get("sentence", ""),
        "files": [f"{layout.SERVED}/{folder.name}/{name}" for name in files],
    }
