"""Assessment of a round against a simulation's truth: latents, clusters, occupancies and decoded maps."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict

from tomohet.errors import InputError
from tomohet.files.volume_list import listed_volumes, read_listed
from tomohet.physics.fourier_grids import crop_fourier
from tomohet.physics.fsc import correlation, fsc, resolution_at, shell_frequencies
from tomohet.physics.masks import sphere_mask
from tomohet.simulation.truth import Truth

FOLDS = 5
# Decoded maps hold no density of the particle beyond this fraction of the half box.
SPHERE = 0.84


@dataclass(frozen=True)
class RoundTruth:
    """A round's particles (n,) as rows of the truth: presence (n, blocks) and hinge angles (n,)."""

    truth: Truth
    rows: np.ndarray

    @property
    def presence(self) -> np.ndarray:
        return self.truth.presence[self.rows].astype(bool)

    @property
    def angle_deg(self) -> np.ndarray:
        return self.truth.angle_deg[self.rows]

    @property
    def state(self) -> np.ndarray:
        return self.truth.state[self.rows]

    def varying(self) -> list[int]:
        """Blocks that are present in some of the round's particles and absent in others."""
        share = self.presence.mean(0)
        return np.flatnonzero((share > 0) & (share < 1)).tolist()


def auc(present: np.ndarray, score: np.ndarray) -> float:
    """Compute the area under the ROC curve of a score whose sign is unknown."""
    value = roc_auc_score(present, score)
    return float(max(value, 1 - value))


