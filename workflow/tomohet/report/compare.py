"""Volumes of a round that the page compares: of its models, states and half maps, and their noise."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet import plots
from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE
from tomohet.files.volume_list import read_listed
from tomohet.report import codec
from tomohet.report.blobs import Blobs
from tomohet.report.collect import Round
from tomohet.report.reading import Reader, numbered
from tomohet.report.spaces import Model, linear_model, network
from tomohet.report.tables import NAMES
from tomohet.report.volumes import softened
from tomohet.rounds import layout

# Measured characters per voxel, deflated and in base64: a mean in 16 bits, a component and a map in 8 bits.
PER_MEAN, PER_COMPONENT, PER_MAP = 2.5, 0.8, 0.5
USUAL_COMPONENTS = 8
MOST_MAPS, MOST_GROUPS, MOST_BLOCKS = 16, 30, 24
GROUPED = ("state", "maven_class", "kmeans", "gmm", "vkmeans")
MASKS = (layout.LINEAR, layout.ANALYZE_VOLUMES, layout.HALF_MAPS)
MASK = "mask.mrc"
HALVES = (("half1.mrc", "Half map 1"), ("half2.mrc", "Half map 2"))
BY_HALVES = (
    "the noise of the round's reconstruction: the standard deviation of (half map 1 − half map 2) / 2 "
    "inside the mask"
)
BY_MEAN = "the standard deviation of the mean volume inside the mask, as there are no half maps"


def comparison(round_: Round, most_characters: float, reader: Reader, blobs: Blobs) -> dict | None:
    """Put everything into the page that its view of volumes compares, in up to `most_characters`.

    Maps keep the voxels of their files if the mask's voxels fit, else they are cropped in Fourier space.
    None when the round has no particle table, or neither a model nor decoded volumes.
    """
    mask = _mask(round_, reader)
    if round_.particles is None or mask is None:
        return None
    maps = map_files(round_)[:MOST_MAPS]
    grid = codec.grid_in(*mask, _most_voxels(most_characters, len(maps)))
    models = [m for m in (linear_model(round_, reader, grid), network(round_, reader, grid)) if m is not None]
    if not models:
        return None
    loaded = {name: _values(reader, path, grid) for name, path in maps}
    sigma, source = noise(loaded, models[0].space.mean)
    return {
        "round": round_.name,
        "grid": grid.payload(blobs),
        "sigma": sigma,
        "sigma_source": source,
        "models": [_model_payload(model, blobs) for model in models],
        "groups": groups(round_.particles, models),
        "maps": [
            {
                "label": name,
                "kind": _kind(path),
                "n": _particles_of(name, path, round_.particles),
                "file": reader.relative(path),
                **codec.add_rows(blobs, values[None], fine=False),
            }
            for name, path in maps
            if (values := loaded[name]) is not None
        ],
        "blocks": blocks(round_.block_maps, reader, grid, blobs),
    }


def map_files(round_: Round) -> list[tuple[str, Path]]:
    """List the maps that are reconstructed from images: the round's own, its half maps, and its states."""
    half_maps = round_.folder / layout.HALF_MAPS.folder
    own = [("Reconstruction", round_.map)] if round_.map else []
    own += [(label, half_maps / name) for name, label in HALVES if (half_maps / name).is_file()]
    states = numbered((round_.folder / layout.STATES.folder).glob("state_*.mrc"))
    return own + [(path.stem.replace("state_", "State "), path) for path in states]


def noise(maps: dict[str, np.ndarray | None], mean: np.ndarray) -> tuple[float, str]:
    """Return the standard deviation of the reconstruction's noise inside the mask, and how it was measured.

    The noise of a mean of two half maps is half their difference. Without half maps, the unit is the standard
    deviation of the mean volume.
    """
    first, second = (maps.get(label) for _, label in HALVES)
    if first is None or second is None or not np.any(first != second):
        return float(mean.std()) or 1.0, BY_MEAN
    return float(np.std((first - second) / 2)), BY_HALVES


