"""The verdict on convergence: numbers compared with thresholds, and the reasons in words."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.analysis.volume_drift import VolumeDrift
from tomohet.answers import Answer, Level, Step
from tomohet.linear.significance import BETTER_SE, exceeds
from tomohet.training.held_out import judged, still_to_come

# Changes are judged between the last two epochs that are compared.
LOSS_PLATEAU = 0.05  # change over the last quarter of the epochs, as a fraction of the whole range
SMALL_SHIFT = 0.25  # median movement of a latent relative to the mean movement, over the latents' rms spread
STABLE_NEIGHBOURS = 0.5  # fraction of nearest neighbours kept
STABLE_CLUSTERS = 0.8  # adjusted Rand index of k-means labels
STABLE_VOLUMES = 0.95  # median correlation of representative volumes
NYQUIST_FALL = 0.1  # decrease of the FSC at Nyquist while volumes correlate: the network learns noise
ALIKE = 0.999  # median correlation between representatives: their volumes are not different
SETTLED = 0.05  # fraction of the gain on held-out tilt images that is still to come
ACTIVE_VARIANCE = 0.01  # variance of a latent's mean below which the latent is unused (Burda et al. 2016)


@dataclass(frozen=True)
class Verdict:
    """`text`: one of `ANSWERS`; reasons and numbers."""

    text: str
    reasons: list[str]
    warnings: list[str]
    metrics: dict[str, float | int | None]


ANSWERS: dict[str, tuple[Level, str]] = {
    "converged": ("good", "The training of the network has converged."),
    "still changing": ("look", "The last epochs still changed the network."),
    "too few epochs to judge": ("look", "The training has too few epochs to judge its convergence."),
    "overfitting": ("look", "The last epochs made the prediction of held-out tilt images worse."),
    "collapsed": ("bad", "The latents have collapsed: they do not tell particles apart."),
}


def convergence_answer(verdict: str, epoch: int, best: int | None = None) -> Answer:
    """Return the answer of the convergence check of a training up to `epoch` (counted from 0).

    best : epoch that predicts held-out tilt images best
    """
    level, text = ANSWERS[verdict]
    steps: tuple[Step, ...] = ()
    if verdict in ("still changing", "too few epochs to judge"):
        longer = f"train: {{epochs: {2 * (epoch + 1)}}}" if epoch >= 0 else ""
        steps = (Step("Train longer, and look at the convergence again.", longer),)
    if verdict == "overfitting" and best is not None:
        shorter = f"train: {{epochs: {best + 1}}}"
        steps = (Step(f"Stop after epoch {best}, which predicted held-out tilt images best.", shorter),)
    return Answer("Convergence", level, text, steps)


def judge_held_out(table: pd.DataFrame) -> tuple[str, str, int]:
    """Judge a warm-started training by its gains on held-out tilt images (`training.held_out`).

    Returns the verdict, the reason, and the epoch that predicts the held-out images best.
    """
    shown = judged(table, "decoder")
    best = int(shown["epoch"].iloc[shown["gain"].argmax()])
    last = table.iloc[-1]
    if len(shown) < 2 or "change_of_decoder" not in table:
        return "too few epochs to judge", "held-out tilt images judged the network once only", best
    change, error = last["change_of_decoder"], last["error_of_change"]
    gain, coming = shown["gain"].iloc[-1], still_to_come(table)
    changed = f"changed by {change:.0f} ± {error:.0f} nats since the judgement before"
    measured = f"the gain on held-out tilt images {changed}"
    if exceeds(-change, error, BETTER_SE):
        return "overfitting", f"{measured}: it was largest after epoch {best}", best
    if not exceeds(change, error, BETTER_SE):
        return "converged", f"{measured}: no more than chance", best
    share = coming / max(gain, 1e-30)
    text = f"{measured}; about {100 * share:.0f} % of the whole are still to come"
    return ("converged" if share < SETTLED else "still changing"), text, best


def judge(
    z: np.ndarray,
    losses: pd.DataFrame | None,
    moved: pd.DataFrame,
    stable: pd.DataFrame,
    volumes: VolumeDrift | None,
    held_out: pd.DataFrame | None = None,
) -> Verdict:
    """Judge the training from its last latents z (n, zdim), loss curves and the changes between epochs.

    held_out : gains on held-out tilt images of a training that starts from the linear model. They decide; the
        changes of loss, latents and volumes are reasons beside.
    """
    metrics: dict[str, float | int | None] = {
        "active_dimensions": int((z.var(axis=0, dtype=np.float64) > ACTIVE_VARIANCE).sum())
    }
    passed: list[bool] = []
    reasons: list[str] = []

    def test(ok: bool, good: str, bad: str) -> None:
        passed.append(ok)
        reasons.append(good if ok else bad)

    if losses is not None and len(losses) >= 3:
        metrics["loss_change"] = change = late_change(losses["total"].to_numpy())
        text = f"the loss changed by {100 * change:.1f} % of its range over the last quarter of the epochs"
        test(change < LOSS_PLATEAU, f"{text}: a plateau", f"{text}: not yet a plateau")
    if len(moved):
        metrics["latent_shift"] = shift = float(moved["relative"].iloc[-1])
        text = (
            f"latents moved against each other by {100 * shift:.0f} % of their spread between the last epochs"
        )
        test(shift < SMALL_SHIFT, f"{text}: little", f"{text}: much")
    if len(stable):
        last = stable.iloc[-1]
        metrics["neighbours_kept"], metrics["ari"] = float(last["neighbours"]), float(last["ari"])
        text = (
            f"{100 * last['neighbours']:.0f} % of neighbours kept, Rand index of clusters {last['ari']:.2f}"
        )
        ok = last["ari"] >= STABLE_CLUSTERS or last["neighbours"] >= STABLE_NEIGHBOURS
        test(ok, f"{text}: the same particles stay together", f"{text}: groups still re-form")
    warnings: list[str] = []
    if volumes is not None:
        warnings += volume_warnings(volumes)
        if volumes.cc.shape[1]:
            metrics["volume_cc"] = cc = float(np.median(volumes.cc[:, -1]))
            text = f"volumes of representative particles correlate by {cc:.3f} (median) between epochs"
            test(cc >= STABLE_VOLUMES, f"{text}: the same maps", f"{text}: maps still change")
    if held_out is not None:
        text, reason, metrics["best_epoch"] = judge_held_out(held_out)
        return Verdict(text, [reason, *reasons], warnings, metrics)
    if metrics["active_dimensions"] == 0:
        reasons.insert(
            0, "no latent dimension is used: all particles have the same latent (posterior collapse)"
        )
        return Verdict("collapsed", reasons, warnings, metrics)
    if not len(moved):
        reasons.insert(0, "latents of fewer than two epochs exist")
        return Verdict("too few epochs to judge", reasons, warnings, metrics)
    return Verdict("converged" if all(passed) else "still changing", reasons, warnings, metrics)


def late_change(total: np.ndarray) -> float:
    """Compute the change of a loss curve over its last quarter, as a fraction of its range."""
    quarter = max(1, len(total) // 4)
    return float(abs(total[-1] - total[-1 - quarter]) / max(np.ptp(total), 1e-30))


def volume_warnings(volumes: VolumeDrift) -> list[str]:
    """List signs of overfitting, and of structures that are not distinguished."""
    found = []
    if volumes.fsc.shape[1] >= 2:
        nyquist = np.median(volumes.fsc[:, :, -1], axis=0)
        fall = nyquist.max() - nyquist[-1]
        if fall > NYQUIST_FALL and np.median(volumes.cc[:, -1]) >= STABLE_VOLUMES:
            found.append(
                f"the FSC at Nyquist fell by {fall:.2f} while the maps stay alike: noise is being learned; "
                "look at an earlier epoch"
            )
    last = volumes.pairwise[-1]
    if len(last) > 1:
        between = float(np.median(last[np.triu_indices(len(last), 1)]))
        if between > ALIKE:
            found.append(
                f"representative volumes correlate by {between:.4f} with each other: no heterogeneity is seen"
            )
    return found
