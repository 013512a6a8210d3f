"""Gains on held-out tilt images, epoch by epoch: table, figure, verdicts on network and convergence.

Columns of the table, which has a row for each epoch that was judged (`training.judging`):

- epoch;
- share_of_network: factor on the network's contribution to the volumes;
- share_of_latents: factor on the weights by which latents enter the network;
- gain_of_decoder, gain_of_latents: how many nats better the held-out images are predicted with the network's
  volumes, or with its latents, than with those of the linear model; latents are judged less often;
- change_of_decoder, error_of_change: change of gain_of_decoder since the last judgement, on the same
  particles;
- fall_since_best, error_of_fall: how far gain_of_decoder lies below the best judgement before, on the same
  particles; negative where it is the new best;
- error_of_decoder, error_of_latents: standard errors of the gains over particles. Where a sample judged, gain
  and error are estimates for all particles.

A network without a linear model (`training.untaught`) has no shares and no gain_of_latents. Its
gain_of_decoder is that of the particles' own volumes over one volume for all, the decoder's at the mean
latent; `particles` is the number of particles that judge. misfit_of_volumes is the misfit, in nats, of the
particles' own volumes; it counts images up to max_frequency, in cycles/px.
"""

from pathlib import Path

import pandas as pd

from tomohet.answers import Answer, sentence, stated
from tomohet.files.atomic import write_csv, write_json
from tomohet.files.digests import sealed
from tomohet.linear.significance import ADOPTED_SE, BETTER_SE, exceeds

SETTLED = 0.05  # growth in the last quarter of the epochs, as a fraction of the gain
LEAST_JUDGEMENTS = 3  # before there is a verdict
# Gain per particle at which a network without a linear model has learnt something. 0.05 nats of a tenth of
# the tilts are half a nat of all: less than tells two classes apart with an AUC of 0.8. The standard errors
# are for many judgements on the plateau before.
LEARNT_NATS, LEARNT_SE = 0.05, 3.0
WITHOUT_GAIN = 6  # judgements before a network is said to add nothing to the linear model
FALLEN = 2  # judgements at least, and all of the last quarter, that lie below the best for overfitting
FALLEN_SE = 1.0  # by which each of them does; their mean does so by BETTER_SE


def verdict(table: pd.DataFrame) -> str:
    """Summarise the last judgement of decoder and latents in `table` in one sentence."""
    last = table.iloc[-1]
    if not _is_taught(table):
        return _of_particles(last)
    return f"{_of_decoder(last)}; {_of_latents(judged(table, 'latents'))}"


def judge_held_out(table: pd.DataFrame) -> tuple[str, str, int]:
    """Judge a training by its gains on held-out tilt images.

    Means over quarters of the epochs are compared, because single epochs scatter by the noise of the
    optimiser's steps. Where the gain approaches its limit exponentially, 4 % of it are missing when it grows
    by `SETTLED`. A gain is an explained variance: that is 2 % of the volumes' correlation with the truth. The
    margin is for slower approaches (calibration: tests/benchmarks/bench_convergence.py). The growth has to be
    known as well as that: where its error is larger, the held-out images are too few to tell.

    Returns the verdict, the reason, and the epoch that predicts the held-out images best.
    """
    shown = judged(table, "decoder")
    best = int(shown["gain"].argmax())
    best_epoch = int(shown["epoch"].iloc[best])
    few = "too few epochs to judge"
    if "change_of_decoder" not in table:
        return few, "held-out tilt images judged no change of the network", best_epoch
    if len(shown) < LEAST_JUDGEMENTS:
        return few, f"held-out tilt images judged the network {len(shown)} times", best_epoch
    last = shown.iloc[-1]
    if not _is_taught(table) and not _has_learnt(table.iloc[best]):
        reason = f"gain over one volume for all particles: {_nats(last['gain'], last['error'])}"
        return "nothing learnt", reason, best_epoch
    fall, error = falls_since_best(table)
    late = slice(-max(FALLEN, int((_share_done(shown) > 0.75).sum())), None)
    if _has_fallen(fall, error, late):
        lost = _nats(fall.iloc[late].mean(), error.iloc[late].mean())
        reason = f"the gain on held-out tilt images has fallen by {lost} since epoch {best_epoch}"
        return "overfitting", reason, best_epoch
    found = exceeds(last["gain"], last["error"], BETTER_SE)
    growth, error = late_growth(table)
    if not found and not exceeds(growth, error, BETTER_SE):
        reason = "the network predicts held-out tilt images no better than the linear model"
        return ("converged" if len(shown) >= WITHOUT_GAIN else few), reason, best_epoch
    share, unsure = growth / max(last["gain"], 1e-30), error / max(last["gain"], 1e-30)
    grew = f"{'fell' if share < 0 else 'grew'} by {100 * abs(share):.0f} ± {100 * unsure:.0f} %"
    text = f"the gain on held-out tilt images {grew} in the last quarter of the epochs"
    if share >= SETTLED:
        return "still changing", text, best_epoch
    return ("converged" if max(share, 0) + unsure < SETTLED else "too few images to judge"), text, best_epoch


