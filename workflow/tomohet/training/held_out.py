"""Gains over the linear model on held-out tilt images, epoch by epoch: table, figure and verdict.

Columns of the table, which has a row for each epoch that was judged (`training.judging`):

- epoch;
- share_of_network: factor on the network's contribution to the volumes;
- share_of_latents: factor on the weights by which latents enter the network;
- gain_of_decoder, gain_of_latents: how many nats better the held-out images are predicted with the network's
  volumes, or with its latents, than with those of the linear model; latents are judged less often;
- change_of_decoder, error_of_change: change of gain_of_decoder since the last judgement, on the same
  particles;
- error_of_decoder, error_of_latents: standard errors of the gains over particles. Where a sample judged, gain
  and error are estimates for all particles.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.answers import Answer, sentence, stated
from tomohet.files.atomic import write_csv, write_json
from tomohet.files.digests import sealed
from tomohet.linear.significance import ADOPTED_SE, BETTER_SE, exceeds

SLOWEST_FALL = 0.95  # largest ratio of one epoch's gain to that of the epoch before in an extrapolation


def verdict(table: pd.DataFrame) -> str:
    """Summarise the last judgement of decoder and latents in `table` in one sentence."""
    last = table.iloc[-1]
    return f"{_of_decoder(last)}; {_of_latents(judged(table, 'latents'))}"


def judged(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return epoch, gain and error of the epochs after which `what` (decoder or latents) was judged."""
    columns = {"epoch": "epoch", f"gain_of_{what}": "gain", f"error_of_{what}": "error"}
    return table.reindex(columns=list(columns)).rename(columns=columns).dropna()


def still_to_come(table: pd.DataFrame) -> float:
    """Extrapolate how many nats the decoder will still gain, from the last two changes of its gain.

    The gain of an epoch is taken to fall geometrically. The first judgement's gain is the change since the
    start.
    """
    shown = judged(table, "decoder")
    epochs = np.diff(shown["epoch"].to_numpy(float), prepend=-1.0)
    change = np.diff(shown["gain"].to_numpy(float), prepend=0.0)
    if len(change) < 2 or change[-1] <= 0:
        return 0.0
    before, last = change[-2:] / epochs[-2:]
    fall = (last / max(before, last)) ** (1 / epochs[-2:].mean())  # from one epoch to the next
    of_interval = min(fall, SLOWEST_FALL) ** epochs[-1]
    return float(change[-1] * of_interval / (1 - of_interval))


def write_held_out(folder: Path, history: list[dict]) -> str:
    """Write held_out.csv, and summary.json with the verdict; return the verdict."""
    table = pd.DataFrame(history)
    with sealed(folder / "held_out.csv"):
        write_csv(folder / "held_out.csv", table)
    text = verdict(table)
    write_json(folder / "summary.json", {"verdict": text} | stated([network_answer(table)]))
    return text


def network_answer(table: pd.DataFrame) -> Answer:
    """Say whether the network's volumes predict held-out tilt images better than the linear model's."""
    last = table.iloc[-1]
    better = exceeds(last["gain_of_decoder"], last["error_of_decoder"], BETTER_SE)
    return Answer("Network", "good" if better else "fact", sentence(_of_decoder(last)))


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
    axes.set(title="Gain over the linear model on held-out tilts")
    axes.set(xlabel="epoch", ylabel="gain (nats ± standard error)")
    axes.legend()
    save(fig, folder / f"held_out.{file_type}")


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
