"""Output folder of `states`: a table, a map for each state, numbers and figures."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from tomohet import plots
from tomohet.answers import stated
from tomohet.files.atomic import write_json, write_parquet
from tomohet.files.mrc import write_volume
from tomohet.linear.answers import state_answers
from tomohet.linear.significance import STATES_SE
from tomohet.linear.state_choice import StateChoice, standard_error
from tomohet.linear.state_stability import COVERED, StateStability
from tomohet.linear.states import States
from tomohet.particles.store import Store


def write_states(
    outdir: Path, store: Store, particles: np.ndarray, states: States, plot_format: str = "png"
) -> None:
    """Write state_<n>.mrc, the figures, summary.json and, last, particles.parquet.

    n counts from 0, the largest state.
    """
    for number, volume in enumerate(states.maps.cpu().numpy()):
        write_volume(outdir / f"state_{number}.mrc", volume * store.scale, store.pixel_size_A)
    _figure(states, outdir / f"states.{plot_format}")
    _slices(states, outdir / f"maps.{plot_format}")
    numbers = summary(states)
    write_json(outdir / "summary.json", numbers | stated(state_answers(numbers)))
    write_parquet(outdir / "particles.parquet", table(particles, states))


def table(particles: np.ndarray, states: States) -> pd.DataFrame:
    """Return the columns particle (ordinal in the store), state (0 is the largest) and state_probability."""
    return pd.DataFrame(
        {
            "particle": np.asarray(particles, np.int64),
            "state": states.state.cpu().numpy().astype(np.int32),
            "state_probability": states.responsibility.amax(1).cpu().numpy(),
        }
    )


def summary(states: States) -> dict:
    """Return numbers for the report; gains are log-likelihoods of held-out images over the mean map, nats."""
    choice = states.choice
    numbers = {
        "n_particles": len(states.responsibility),
        "n_states": len(states.maps),
        "sizes": states.sizes.cpu().numpy(),
        "mean_state_probability": states.responsibility.amax(1).mean().item(),
        "prior_scale": states.prior_scale.cpu().numpy(),
    }
    if choice is None:
        return numbers
    return (
        numbers
        | {
            "verdict": choice.sentence,
            "kind": choice.verdict,
            # Gains of 1, 2, ... states, and of the linear model along 1, 2, ... directions.
            "held_out_gain_states": choice.states.sum(0),
            "held_out_gain_spread_states": choice.spread.sum(0),
            "held_out_gain_linear": choice.linear.sum(0),
            # Distance of the least distinguishable pair of 2, 3, ... states, in standard errors.
            "least_distance_of_states": choice.distance[1:],
            "advantage_of_states": choice.advantage,
            "standard_error_of_advantage": choice.error,
            "n_components": choice.linear.shape[1],
        }
        | stability_numbers(states.stability)
    )


def stability_numbers(stability: StateStability | None) -> dict:
    """Return how sure the number of states is; {} where it is not known."""
    if stability is None:
        return {}
    return {
        "number_of_states": stability.sentence,
        "number_of_states_sure": stability.sure,
        "n_states_range": stability.range,
        "n_states_is_lower_bound": stability.lower_bound,
        "finer_states_missed": stability.doubtful,
        "n_states_in_bootstraps": stability.numbers,
        "agreement_of_halves": stability.agreement,
    }


def _figure(states: States, path: Path) -> None:
    compared = states.choice is not None and len(states.choice.distance) > 1
    figure, axes = plots.figure(1, 3 if compared else 1, squeeze=False)
    sizes = states.sizes.cpu().numpy()
    axes[0, 0].bar(range(len(sizes)), sizes, color=plots.PALETTE[0])
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0, 0].set(title=f"States of {sizes.sum():,} particles", xlabel="state", ylabel="particles")
    if compared:
        _distances(axes[0, 1], states.choice)
        if states.stability is not None:
            low, high = states.stability.range
            beyond = states.stability.lower_bound
            axes[0, 1].axvspan(
                low - 0.2,
                (states.stability.most if beyond else high) + 0.2,
                color="0.9",
                zorder=0,
                label=f"in {100 * COVERED:.0f} % of bootstraps{', or more' if beyond else ''}",
            )
            axes[0, 1].legend(fontsize=7)
        _gains(axes[0, 2], states.choice)
    plots.save(figure, path)


def _distances(axis, choice: StateChoice) -> None:
    """Plot the distance of the least distinguishable pair against the number of states."""
    axis.plot(range(2, len(choice.distance) + 1), choice.distance[1:], marker="o", markersize=4)
    axis.axhline(STATES_SE, color="0.6", linewidth=0.8, label="needed")
    axis.set_yscale("symlog", linthresh=STATES_SE)
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.set_ylim(bottom=0)
    axis.set(title="Least distinguishable pair, held-out tilts", ylabel="distance (standard errors)")
    _against_their_number(axis, choice)


def _gains(axis, choice: StateChoice) -> None:
    """Plot the held-out gain of the states and of the continua against the number of states."""
    numbers, error = range(1, len(choice.distance) + 1), standard_error(choice.states)
    axis.errorbar(
        numbers, choice.states.sum(0), error, marker="o", markersize=4, capsize=2, label="discrete states"
    )
    axis.plot(numbers, choice.spread.sum(0), color=plots.PALETTE[2], label="states, spread out (continuous)")
    axis.axhline(choice.linear.sum(0).max(), color=plots.PALETTE[1], label="linear model (continuous)")
    axis.set(title="Prediction of held-out tilts", ylabel="log likelihood over the mean map (nats)")
    _against_their_number(axis, choice)


def _against_their_number(axis, choice: StateChoice) -> None:
    axis.axvline(choice.n_states, color="0.6", linewidth=0.8, linestyle="--", label="chosen")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("states")
    axis.legend(fontsize=7)


def _slices(states: States, path: Path) -> None:
    mean = states.mean.volume
    maps = [mean, *(states.maps - mean)]
    names = ["mean map"] + [f"state {n} ({size:,})" for n, size in enumerate(states.sizes.tolist())]
    figure = plots.slices_montage(
        [volume.cpu().numpy() for volume in maps],
        names,
        "Mean map, and difference of each state (number of particles)",
        own_scale=True,
        diverging=True,
    )
    plots.save(figure, path)