def preferred_epochs(table: pd.DataFrame) -> list[int]:
    """List the epochs to use rather than the last one, in this order; [] where the last is to be used.

    A network that starts from the linear model infers its latents seldom, last of all at the end, so that
    its last epoch has the best latents: only overfitting prefers another one. Of any other network, an epoch
    is preferred that knows the differences between particles as well as the last one, and has better volumes.
    """
    text, _, best = judge_held_out(table)
    overfits = text == "overfitting"
    if "misfit_of_volumes" not in table or text == "nothing learnt":
        return [best] if overfits else []
    at = table["epoch"] == best if overfits else table["epoch"] == table["epoch"].iloc[-1]
    return _sorted_by_volumes(table, table[at].iloc[0])


def _sorted_by_volumes(table: pd.DataFrame, row: pd.Series) -> list[int]:
    """List the epochs that know the differences as well as that of `row`, those with the best volumes first.

    The gain tells how well an epoch knows the differences between particles: it may lie below that of `row`
    by `SETTLED`. The misfit tells how well its volumes predict the held-out images. The steps of the
    optimiser move the common structure, and so the misfit, but hardly the gain. Images count up to the same
    frequency.
    """
    as_well = table["gain_of_decoder"] >= row["gain_of_decoder"] - SETTLED * abs(row["gain_of_decoder"])
    found = table[as_well & (table["max_frequency"] == row["max_frequency"])]
    return found.sort_values("misfit_of_volumes", kind="stable")["epoch"].astype(int).tolist()


