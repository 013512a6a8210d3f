"""What a procedure has found of a simulation's states, and what the oracle finds, who knows all maps."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_accuracy import decoded_maps, difference_cc
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict

from tomohet.files.mrc import read_volume
from tomohet.files.pickles import load_latents
from tomohet.particles.store import open_store
from tomohet.simulation.assessment import FOLDS, RoundTruth, auc, latents_against_truth, read_out
from tomohet.simulation.oracle import infer
from tomohet.simulation.truth import load_truth

ORACLE_ANGLES = 25
RESTARTS = 10
RIDGE = {"alpha": [0.01, 0.1, 1.0, 10.0], "gamma": [0.03, 0.1, 0.3, 1.0]}


@dataclass(frozen=True)
class Found:
    """latents (n, zdim); labels (n,) of states, None where the procedure names none; maps (n, D, D, D)."""

    latents: np.ndarray
    labels: np.ndarray | None
    maps: np.ndarray


def read_found(run: Path) -> Found:
    """From a training's folder, or from that of `states`: latents are the states' probabilities there, what
    the likeliest leaves shared by the others."""
    if not (run / "z.train.pkl").is_file():
        table = pd.read_parquet(run / "particles.parquet").sort_values("particle")
        numbers, labels = np.unique(table["state"], return_inverse=True)
        maps = np.stack([read_volume(run / f"state_{number}.mrc")[0] for number in numbers])
        likeliest = table["state_probability"].to_numpy()[:, None]
        others = (1 - likeliest) / max(1, len(numbers) - 1)
        return Found(
            np.where(np.eye(len(numbers), dtype=bool)[labels], likeliest, others), labels, maps[labels]
        )
    latents, _ = load_latents(run / "z.train.pkl")
    return Found(latents, None, decoded_maps(run, latents))


def truth_of(place: Path) -> RoundTruth:
    """The truth of a data set, in the order of its store's particles."""
    truth = load_truth(place / "simulated" / "truth.npz")
    return RoundTruth(truth, truth.rows_of(open_store(place / "prepared").particles["source_id"].to_numpy()))


def scores(run: Path, place: Path) -> dict:
    """All scores of a run; those per block are mappings from the blocks' names."""
    found, truth = read_found(run), truth_of(place)
    result = latent_scores(found.latents, truth)
    if blocks := truth.varying():
        names, maps = truth.truth.block_names, truth.truth.block_maps
        result["difference_cc"] = {
            str(names[block]): difference_cc(found.maps, truth.presence[:, block], truth.presence, maps)
            for block in blocks
        }
        result |= _rand_indices(found, truth.state)
    if found.labels is not None:
        result["n_states"] = int(found.labels.max()) + 1
    summary = run / "summary.json"
    verdict = json.loads(summary.read_text()) if summary.is_file() else {}
    if "heterogeneity_found" in verdict:
        result |= {"found": float(verdict["heterogeneity_found"]), "p_value": verdict["held_out_p_value"]}
        result["components"] = len(verdict["held_out_reliability"]) if verdict["heterogeneity_found"] else 0
    if "pose_errors" in verdict:
        result |= {name: verdict["pose_errors"][name] for name in ("rotation_deg", "shift_A")}
    if "kind" in verdict:
        result |= {kind: float(verdict["kind"] == kind) for kind in ("discrete", "continuous")}
    return result


def latent_scores(latents: np.ndarray, truth: RoundTruth) -> dict:
    """AUC of the varying blocks and |rho| (Spearman) of the angle: of the best single latent, of a read-out.

    Read-outs are cross-validated: linear for blocks, kernel ridge for the angle, of which R² is by a linear
    one as well. Their sign counts: a fit to
    latents that say nothing predicts worse than chance, as each fold leans away from what it lacks.
    """
    result = {}
    for block in truth.varying():
        has, name = truth.presence[:, block], str(truth.truth.block_names[block])
        result.setdefault("auc_single", {})[name] = max(auc(has, column) for column in latents.T)
        result.setdefault("auc_read_out", {})[name] = float(roc_auc_score(has, read_out(latents, has, 0)))
    if truth.truth.moving_block >= 0:
        angle, first = truth.angle_deg, PCA(1, random_state=0).fit_transform(latents)[:, 0]
        result["rho_single"] = max(abs(rank_correlation(column, angle)) for column in latents.T)
        result["rho_pc1"] = abs(rank_correlation(first, angle))
        result["rho_read_out"] = rank_correlation(smooth_read_out(latents, angle), angle)
        result["angle_r2"] = latents_against_truth(truth, latents)["angle_r2"]
    return result


def smooth_read_out(latents: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Prediction of `target` (n,) by kernel ridge, each particle by a fit without it.

    Latents keep their relative spreads: one that says nothing has little. Width and penalty are chosen by
    cross-validation within the fit.
    """
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    x, y = latents / max(latents.std(), 1e-12), (target - target.mean()) / target.std()
    return cross_val_predict(GridSearchCV(KernelRidge(kernel="rbf"), RIDGE, cv=folds), x, y, cv=folds)


def oracle_scores(place: Path, poses_known: bool = True) -> dict:
    """The same of the oracle: AUC of its odds, Rand index of its most probable states, its mean angle.

    poses_known: whether it takes the stated poses for right, or integrates their errors out.
    """
    truth = truth_of(place)
    moves = truth.truth.moving_block >= 0
    n_angles = ORACLE_ANGLES if moves else 1
    best = infer(open_store(place / "prepared"), truth.truth, n_angles=n_angles, poses_known=poses_known)
    result = {}
    for block in truth.varying():
        value = float(roc_auc_score(truth.presence[:, block], best.log_odds[:, block]))
        for kind in ("auc_single", "auc_read_out"):
            result.setdefault(kind, {})[str(truth.truth.block_names[block])] = value
    if result:
        result["ari_own"] = float(adjusted_rand_score(truth.state, best.state))
    if moves:
        rho = rank_correlation(best.angle_deg, truth.angle_deg)
        result |= {"rho_single": rho, "rho_read_out": rho}
        result["angle_r2"] = float(np.corrcoef(best.angle_deg, truth.angle_deg)[0, 1] ** 2)
    return result


def _rand_indices(found: Found, state: np.ndarray) -> dict:
    """Adjusted Rand indices of the procedure's own labels or of as many clusters of its latents as states."""
    if found.labels is not None:
        return {"ari_own": float(adjusted_rand_score(state, found.labels))}
    count = len(np.unique(state))
    kmeans = KMeans(count, n_init=RESTARTS, random_state=0)
    mixture = GaussianMixture(count, covariance_type="tied", n_init=RESTARTS, random_state=0)
    return {
        "ari_kmeans": float(adjusted_rand_score(state, kmeans.fit_predict(found.latents))),
        "ari_gmm": float(adjusted_rand_score(state, mixture.fit_predict(found.latents))),
    }


def rank_correlation(values: np.ndarray, angle: np.ndarray) -> float:
    """Spearman's rho; 0 of values that are all the same."""
    return 0.0 if np.ptp(values) == 0 else float(spearmanr(values, angle)[0])
