"""Choice of the number of states, and of discrete states or a continuum, on held-out tilts.

The linear model is fitted to the training images (`held_out`). Along its reproducible directions the number
of states is the largest number for which held-out images distinguish every pair (`state_merging`). These
states compete with two continua that use the same basis maps, so only the distribution of the latents
differs: one Gaussian (the linear model itself), and the same states spread out until they meet. The score is
the predictive log-likelihood log p(held-out images | training images), relative to the mean map.
"""

from dataclasses import dataclass

import numpy as np
import torch

from tomohet.linear.latent_states import LatentStates
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.significance import STATES_SE, exceeds
from tomohet.linear.state_merging import merged_states


@dataclass(frozen=True)
class StateChoice:
    """Gain in log-likelihood (nats) of held-out images over the mean map, for each candidate.

    Copies of a particle are added up; N counts particles without their copies.

    states : (N, most) gain of mixtures of 1, 2, ... states
    spread : (N, most) gain of the same states, spread out to their neighbours (`LatentStates.spread_scores`)
    distance : (most,) distance of the least distinguishable pair of 1, 2, ... states, in standard errors;
        infinite for one state
    linear : (N, K) gain of the linear model along the first 1, 2, ... directions
    """

    states: np.ndarray
    spread: np.ndarray
    distance: np.ndarray
    linear: np.ndarray

    @property
    def n_states(self) -> int:
        """The largest number of states for which held-out images distinguish every pair."""
        return 1 + int(np.flatnonzero(self.distance > STATES_SE)[-1])

    @property
    def found(self) -> bool:
        """Whether there are several states, or the linear model predicts better than the mean map."""
        gain = self.continuous
        return self.n_states > 1 or exceeds(gain.sum(), standard_error(gain), STATES_SE)

    @property
    def discrete(self) -> np.ndarray:
        """(N,) gain of the chosen number of states."""
        return self.states[:, self.n_states - 1]

    @property
    def continuous(self) -> np.ndarray:
        """(N,) gain of the better continuum.

        It is either the linear model along the number of directions that predicts best, or the chosen states
        spread out.
        """
        continua = np.column_stack([self.linear, self.spread[:, self.n_states - 1]])
        return continua[:, continua.sum(0).argmax()]

    @property
    def advantage(self) -> float:
        """Gain of discrete states over the continuum, summed over particles (nats)."""
        return float((self.discrete - self.continuous).sum())

    @property
    def error(self) -> float:
        """Standard error of the advantage over particles (nats)."""
        return float(standard_error(self.discrete - self.continuous))

    @property
    def verdict(self) -> str:
        """One of discrete, continuous, undecided, no heterogeneity."""
        if not self.found:
            return "no heterogeneity"
        if abs(self.advantage) < STATES_SE * self.error:
            return "undecided"
        return "discrete" if self.advantage > 0 else "continuous"

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
        if self.verdict == "no heterogeneity":
            return (
                f"no heterogeneity found at this number of particles ({len(self.linear):,}): held-out tilt "
                "images distinguish no two states, and the linear model does not predict them better than "
                f"the mean map (by {STATES_SE:.0f} standard errors)"
            )
        states = f"{self.n_states} state{'s' if self.n_states > 1 else ''}"
        if self.verdict == "undecided":
            better = "the states" if self.advantage >= 0 else "the continuum"
            return (
                f"undecided: held-out tilt images do not tell {states} and a continuum apart ({better} "
                f"better by {abs(self.advantage):.0f} ± {self.error:.0f} nats)"
            )
        if self.verdict == "discrete":
            return (
                f"discrete: {states} predict held-out tilt images better than a continuum "
                f"(by {self.advantage:.0f} ± {self.error:.0f} nats)"
            )
        return (
            f"continuous: a continuum predicts held-out tilt images better than {states} "
            f"(by {-self.advantage:.0f} ± {self.error:.0f} nats)"
        )


def choose_states(split: SplitLikelihood, most: int, seed: int) -> tuple[StateChoice, LatentStates]:
    """Choose at most `most` states along the directions of `split`; compare them with the linear model."""
    n, k = split.b.shape
    if not k:
        alone = LatentStates(split.b.new_ones(1).double(), split.b.new_zeros(1, 0).double(), 0.0)
        nothing = np.zeros((n, 1))
        return StateChoice(nothing, nothing, np.array([np.inf]), np.zeros((n, 0))), alone
    found = [merged for merged in merged_states(split, most, seed) if len(merged.states.share) <= most][::-1]
    used, everything = (split.a, split.b), split.all_images
    discrete, spread = [], []
    for states in (merged.states for merged in found):
        for gains, scores in ((discrete, states.scores), (spread, states.spread_scores)):
            gains.append(states.log_likelihood(scores(*everything)) - states.log_likelihood(scores(*used)))
    linear = [split.leading(directions).gain for directions in range(1, k + 1)]
    gains = (split.of_sources(torch.stack(of, 1)).cpu().numpy() for of in (discrete, spread, linear))
    states, spread, linear = gains
    distance = np.array([merged.least_distance for merged in found])
    choice = StateChoice(states, spread, distance, linear)
    return choice, found[choice.n_states - 1].states


def standard_error(gain: np.ndarray) -> np.ndarray:
    """Return the standard error of the sum over particles (axis 0)."""
    return gain.std(0, ddof=1) * np.sqrt(len(gain))