def falls_since_best(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return by how much each judgement after the best lies below it, with standard errors, in nats."""
    after = table.iloc[int(table["gain_of_decoder"].argmax()) + 1 :]
    after = after.reindex(columns=["fall_since_best", "error_of_fall"]).dropna()
    return after["fall_since_best"], after["error_of_fall"]


def _has_fallen(fall: pd.Series, error: pd.Series, late: slice) -> bool:
    """Tell whether all late judgements lie below the best one, and their mean does so significantly."""
    if len(fall) < -late.start:
        return False
    each = (fall.iloc[late] > FALLEN_SE * error.iloc[late]).all()
    return bool(each and fall.iloc[late].mean() > BETTER_SE * error.iloc[late].mean())


def late_growth(table: pd.DataFrame) -> tuple[float, float]:
    """Compute the growth of the decoder's gain from the third to the last quarter of the epochs, in nats.

    Where no judgement lies in the third quarter, the last one before it counts. The second number is the
    standard error of the change between the last two judgements, as an upper limit for that of the growth.
    """
    shown = judged(table, "decoder")
    done = _share_done(shown)
    late, before = shown["gain"][done > 0.75], shown["gain"][(done > 0.5) & (done <= 0.75)]
    before = before if len(before) else shown["gain"][done <= 0.75].iloc[-1:]
    before = before if len(before) else shown["gain"].iloc[:1]
    return float(late.mean() - before.mean()), float(table["error_of_change"].iloc[-1])


def reason_to_end(history: list[dict]) -> str:
    """Say why a training with these judgements may end; "" where it should go on."""
    text, reason, _ = judge_held_out(pd.DataFrame(history))
    return f"{text}: {reason}" if text in ("converged", "overfitting") else ""


def judged(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return epoch, gain and error of the epochs after which `what` (decoder or latents) was judged."""
    columns = {"epoch": "epoch", f"gain_of_{what}": "gain", f"error_of_{what}": "error"}
    return table.reindex(columns=list(columns)).rename(columns=columns).dropna()


def write_held_out(folder: Path, history: list[dict], ended: str = "") -> str:
    """Write held_out.csv, and summary.json with the verdict; return the verdict.

    ended : why the training ended before its last epoch, for the summary; "" if it did not
    """
    table = pd.DataFrame(history)
    with sealed(folder / "held_out.csv"):
        write_csv(folder / "held_out.csv", table)
    text = verdict(table)
    end = {"ended": ended} if ended else {}
    write_json(folder / "summary.json", {"verdict": text} | end | stated([network_answer(table)]))
    return text


def network_answer(table: pd.DataFrame) -> Answer:
    """Say whether the network predicts held-out tilt images better than what it is compared with."""
    last = table.iloc[-1]
    better = exceeds(last["gain_of_decoder"], last["error_of_decoder"], BETTER_SE)
    said = _of_decoder(last) if _is_taught(table) else _of_particles(last)
    return Answer("Network", "good" if better else "fact", sentence(said))


def write_held_out_figure(folder: Path, history: list[dict], file_type: str) -> None:
    """Plot the gains of decoder and latents over epochs into `held_out.<file type>`."""
    from tomohet.plots import figure, save

    table = pd.DataFrame(history)
    fig, axes = figure()
    axes.axhline(0, color="0.6", linewidth=0.8)
    for what, label in (("decoder", "the network's volumes"), ("latents", "its latents")):
        shown = judged(table, what)
        if len(shown):
            style = {"marker": "o", "markersize": 3, "capsize": 2}
            axes.errorbar(shown["epoch"], shown["gain"], shown["error"], label=label, **style)
    axes.set(title=f"Gain over {compared_with(table)} on held-out tilts")
    axes.set(xlabel="epoch", ylabel="gain (nats ± standard error)")
    axes.legend()
    save(fig, folder / f"held_out.{file_type}")


def compared_with(table: pd.DataFrame) -> str:
    """Name what the gains of `table` are over."""
    return "the linear model" if _is_taught(table) else "one volume for all particles"


def _is_taught(table: pd.DataFrame) -> bool:
    return "share_of_network" in table


def _share_done(shown: pd.DataFrame) -> pd.Series:
    """Compute what share of the epochs was done at each judgement."""
    return (shown["epoch"] + 1) / (shown["epoch"].iloc[-1] + 1)


def _has_learnt(row: pd.Series) -> bool:
    """Tell whether a network without a linear model tells particles apart."""
    gain, error = row["gain_of_decoder"], row["error_of_decoder"]
    return exceeds(gain, error, LEARNT_SE) and gain > LEARNT_NATS * row["particles"]


def _of_particles(last: pd.Series) -> str:
    gain, error = last["gain_of_decoder"], last["error_of_decoder"]
    better = "better" if exceeds(gain, error, BETTER_SE) else "not significantly better"
    return (
        f"the particles' own volumes predict held-out tilt images {better} than one volume for all "
        f"particles (by {_nats(gain, error)})"
    )


def _of_decoder(last: pd.Series) -> str:
    gain, error, share = last["gain_of_decoder"], last["error_of_decoder"], last["share_of_network"]
    subject = "the network's volumes predict held-out tilt images"
    if exceeds(gain, error, BETTER_SE):
        return f"{subject} better than the linear model's (by {_nats(gain, error)})"
    scaled = f"the network's contribution was scaled by {share:.2g}"
    return f"{subject} not significantly better than the linear model's ({_nats(gain, error)}); {scaled}"


def _of_latents(tested: pd.DataFrame) -> str:
    if tested.empty:
        return "latents are the linear model's, because the network's were not tested"
    gain, error = tested[["gain", "error"]].iloc[-1]
    if exceeds(gain, error, ADOPTED_SE):
        return f"latents are the network's, which predict these images better (by {_nats(gain, error)})"
    not_better = f"not significantly better ({_nats(gain, error)})"
    return f"latents are the linear model's, because the network's predict these images {not_better}"


def _nats(gain: float, error: float) -> str:
    return f"{gain:.0f} ± {error:.0f} nats"
