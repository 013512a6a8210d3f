"""States or a continuum, and how many states? Whatever predicts tilt images that were not used.

The linear model has been fitted without every third tilt image of each particle (`held_out`). In the space of
the directions that it has kept, one Gaussian, the linear model itself, competes with 1, 2, ... points
(`latent_states`): with the same maps, so that what differs is the distribution alone. Images used say which
state a particle is in; what that says of the others is compared with what the mean map says.
"""

from dataclasses import dataclass

import numpy as np
import torch

from tomohet.linear.latent_states import fit_latent_states
from tomohet.linear.prediction import SplitLikelihood

NEGLIGIBLE, SIGNIFICANT = 2.0, 3.0  # standard errors


@dataclass(frozen=True)
class StateChoice:
    """How much better than by the mean map held-out images are predicted, log likelihood in nats.

    states (N, most): each particle's by 1, 2, ... states; linear (N, K): by the linear model with the first
    1, 2, ... of its basis maps.
    """

    states: np.ndarray
    linear: np.ndarray

    @property
    def n_states(self) -> int:
        """The smallest number of states that is not worse than the best beyond NEGLIGIBLE standard errors.

        The error is that of the difference, particle by particle: one that no additional state concerns is
        predicted as before and adds nothing to it, so that a state of few particles is judged by those few.
        """
        best = self.states.sum(0).argmax()
        loss = self.states[:, [best]] - self.states
        return 1 + int(np.flatnonzero(loss.sum(0) <= NEGLIGIBLE * standard_error(loss))[0])

    @property
    def found(self) -> bool:
        """Whether states or the linear model predict better than the mean map alone, beyond chance."""
        gains = (self.discrete, self.continuous)
        return any(gain.sum() > SIGNIFICANT * standard_error(gain) for gain in gains)

    @property
    def discrete(self) -> np.ndarray:
        """(N,) gain of the chosen number of states."""
        return self.states[:, self.n_states - 1]

    @property
    def continuous(self) -> np.ndarray:
        """(N,) gain of the linear model with as many basis maps as predict best."""
        return self.linear[:, self.linear.sum(0).argmax()]

    @property
    def advantage(self) -> float:
        """Of states over the linear model, all particles together (nats)."""
        return float((self.discrete - self.continuous).sum())

    @property
    def error(self) -> float:
        """Standard error of the advantage over particles (nats)."""
        return float(standard_error(self.discrete - self.continuous))

    @property
    def verdict(self) -> str:
        """discrete, continuous or no heterogeneity."""
        if not self.found:
            return "no heterogeneity"
        return "discrete" if self.advantage > 0 else "continuous"

    @property
    def sentence(self) -> str:
        """The verdict for people."""
        if self.verdict == "no heterogeneity":
            return (
                f"no heterogeneity found at this number of particles ({len(self.linear):,}): neither states "
                "nor the linear model predict held-out tilt images better than the mean map beyond chance"
            )
        states = f"{self.n_states} state{'s' if self.n_states > 1 else ''}"
        if self.verdict == "discrete":
            return (
                f"discrete: {states} predict held-out tilt images better than the continuous linear model "
                f"(by {self.advantage:.0f} ± {self.error:.0f} nats)"
            )
        return (
            f"continuous: the linear model predicts held-out tilt images better than {states} "
            f"(by {-self.advantage:.0f} ± {self.error:.0f} nats)"
        )


def choose_states(split: SplitLikelihood, most: int, seed: int) -> StateChoice:
    """Compare 1 ... `most` states and the linear model with the first 1, 2, ... latents of `split`."""
    gains = []
    for n_states in range(1, most + 1):
        states = fit_latent_states(split.a, split.b, n_states, seed)
        known = states.log_responsibility(split.a, split.b)
        gains.append(torch.logsumexp(known + states.scores(split.new_a, split.new_b), dim=1))
    linear = [split.leading(k).gain for k in range(1, split.b.shape[1] + 1)]
    return StateChoice(torch.stack(gains, 1).cpu().numpy(), torch.stack(linear, 1).cpu().numpy())


def standard_error(gain: np.ndarray) -> np.ndarray:
    """Of the sum over particles (axis 0)."""
    return gain.std(0, ddof=1) * np.sqrt(len(gain))