def read_out(latents: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
    """Predict `target` (n,) linearly from latents (n, zdim), with cross-validation."""
    folds = KFold(min(FOLDS, len(target)), shuffle=True, random_state=seed)
    return cross_val_predict(LinearRegression(), latents, np.asarray(target, float), cv=folds)


def latents_against_truth(round_truth: RoundTruth, latents: np.ndarray, seed: int = 0) -> dict:
    """Compute AUC per varying block and R^2 of the hinge angle from latents (n, zdim).

    `auc` is that of a cross-validated linear read-out, which shows whether the latents hold the block at all.
    `auc_single` is that of the best single latent, for which labels are used only to choose the latent.
    """
    names, presence = round_truth.truth.block_names, round_truth.presence
    blocks = {}
    for block in round_truth.varying():
        present = presence[:, block]
        blocks[str(names[block])] = {
            "auc": auc(present, read_out(latents, present, seed)),
            "auc_single": max(auc(present, column) for column in latents.T),
        }
    return {"blocks": blocks, "angle_r2": _angle_r2(round_truth, latents, seed)}


def _angle_r2(round_truth: RoundTruth, latents: np.ndarray, seed: int) -> float | None:
    moving = round_truth.truth.moving_block
    if moving < 0:
        return None
    has = round_truth.presence[:, moving]
    if has.sum() < 4 * FOLDS:
        return None
    angle = round_truth.angle_deg[has]
    residual = angle - read_out(latents[has], angle, seed)
    return float(1 - np.var(residual) / np.var(angle))


def clusters_against_truth(round_truth: RoundTruth, table: pd.DataFrame) -> dict:
    """Compare the particle table's k-means and mixture labels with the true states by adjusted Rand index.

    Per block, `auc_<labels>`: AUC of the fraction of particles with the block in each particle's cluster,
    excluding the particle itself.
    """
    result = {}
    for column in ("kmeans", "gmm"):
        if column not in table:
            continue
        labels = table[column].to_numpy()
        result[f"ari_{column}"] = float(adjusted_rand_score(round_truth.state, labels))
        for block in round_truth.varying():
            present = round_truth.presence[:, block]
            name = str(round_truth.truth.block_names[block])
            score = _others_share(labels, present)
            result.setdefault("blocks", {}).setdefault(name, {})[f"auc_{column}"] = float(
                roc_auc_score(present, score)
            )
    return result


def _others_share(labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the fraction of a cluster's other members that have the block.

    For a cluster of one member it is the fraction of all particles.
    """
    _, codes = np.unique(labels, return_inverse=True)
    count, sums = np.bincount(codes)[codes] - 1, np.bincount(codes, present)[codes] - present
    return np.where(count > 0, sums / np.maximum(count, 1), present.mean())


def occupancies_against_truth(round_truth: RoundTruth, table: pd.DataFrame) -> dict:
    """Compute AUC and mean error of MAVEn's occupancy columns, `maven_<block>`, per varying block."""
    result = {}
    for block in round_truth.varying():
        name = str(round_truth.truth.block_names[block])
        column = f"maven_{name}"
        if column not in table or table[column].isna().all():
            continue
        occupancy, present = table[column].fillna(table[column].median()), round_truth.presence[:, block]
        result[name] = {
            "auc": float(roc_auc_score(present, occupancy)),
            "mean_absolute_error": float(np.abs(occupancy - present).mean()),
            "share_over_half": float((occupancy > 0.5).mean()),
        }
    return result


def blocks_against_truth(round_truth: RoundTruth, table: pd.DataFrame) -> dict:
    """Find for each varying block the SIREn block (columns `siren_<id>`) that follows it best; with AUC."""
    columns = [column for column in table if re.fullmatch(r"siren_\d+", column)]
    result = {}
    for block in round_truth.varying() if columns else ():
        present = round_truth.presence[:, block]
        found = {column: float(roc_auc_score(present, table[column].fillna(0))) for column in columns}
        best = max(columns, key=found.get)
        result[str(round_truth.truth.block_names[block])] = {"block": best, "auc": found[best]}
    return result


def maps_against_truth(round_truth: RoundTruth, volumes: Path, assignment: pd.DataFrame) -> dict:
    """Compare decoded maps with true ones.

    Per block, the difference between the mean decoded maps with and without the block is compared with the
    block's true map (the consensus alone scores 0). Per state with at least three particles, the mean decoded
    map is compared with the true map of its particles: correlation, and resolution where the FSC falls to
    0.5.

    assignment : volume number of each of the round's particles, in the round's order
    """
    decoded, pixel_size_A = _decoded(volumes, assignment["volume"].unique())
    box = next(iter(decoded.values())).shape[0]
    mask = sphere_mask(box, SPHERE * box / 2, edge_px=2)
    mean_of = _mean_map(decoded, assignment["volume"].to_numpy())
    true = round_truth.truth
    blocks, states = {}, {}
    presence = round_truth.presence
    for block in round_truth.varying():
        difference = mean_of(presence[:, block]) - mean_of(~presence[:, block])
        wanted = _true_mean(round_truth, presence[:, block], box)
        wanted = wanted - _true_mean(round_truth, ~presence[:, block], box)
        blocks[str(true.block_names[block])] = {"difference_cc": correlation(difference, wanted, mask)}
    frequency = shell_frequencies(box, pixel_size_A)
    for state, count in zip(*np.unique(round_truth.state, return_counts=True), strict=True):
        if count < 3:
            continue
        members = round_truth.state == state
        found, wanted = mean_of(members), _true_mean(round_truth, members, box)
        present = true.block_names[true.state_presence[state].astype(bool)]
        curve = fsc(found, wanted, mask)
        states["+".join(map(str, present)) or "core"] = {
            "particles": int(count),
            "cc": correlation(found, wanted, mask),
            "fsc_half_A": resolution_at(curve, frequency, 0.5),
        }
    return {"blocks": blocks, "states": states, "pixel_size_A": pixel_size_A}


def _decoded(folder: Path, numbers: np.ndarray) -> tuple[dict[int, np.ndarray], float]:
    listed = listed_volumes(folder)
    files = dict(zip(listed.numbers, listed.paths, strict=True))
    absent = sorted(set(map(int, numbers)) - set(files))
    if absent:
        raise InputError(
            f"{folder}: no volume {absent[0]}, which assignment.parquet names; choose and decode them again"
        )
    volumes = {int(number): read_listed(files[int(number)]) for number in numbers}
    pixel_size_A = next(iter(volumes.values()))[1]
    return {number: volume for number, (volume, _) in volumes.items()}, pixel_size_A


def _mean_map(decoded: dict[int, np.ndarray], volume_of_particle: np.ndarray):
    numbers = sorted(decoded)
    stack = np.stack([decoded[number] for number in numbers])

    def mean(members: np.ndarray) -> np.ndarray:
        weights = np.bincount(np.searchsorted(numbers, volume_of_particle[members]), minlength=len(numbers))
        return np.tensordot(weights / weights.sum(), stack, axes=1).astype(np.float32)

    return mean


def _true_mean(round_truth: RoundTruth, members: np.ndarray, box: int) -> np.ndarray:
    """Compute the mean true map (d, d, d) of some particles, with the moving block rotated as in each."""
    true = round_truth.truth
    weights = round_truth.presence[members].mean(0)
    volume = true.core_map.astype(np.float32).copy()
    moving = true.moving_block
    if moving >= 0 and weights[moving] > 0:
        has = members & round_truth.presence[:, moving]
        # The angles are spread evenly, so nine of their quantiles represent all.
        angles = np.quantile(round_truth.angle_deg[has], np.linspace(1 / 18, 17 / 18, 9))
        volume += weights[moving] * np.mean([true.moving_map(angle) for angle in angles], axis=0)
        weights = np.where(np.arange(len(weights)) == moving, 0, weights)
    volume = volume + np.tensordot(weights.astype(np.float32), true.block_maps, axes=1)
    if box == volume.shape[0]:
        return volume

    return crop_fourier(torch.as_tensor(volume)[None], box)[0].numpy()
