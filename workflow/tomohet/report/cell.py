"""Particles in their tomograms: places and orientations for the page, and the neighbourhood of states."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet import plots
from tomohet.analysis.neighbours import ANGLES, POSITION, neighbourhood, sentence, surroundings
from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE
from tomohet.mapback.placements import folder_name, read_placements
from tomohet.physics.geometry import euler_to_matrix
from tomohet.report.blobs import Blobs
from tomohet.report.collect import Round
from tomohet.report.reading import Reader
from tomohet.report.tables import label_of
from tomohet.rounds import layout

VOLUME_SERIES, SCENE = "volumes.star", "mapback.cxc"
MOST_SHOWN = 60_000  # particles in the page; whole tomograms, the fullest first
MOST_TESTED = 10_000  # particles in the test of neighbourhood
MOST_COLUMNS, MOST_VALUES = 16, 40
LABELS = ("state", "maven_class", "kmeans", "gmm", "vkmeans")
AMOUNTS = ("maven_", "siren_")
STEPS = 2**15 - 1
APART_A = 200.0  # a placement farther from the particle table's place is of another particle
RADIUS = 0.35  # of a drawn particle, as a share of the median distance to the nearest one


@dataclass(frozen=True)
class Neighbourhood:
    """Test of one label for the page: its sentence, its table, and whether all particles were used."""

    label: str
    sentence: str
    rows: list[dict]
    colours: list[str]
    n: int
    total: int


def cell(round_: Round, reader: Reader, blobs: Blobs) -> dict | None:
    """Put the particles' places in their tomograms into the page; None when they are not known."""
    placed = placements(round_, reader)
    if placed is None:
        return None
    known = placed[POSITION].notna().all(axis=1)
    tomograms = placed["tomogram"][known].value_counts()
    fits = np.cumsum(tomograms.to_numpy()) <= MOST_SHOWN
    shown = sorted(tomograms.index[: max(1, int(fits.sum()))])
    rows = np.flatnonzero((known & placed["tomogram"].isin(shown)).to_numpy())
    here = placed.iloc[rows]
    places = here[POSITION].to_numpy(float)
    low, step = places.min(axis=0), max(float(np.ptp(places, axis=0).max()), 1.0) / STEPS
    code = pd.Categorical(here["tomogram"], categories=shown).codes
    oriented = set(ANGLES) <= set(here.columns)
    around = surroundings(here.reset_index(drop=True), np.asarray(code), 1).distance_A
    near = around[np.isfinite(around)]
    tested = tests(placed)
    return {
        "round": round_.name,
        "rows": blobs.add(rows.astype(np.int32)),
        "n": len(rows),
        "total": int(known.sum()),
        "step": step,
        "places": blobs.add(np.rint((places - low) / step).astype(np.int16)),
        "axes": blobs.add(_axes(here)) if oriented else None,
        "tomogram": blobs.add(np.asarray(code, np.int16)),
        "tomograms": [_tomogram(round_, reader, str(name), int(tomograms[name])) for name in shown],
        "total_tomograms": len(tomograms),
        "radius_A": RADIUS * float(np.median(near)) if len(near) else 0.0,
        "columns": columns(here, blobs),
        "tests": [asdict(test) for test in tested],
    }


def placements(round_: Round, reader: Reader) -> pd.DataFrame | None:
    """Return the particle table, with the orientations if the volume series has them.

    None when no particle has a known place.
    """
    table = round_.particles
    if table is None or not {"tomogram", *POSITION} <= set(table.columns):
        return None
    table = table.reset_index(drop=True)
    if not table[POSITION].notna().all(axis=1).any():
        return None
    path = round_.folder / layout.SUBSET.folder / VOLUME_SERIES
    if path.is_file() and table[POSITION].notna().all(axis=None):
        try:
            table = _with_orientations(table, path)
        except (*UNREADABLE, InputError) as error:
            reader.problem(path, error)
    return table


def tests(placed: pd.DataFrame) -> list[Neighbourhood]:
    """Test the neighbourhood of the first label of `LABELS` that the table has; empty without one."""
    label = next((name for name in LABELS if name in placed and placed[name].nunique() > 1), None)
    if label is None:
        return []
    placed = placed[placed[POSITION].notna().all(axis=1)]
    tomograms = placed["tomogram"].value_counts()
    fits = np.cumsum(tomograms.to_numpy()) <= MOST_TESTED
    used = placed[placed["tomogram"].isin(tomograms.index[: max(1, int(fits.sum()))])]
    found = neighbourhood(used, label)
    if found.empty:
        return []
    kinds = sorted(placed[label].dropna().unique())
    colours = dict(zip(kinds, plots.label_hex(len(kinds)), strict=True))
    return [
        Neighbourhood(
            label,
            sentence(found, label_of(label)),
            found.astype(object).where(found.notna(), None).to_dict("records"),
            [colours[state] for state in found["state"]],
            len(used),
            len(placed),
        )
    ]


def columns(table: pd.DataFrame, blobs: Blobs) -> list[dict]:
    """Put the columns that may colour particles into the page: labels with their colours, and occupancies."""
    found = []
    for name in (label for label in LABELS if label in table and 1 < table[label].nunique() <= MOST_VALUES):
        kinds = sorted(table[name].dropna().unique())
        codes = pd.Categorical(table[name], categories=kinds).codes
        values = [kind.item() if hasattr(kind, "item") else kind for kind in kinds]
        entry = {"name": name, "label": label_of(name), "values": values}
        found.append(
            {**entry, "colours": plots.label_hex(len(kinds)), "blob": blobs.add(codes.astype(np.int16))}
        )
    amounts = [
        name
        for name in table.columns
        if name.startswith(AMOUNTS) and name not in LABELS and pd.api.types.is_float_dtype(table[name])
    ]
    for name in amounts[: MOST_COLUMNS - len(found)]:
        coded = np.clip(np.rint(254 * table[name].to_numpy(float)), 0, 254)
        coded = np.where(np.isfinite(coded), coded, 255).astype(np.uint8)
        found.append({"name": name, "label": label_of(name), "blob": blobs.add(coded)})
    return found


def _with_orientations(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    placed = read_placements(path)
    if len(placed) != len(table):
        raise InputError(f"{len(placed):,} particles, expected the {len(table):,} of the particle table")
    apart = np.linalg.norm(placed[POSITION].to_numpy() - table[POSITION].to_numpy(float), axis=1)
    if (far := np.flatnonzero(apart > APART_A)).size:
        raise InputError(
            f"row {far[0] + 1}: {apart[far[0]]:,.0f} Å from the place in the particle table, expected the "
            "same particles in the same order"
        )
    return table.assign(**{name: placed[name].to_numpy() for name in ANGLES})


def _axes(table: pd.DataFrame) -> np.ndarray:
    """Return the particles' z axes in their tomograms, (n, 3), from -1..1 in 0..254."""
    pose = euler_to_matrix(*table[ANGLES].to_numpy(float).T)
    return np.rint(127 * pose[:, :, 2] + 127).astype(np.uint8)


def _tomogram(round_: Round, reader: Reader, name: str, n: int) -> dict:
    scene = round_.folder / layout.MAPBACK.folder / folder_name(name) / SCENE
    return {"name": name, "n": n, "scene": reader.relative(scene) if scene.is_file() else None}