def groups(table: pd.DataFrame, models: list[Model]) -> list[dict]:
    """List the states and clusters of the particle table, each with its mean coefficients in every model.

    Of more than `MOST_GROUPS` values of a column, the most frequent are listed.
    """
    found = []
    for column in (name for name in GROUPED if name in table):
        sizes = table[column].value_counts()
        colours = plots.label_hex(len(sizes))
        order = sorted(sizes.index)
        for value in sorted(sizes.index[:MOST_GROUPS]):
            rows = np.flatnonzero(table[column].to_numpy() == value)
            means = [model.space.coefficients[rows].mean(0).round(6).tolist() for model in models]
            found.append(
                {
                    "column": column,
                    "title": NAMES.get(column, column),
                    "value": value.item() if hasattr(value, "item") else value,
                    "n": len(rows),
                    "colour": colours[order.index(value)],
                    "coefficients": means,
                }
            )
    return found


def blocks(paths: list[Path], reader: Reader, grid: codec.Grid, blobs: Blobs) -> list[dict]:
    """Put the masks of SIREn's blocks into the page, 0 to 255, in the colours of the stage's figures."""
    colours = plots.label_hex(len(paths))
    found = []
    for path, colour in list(zip(paths, colours, strict=True))[:MOST_BLOCKS]:
        loaded = _volume(reader, path)
        if loaded is None or len(loaded[0]) != grid.original_box:
            continue
        values = np.clip(np.rint(255 * grid.take(softened(loaded[0]))), 0, 255).astype(np.uint8)
        label = path.stem.replace("block_", "Block ")
        found.append({"label": label, "colour": colour, "blob": blobs.add(values)})
    return found


def _model_payload(model: Model, blobs: Blobs) -> dict:
    names = ("worst", "median", "worst_difference", "median_difference")
    return {
        "name": model.name,
        "label": model.label,
        "how": model.how,
        "fit": {name: round(getattr(model.fit, name), 5) for name in names},
        **codec.space_payload(blobs, model.space),
    }


def _most_voxels(most_characters: float, n_maps: int) -> float:
    """Return how many voxels fit into a round's share of the page, with two models."""
    return most_characters / (2 * (PER_MEAN + USUAL_COMPONENTS * PER_COMPONENT) + PER_MAP * n_maps)


def _mask(round_: Round, reader: Reader) -> tuple[np.ndarray, float] | None:
    """Return the first mask that a stage of the round wrote, and its pixel size (Å)."""
    for stage in MASKS:
        path = stage.path(round_.folder, MASK)
        volume = _volume(reader, path) if path.is_file() else None
        if volume is not None and (volume[0] > 0).any():
            return volume
    return None


def _values(reader: Reader, path: Path, grid: codec.Grid) -> np.ndarray | None:
    volume = _volume(reader, path)
    if volume is None:
        return None
    if len(volume[0]) != grid.original_box:
        found, expected = (f"{n} x {n} x {n} voxels" for n in (len(volume[0]), grid.original_box))
        reader.problem(path, InputError(f"{found}, expected {expected}, as of the round's mask"))
        return None
    return grid.take(volume[0])


def _volume(reader: Reader, path: Path) -> tuple[np.ndarray, float] | None:
    try:
        return read_listed(path)
    except (*UNREADABLE, InputError) as error:
        reader.problem(path, error)
        return None


def _particles_of(name: str, path: Path, table: pd.DataFrame) -> int | None:
    """Count the particles of a map: all, half of them, or those of a state."""
    if _kind(path) == "reconstruction":
        return len(table) // 2 if name in dict(HALVES).values() else len(table)
    number = path.stem.removeprefix("state_")
    return int((table["state"] == int(number)).sum()) if "state" in table and number.isdigit() else None


def _kind(path: Path) -> str:
    return "state" if path.parent.name == layout.STATES.folder else "reconstruction"
