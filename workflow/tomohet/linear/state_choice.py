"""States or a continuum, and how many states? Tilt images that were not used decide.

The linear model has been fitted without every third tilt image of each particle (`held_out`). Along the
directions that those confirm there are as many states as they tell from each other, every two
(`state_merging`). These points compete with two continua, with the same maps, so that what differs is the
distribution alone: one Gaussian, the linear model itself, and the states spread out until they meet. Images
used say where a particle is; what that says of the others is compared with what the mean map says.
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
    """How much better than by the mean map held-out images are predicted, log likelihood in nats, of all
    copies of a particle together (N particles without their copies).

    states (N, most): each particle's by 1, 2, ... states; spread (N, most): by these states, if each fills
    the space to its neighbour (`LatentStates.spread_scores`); distance (most,): of the two of these states
    which held-out images confirm least, in standard errors, infinite of one state; linear (N, K): by the
    linear model along the first 1, 2, ... directions.
    """

    states: np.ndarray
    spread: np.ndarray
    distance: np.ndarray
    linear: np.ndarray

    @property
    def n_states(self) -> int:
        """The largest number of states of which held-out images tell every two from each other."""
        return 1 + int(np.flatnonzero(self.distance > STATES_SE)[-1])

    @property
    def found(self) -> bool:
        """Whether there are states, or the linear model predicts better than the mean map."""
        gain = self.continuous
        return self.n_states > 1 or exceeds(gain.sum(), standard_error(gain), STATES_SE)

    @property
    def discrete(self) -> np.ndarray:
        """(N,) gain of the chosen number of states."""
        return self.states[:, self.n_states - 1]

    @property
    def continuous(self) -> np.ndarray:
        """(N,) gain of the better continuum: of the linear model along as many directions as predict best, or
        of the chosen states spread out."""
        continua = np.column_stack([self.linear, self.spread[:, self.n_states - 1]])
        return continua[:, continua.sum(0).argmax()]

    @property
    def advantage(self) -> float:
        """Of states over the continuum, all particles together (nats)."""
        return float((self.discrete - self.continuous).sum())

    @property
    def error(self) -> float:
        """Standard error of the advantage over particles (nats)."""
        return float(standard_error(self.discrete - self.continuous))

    @property
    def verdict(self) -> str:
        """discrete, continuous, undecided or no heterogeneity."""
        if not self.found:
            return "no heterogeneity"
        if abs(self.advantage) < STATES_SE * self.error:
            return "undecided"
        return "discrete" if self.advantage > 0 else "continuous"

    @property
    def sentence(self) -> str:
        """The verdict for people."""
        if self.verdict == "no heterogeneity":
            return (
                f"no heterogeneity found at this number of particles ({len(self.linear):,}): held-out tilt "
                "images tell no two states apart, nor does the linear model predict them better than the "
                f"mean map (by {STATES_SE:.0f} standard errors)"
            )
        states = f"{self.n_states} state{'s' if self.n_states > 1 else ''}"
        if self.verdict == "undecided":
            return (
                f"undecided: {states} and a continuum predict held-out tilt images alike "
                f"(states better by {self.advantage:.0f} ± {self.error:.0f} nats)"
            )
        if self.verdict == "discrete":
            return (
                f"discrete: {states} predict held-out tilt images better than a continuum does "
                f"(by {self.advantage:.0f} ± {self.error:.0f} nats)"
            )
        return (
            f"continuous: a continuum predicts held-out tilt images better than {states} "
            f"(by {-self.advantage:.0f} ± {self.error:.0f} nats)"
        )


def choose_states(split: SplitLikelihood, most: int, seed: int) -> tuple[StateChoice, LatentStates]:
    """At most `most` states along the directions of `split`, and how they compare with the linear model."""
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
    """Of the sum over particles (axis 0)."""
    return gain.std(0, ddof=1) * np.sqrt(len(gain))
