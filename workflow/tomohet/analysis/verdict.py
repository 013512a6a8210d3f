"""The verdict on convergence: which epoch to use, and whether to train longer.

Held-out tilt images decide where a training has judged itself by them (`training.held_out`). Where it has
not, latents and volumes must be stable between the last two epochs that are compared. The loss does
not decide: it falls while the network learns noise, and rests on a plateau before the network has learnt to
tell particles apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.analysis.run_folder import FINAL
from tomohet.analysis.volume_drift import VolumeDrift, power_beyond
from tomohet.answers import Answer, Level, Step
from tomohet.training.held_out import judge_held_out, preferred_epochs

SMALL_SHIFT = 0.25  # median movement of a latent relative to the mean movement, over the latents' rms spread
STABLE_NEIGHBOURS = 0.5  # fraction of nearest neighbours kept
STABLE_CLUSTERS = 0.8  # adjusted Rand index of k-means labels
STABLE_DIFFERENCES = 0.9  # median correlation of representative volumes' differences from their mean
NYQUIST_FALL = 0.1  # decrease of the FSC at Nyquist while volumes correlate: the network learns noise
POWER_GROWTH = 1.5  # of the power beyond the half maps' resolution, likewise
STABLE_VOLUMES = 0.95  # median correlation of representative volumes, of the same maps
ALIKE = 0.999  # median correlation between representatives: their volumes are not different
ACTIVE_VARIANCE = 0.01  # variance of a latent's mean below which the latent is unused (Burda et al. 2016)


@dataclass(frozen=True)
class Verdict:
    """`text`: one of `ANSWERS`; reasons and numbers.

    best : epoch that predicts held-out tilt images best, None where none were held out
    preferred : epochs to use rather than the last one (`held_out.preferred_epochs`)
    """

    text: str
    reasons: list[str]
    warnings: list[str]
    metrics: dict[str, float | int | None]
    best: int | None = None
    preferred: Sequence[int] = ()


ANSWERS: dict[str, tuple[Level, str]] = {
    "converged": ("good", "The training of the network has converged; {used}."),
    "still changing": ("look", "The training of the network has not converged yet; {used}."),
    "too few images to judge": (
        "look",
        "The held-out tilt images are too few to tell whether the network's training has converged; {used}.",
    ),
    "too few epochs to judge": ("look", "The training has too few epochs to judge its convergence; {used}."),
    "overfitting": ("look", "The network overfits{since}; {used}."),
    "nothing learnt": (
        "look",
        "The network does not tell particles apart yet: their latents do not predict held-out tilt images.",
    ),
    "collapsed": ("bad", "The latents have collapsed: they do not tell particles apart."),
}
# Said where no tilt images were held out (`tests/benchmarks/README.md`: Convergence).
NOT_CALIBRATED = (
    " No tilt images were held out: latents and volumes decide, by limits that no simulation has confirmed."
)
LONGER = ("still changing", "too few epochs to judge", "too few images to judge", "nothing learnt")


def convergence_answer(verdict: str, epoch: int, best: int | None = None, used: int | None = None) -> Answer:
    """Return the answer of the convergence check of a training up to `epoch` (counted from 0).

    best : epoch that predicts held-out tilt images best, None where none were held out
    used : epoch chosen for the analysis, `epoch` if None; FINAL for the files without a number
    """
    level, text = ANSWERS[verdict]
    used = epoch if used is None else used
    name = "the final epoch is used" if used == FINAL else f"epoch {used} is used"
    steps: tuple[Step, ...] = ()
    if verdict in LONGER:
        until = "" if best is None else ", until: converged"  # which takes held-out images
        more = f"train: {{epochs: {2 * (epoch + 1)}{until}}}" if epoch >= 0 else ""
        action = "Continue the training, and look at the convergence again."
        if verdict == "too few images to judge":
            action = "Train for longer to be safe: only more particles can tell whether it is needed."
        steps = (Step(action, more),)
    if verdict == "overfitting" and best is not None:
        shorter = f"train: {{epochs: {best + 1}}}"
        steps = (Step(f"Stop after epoch {best}, which predicted held-out tilt images best.", shorter),)
    since = "" if best is None else f" since epoch {best}"
    said = text.format(used=name, since=since)
    if best is None and verdict in ("converged", "still changing"):
        said += NOT_CALIBRATED
    return Answer("Convergence", level, said, steps)


def epoch_to_use(preferred: Sequence[int], known: list[int], last: int) -> int:
    """Choose the epoch to analyse: the first preferred one of the epochs `known`, which have latents.

    Where none of them has latents, the known epoch nearest to the first counts; where none is preferred, the
    last.
    """
    if not preferred:
        return last
    kept = [epoch for epoch in preferred if epoch in known]
    return kept[0] if kept else min(known, key=lambda epoch: (abs(epoch - preferred[0]), epoch))


def judge(
    z: np.ndarray,
    losses: pd.DataFrame | None,
    moved: pd.DataFrame,
    stable: pd.DataFrame,
    volumes: VolumeDrift | None,
    held_out: pd.DataFrame | None = None,
    resolution_A: float | None = None,
) -> Verdict:
    """Judge the training from its last latents z (n, zdim), loss curves and the changes between epochs.

    held_out : gains on held-out tilt images. They decide; the changes of latents and volumes are reasons
        beside.
    resolution_A : of the half maps of the same particles, beyond which the volumes hold no signal
    """
    metrics: dict[str, float | int | None] = {
        "active_dimensions": int((z.var(axis=0, dtype=np.float64) > ACTIVE_VARIANCE).sum())
    }
    passed: list[bool] = []
    reasons: list[str] = []

    def test(ok: bool, good: str, bad: str) -> None:
        passed.append(ok)
        reasons.append(good if ok else bad)

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
        warnings += volume_warnings(volumes, resolution_A)
        if volumes.cc.shape[1]:
            metrics["volume_cc"] = float(np.median(volumes.cc[:, -1]))
            metrics["difference_cc"] = cc = float(np.median(volumes.differences[:, -1]))
            text = (
                f"differences of representative volumes from their mean correlate by {cc:.2f} between epochs"
            )
            test(cc >= STABLE_DIFFERENCES, f"{text}: the same maps", f"{text}: maps still change")
    if losses is not None and len(losses) >= 3:
        metrics["loss_change"] = change = late_change(losses["total"].to_numpy())
        reasons.append(
            f"the loss changed by {100 * change:.1f} % of its range over the last quarter of the epochs, "
            "which does not decide"
        )
    if held_out is not None:
        text, reason, best = judge_held_out(held_out)
        metrics["best_epoch"] = best
        preferred = preferred_epochs(held_out)
        if preferred and preferred[0] not in (best, held_out["epoch"].iloc[-1]):
            reasons.append(f"the volumes of epoch {preferred[0]} predict held-out tilt images best")
        return Verdict(text, [reason, *reasons], warnings, metrics, best, preferred)
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


def volume_warnings(volumes: VolumeDrift, resolution_A: float | None = None) -> list[str]:
    """List signs of overfitting, and of structures that are not distinguished."""
    found = []
    same = volumes.cc.shape[1] > 0 and np.median(volumes.cc[:, -1]) >= STABLE_VOLUMES
    if volumes.fsc.shape[1] >= 2:
        nyquist = np.median(volumes.fsc[:, :, -1], axis=0)
        fall = nyquist.max() - nyquist[-1]
        if fall > NYQUIST_FALL and same:
            found.append(
                f"the FSC at Nyquist fell by {fall:.2f} while the maps stay alike: noise is being learned; "
                "look at an earlier epoch"
            )
    if resolution_A is not None and same:
        beyond = power_beyond(volumes, resolution_A)
        growth = beyond[-1] / max(beyond[:-1].min(), 1e-30)
        if growth > POWER_GROWTH:
            found.append(
                f"the volumes' power beyond {resolution_A:.1f} Å, the resolution of the half maps, grew "
                f"{growth:.1f}-fold while the maps stay alike: noise is being learned; look at an earlier "
                "epoch"
            )
    last = volumes.pairwise[-1]
    if len(last) > 1:
        between = float(np.median(last[np.triu_indices(len(last), 1)]))
        if between > ALIKE:
            found.append(
                f"representative volumes correlate by {between:.4f} with each other: no heterogeneity is seen"
            )
    return found
