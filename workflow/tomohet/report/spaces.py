"""Spaces of volumes that a round's models span: of the linear model, and of decoded volumes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE
from tomohet.files.pickles import load_array
from tomohet.files.volume_list import listed_volumes, read_listed
from tomohet.model.load import load_model
from tomohet.report import codec
from tomohet.report.collect import Round
from tomohet.report.reading import Reader
from tomohet.report.volumes import even_choice
from tomohet.rounds import layout

MOST_DECODED = 200
FEWEST_PER_LATENT = 3  # decoded volumes for each latent, to interpolate between them
CHECKED = 20  # particles whose volumes are compared with those in the page
WEIGHTS, CONFIG, DECODED_LATENTS = "weights.pkl", "config.pkl", "z.pkl"
EXACT = (
    "The mean of any selection is the model's own mean of these particles: mean map + basis maps × latents."
)


@dataclass(frozen=True)
class Model:
    """A model's volumes in the page; `how` states where the particles' volumes come from."""

    name: str
    label: str
    space: codec.Space
    fit: codec.Fit
    how: str


def linear_model(round_: Round, reader: Reader, grid: codec.Grid) -> Model | None:
    """Return the linear model: its mean map, its basis maps, and the latents of all particles."""
    folder = round_.folder / layout.LINEAR.folder
    latents = _latents(round_, reader, folder)
    if latents is None or not (folder / WEIGHTS).is_file():
        return None
    try:
        trained = load_model(folder / WEIGHTS, folder / CONFIG)
        unit = torch.eye(latents.shape[1])
        mean = trained.volumes(torch.zeros(1, len(unit)))[0].numpy()
        basis = [trained.volumes(unit[j : j + 1])[0].numpy() - mean for j in range(len(unit))]
    except (*UNREADABLE, InputError) as error:
        reader.problem(folder / WEIGHTS, error)
        return None
    components = np.stack([grid.take(u) for u in basis])
    space = codec.Space(grid.take(mean), components, latents)
    some = latents[even_choice(len(latents), CHECKED)]
    return Model(
        "linear", "Linear model", space, codec.agreement(space, some, space.mean + some @ components), EXACT
    )


def network(round_: Round, reader: Reader, grid: codec.Grid) -> Model | None:
    """Return the volumes decoded by the network, with the particles' coefficients from their latents."""
    decoded = _decoded(round_, reader, grid)
    if decoded is None:
        return None
    volumes, numbers, places = decoded
    assigned = round_.particles.get("volume")
    weights = (
        None if assigned is None else assigned.value_counts().reindex(numbers, fill_value=0).to_numpy(float)
    )
    space = codec.principal(volumes, weights)
    fit = codec.agreement(space, space.coefficients, volumes)
    latents = _latents(round_, reader, round_.folder / layout.TRAIN_VAE.folder)
    matched = latents is not None and places is not None and latents.shape[1] == places.shape[1]
    if matched and len(volumes) >= FEWEST_PER_LATENT * (places.shape[1] + 1):
        coefficients, predicted = codec.interpolated(space.coefficients, places, latents)
        how = (
            f"The particles' volumes are interpolated from {len(volumes):,} decoded volumes by the latents. "
            f"For volumes left out, the interpolation predicts {100 * predicted:.0f} % of the variance."
        )
    elif assigned is not None and assigned.isin(numbers).all():
        coefficients = space.coefficients[pd.Index(numbers).get_indexer(assigned)]
        how = f"Each particle has the nearest of {len(volumes):,} decoded volumes."
    else:
        return None
    return Model(
        "network", "Decoded volumes", codec.Space(space.mean, space.components, coefficients), fit, how
    )


def _decoded(
    round_: Round, reader: Reader, grid: codec.Grid
) -> tuple[np.ndarray, list[int], np.ndarray | None] | None:
    """Return decoded volumes (n, m), their numbers, and their latents (n, d) if they are known."""
    folder = round_.folder / layout.VOLUMES.folder
    try:
        listed = listed_volumes(folder)
        chosen = even_choice(len(listed.paths), MOST_DECODED)
        if len(chosen) < 2:
            return None
        numbers = [listed.numbers[i] for i in chosen]
        volumes = np.stack([_values(listed.paths[i], grid) for i in chosen])
        places = folder / DECODED_LATENTS
        latents = load_array(places).astype(np.float64) if places.is_file() else None
    except (*UNREADABLE, InputError) as error:
        reader.problem(folder, error)
        return None
    if latents is not None and len(latents) != len(listed.paths):
        latents = None
    return volumes, numbers, None if latents is None else latents[chosen]


def _values(path: Path, grid: codec.Grid) -> np.ndarray:
    volume, _ = read_listed(path)
    if len(volume) < grid.box:
        wide = f"{len(volume)} voxels wide, expected at least {grid.box}"
        raise InputError(f"{path}: {wide}, as of the round's mask")
    return grid.take(volume)


def _latents(round_: Round, reader: Reader, folder: Path) -> np.ndarray | None:
    """Return latents (N, d) in the order of the particle table; None when they are of other particles.

    Particles without images have the mean latent.
    """
    path = folder / layout.LATENTS
    if not path.is_file():
        return None
    try:
        latents = load_array(path).astype(np.float32)
        if latents.ndim != 2 or len(latents) != len(round_.particles):
            n = len(round_.particles)
            raise InputError(
                f"latents of shape {latents.shape}, expected one row for each of {n:,} particles"
            )
        known = np.isfinite(latents).all(axis=1)
        if not known.any():
            raise InputError("no latent is a finite number, expected those of a finished training")
        latents[~known] = latents[known].mean(axis=0)
    except (*UNREADABLE, InputError) as error:
        reader.problem(path, error)
        return None
    return latents
