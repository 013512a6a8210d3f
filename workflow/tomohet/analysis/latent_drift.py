"""How latents change between epochs: shifts, shared neighbours, agreement of clusters, loss curves."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.analysis.chunks import chunks, variances
from tomohet.analysis.clusters import kmeans
from tomohet.analysis.run_folder import FINAL, RunFolder
from tomohet.errors import InputError
from tomohet.files.digests import is_there
from tomohet.files.tables import read_csv

NEIGHBOURS = 15
CLUSTERS = 10
SUBSET = 5000  # particles in which neighbours and clusters are compared

EPOCH_LINE = re.compile(
    r"=====> Epoch: (\d+) Average gen loss = ([\d.eE+-]+), KLD = ([\d.eE+-]+), total loss = ([\d.eE+-]+)"
)

log = logging.getLogger(__name__)


def read_losses(folder: Path) -> pd.DataFrame | None:
    """Read a training's losses by epoch (columns epoch from 0, gen, kld, total).

    They come from loss.csv, or from the epoch lines of a tomoDRGN run.log; None when there is neither.
    """
    table, text = folder / "loss.csv", folder / "run.log"
    if is_there(table):
        losses = read_csv(table, dict.fromkeys(("epoch", "gen", "kld", "total"), "numbers"))
        return losses.sort_values("epoch").drop_duplicates("epoch", keep="last")
    if text.is_file():
        rows = EPOCH_LINE.findall(text.read_text(errors="replace"))
        if rows:
            losses = pd.DataFrame(rows, columns=["epoch", "gen", "kld", "total"]).astype(float)
            losses["epoch"] = losses["epoch"].astype(int) - 1
            return losses.drop_duplicates("epoch", keep="last")
    return None


def read_held_out(folder: Path, last: int) -> pd.DataFrame | None:
    """Read the gains on held-out tilt images up to epoch `last`.

    None for a training that does not start from the linear model.
    """
    file = folder / "held_out.csv"
    if not is_there(file):
        return None
    table = read_csv(file, dict.fromkeys(("epoch", "gain_of_decoder", "error_of_decoder"), "numbers"))
    table = table[table["epoch"] <= last] if last != FINAL else table
    return table if len(table) else None


def listed_epochs(known: Sequence[int], interval: int, last: int) -> list[int]:
    """Select known epochs up to `last`.

    The first, each at least `interval` epochs later, and `last` itself.
    """
    listed: list[int] = []
    for epoch in known:
        if epoch <= last and (not listed or epoch >= listed[-1] + interval):
            listed.append(epoch)
    return sorted({*listed, last})


def shifts(run: RunFolder, epochs: Sequence[int]) -> pd.DataFrame:
    """Measure the movement of latents between successive epochs.

    Columns: epoch (the later one); previous; magnitude (median |dz|); relative (the same after subtraction of
    the movement common to all particles, over the latents' rms distance from their mean); dot and
    cosine_distance (medians over particles, between this movement and the following one; missing for the
    last).
    """
    rows, before_that, before = [], None, None
    for previous, epoch in zip([None, *epochs], epochs, strict=False):
        z = run.latents(epoch)[0]
        if before is not None:
            if before.shape != z.shape:
                raise InputError(
                    f"{run.latents_path(epoch)}: shape {z.shape}, but epoch {previous} has {before.shape}"
                )
            size, own, turn = _movement(before_that, before, z)
            if turn is not None:
                rows[-1]["dot"], rows[-1]["cosine_distance"] = (float(np.median(one)) for one in turn)
            rows.append(
                {
                    "epoch": epoch,
                    "previous": previous,
                    "magnitude": float(np.median(size)),
                    "relative": float(np.median(own) / max(spread(z), 1e-30)),
                    "dot": np.nan,
                    "cosine_distance": np.nan,
                }
            )
        before_that, before = before, z
    columns = ["epoch", "previous", "magnitude", "relative", "dot", "cosine_distance"]
    return pd.DataFrame(rows, columns=columns)


def _movement(before_that: np.ndarray | None, before: np.ndarray, z: np.ndarray) -> tuple:
    """Compare latents (n, zdim) of two or three successive epochs, chunk by chunk in double precision.

    Returns (n,) length of the last movement, (n,) its length without the movement common to all, and, with
    three epochs, (n,) its dot product and (n,) its cosine distance with the movement before.
    """
    n = len(z)
    common = sum((z[here].astype(np.float64) - before[here]).sum(axis=0) for here in chunks(n)) / n
    size, own, dot, cosine = np.empty((4, n))
    for here in chunks(n):
        movement = z[here].astype(np.float64) - before[here]
        size[here] = np.linalg.norm(movement, axis=1)
        own[here] = np.linalg.norm(movement - common, axis=1)
        if before_that is not None:
            moved = before[here].astype(np.float64) - before_that[here]
            dot[here] = (moved * movement).sum(axis=1)
            norms = np.linalg.norm(moved, axis=1) * size[here]
            cosine[here] = 1 - dot[here] / np.maximum(norms, 1e-30)
    return size, own, None if before_that is None else (dot, cosine)


def spread(z: np.ndarray) -> float:
    """Compute the root mean squared distance of z (n, zdim) from its mean."""
    return float(np.sqrt(variances(z).sum()))


def stability(run: RunFolder, epochs: Sequence[int], seed: int) -> pd.DataFrame:
    """Measure the agreement of successive epochs on neighbours and clusters.

    Columns: epoch, previous, neighbours (mean fraction of the nearest 15 shared), neighbours_chance, ari
    (adjusted Rand index of seeded k-means labels, Hubert and Arabie 1985).
    """
    from sklearn.metrics import adjusted_rand_score

    rows, before = [], None
    for epoch in epochs:
        z = run.latents(epoch)[0]
        chosen = np.arange(len(z))
        if len(z) > SUBSET:
            chosen = np.sort(np.random.default_rng(seed).choice(len(z), SUBSET, replace=False))
        z = z[chosen]
        count = max(1, min(NEIGHBOURS, len(z) // 4))
        labels = kmeans(z, max(2, min(CLUSTERS, len(z) // 5)), seed).labels
        near = neighbours(z, count)
        if before is not None:
            rows.append(
                {
                    "epoch": epoch,
                    "previous": before[0],
                    "neighbours": shared(before[1], near),
                    "neighbours_chance": count / max(len(z) - 1, 1),
                    "ari": adjusted_rand_score(before[2], labels),
                }
            )
        before = epoch, near, labels
    return pd.DataFrame(rows, columns=["epoch", "previous", "neighbours", "neighbours_chance", "ari"])


def neighbours(z: np.ndarray, count: int) -> np.ndarray:
    """Find the `count` nearest neighbours (n, count) of each row of z, excluding the row itself."""
    from sklearn.neighbors import NearestNeighbors

    if len(z) < 2:
        return np.zeros((len(z), 0), np.int64)
    return NearestNeighbors(n_neighbors=min(count, len(z) - 1)).fit(z).kneighbors(return_distance=False)


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """Compute the mean fraction of neighbours (n, k) that two lists share."""
    if one.shape[1] == 0:
        return np.nan
    n = len(one)
    owner = np.arange(n)[:, None] * n
    common = np.isin(one + owner, other + owner)
    return float(common.mean())
