"""How sure the number of states is, and how alike independent particles are sorted.

The number of states is found again in bootstraps of the particles: N particles are drawn from the N with
replacement, and `state_choice` counts the states that their held-out images distinguish. Copies of a particle
in a bootstrap share their noise, which `SplitLikelihood.source` accounts for. Labels are compared between
disjoint halves of the particles: each half finds its own states, and both sort all particles. The adjusted
Rand index of the two labels is 1 if they agree and 0 for chance (Hubert & Arabie 1985, J. Classif. 2:193).

Bootstraps do not show states that the images cannot resolve. Where single particles are assigned with doubt,
the number is therefore a lower bound.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score

from tomohet.linear.latent_states import LatentStates
from tomohet.linear.prediction import SplitLikelihood
from tomohet.linear.state_choice import StateChoice, choose_states

MOST_BOOTSTRAPS, LEAST_BOOTSTRAPS, HALVINGS = 20, 6, 3
PARTICLES_IN_ALL = 40_000  # particles of all bootstraps together, unless the least number needs more
COVERED = 0.9  # share of the bootstraps within the range
# Mean probability of a particle's state below which the number is a lower bound. In simulations it is 0.96 or
# more where the number is right, and below 0.95 where states were missed (bench_number_of_states.py).
CERTAIN = 0.95


@dataclass(frozen=True)
class StateStability:
    """Numbers of states in bootstraps, and agreement of halves.

    number : of states in all particles
    numbers : (B,) of states in each bootstrap
    agreement : (H,) adjusted Rand index of the labels that two halves of the particles give to all particles
    most : number of states that were tried at most
    certainty : mean over particles of the probability of the state to which a particle is assigned
    """

    number: int
    numbers: np.ndarray
    agreement: np.ndarray
    most: int
    certainty: float

    @property
    def lower_bound(self) -> bool:
        """Whether there may be more states: no more were tried, or particles are assigned with doubt."""
        return self.number == self.most or self.doubtful

    @property
    def doubtful(self) -> bool:
        """Whether particles are assigned with so much doubt that finer states would be missed."""
        return self.number > 1 and self.certainty < CERTAIN

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest number in the middle 90 % of the bootstraps; the number itself lies within."""
        outside = (1 - COVERED) / 2
        low, high = np.quantile(self.numbers, [outside, 1 - outside], method="nearest")
        return min(int(low), self.number), max(int(high), self.number)

    @property
    def sentence(self) -> str:
        """The number, and the agreement of the halves."""
        text = f"{self.number} state{'s' if self.number > 1 else ''}"
        if self.number == self.most:
            text = f"{text} or more: the most that were tried"
        elif self.doubtful:
            text = (
                f"{text} or more: finer states would be missed, because particles are assigned with a mean "
                f"probability of only {self.certainty:.2f}"
            )
        if self.number == 1:
            return text
        index = np.median(self.agreement)
        return f"{text}; states found in either half of the particles agree (adjusted Rand index {index:.2f})"

    @property
    def sure(self) -> str:
        """The range of the number in a few words."""
        low, high = self.range
        between = f"{low} to {high}" if low < high else f"{low}"
        if self.lower_bound:
            between = f"{low} or more"
        return f"{between} in {100 * COVERED:.0f} % of bootstraps"


def state_stability(
    split: SplitLikelihood, choice: StateChoice, states: LatentStates, most: int, seed: int
) -> StateStability:
    """Find the states again in bootstraps and in halves of the particles of `split`.

    choice, states : of all particles
    most : number of states that are tried at most
    """
    n, k = split.b.shape
    rng = np.random.default_rng(seed)
    source = torch.arange(n, device=split.b.device) if split.source is None else split.source
    n_sources = int(source.max()) + 1
    certainty = states.log_responsibility(*split.all_images).exp().amax(1).mean().item()
    if not k or n_sources < 4:
        return StateStability(choice.n_states, np.array([choice.n_states]), np.ones(1), most, certainty)
    members = _members(source.cpu().numpy(), n_sources)
    numbers = []
    for _ in range(int(np.clip(PARTICLES_IN_ALL // n, LEAST_BOOTSTRAPS, MOST_BOOTSTRAPS))):
        rows = np.concatenate([members[one] for one in rng.integers(n_sources, size=n_sources)])
        found, _ = choose_states(_rows(split, source, rows), min(most, len(rows)), seed)
        numbers.append(found.n_states)
    agreement = [_halves_agree(split, source, members, most, seed, rng) for _ in range(HALVINGS)]
    return StateStability(choice.n_states, np.array(numbers), np.array(agreement), most, certainty)


def _halves_agree(
    split: SplitLikelihood,
    source: torch.Tensor,
    members: list[np.ndarray],
    most: int,
    seed: int,
    rng: np.random.Generator,
) -> float:
    """Return the adjusted Rand index of all particles' labels by the states of two random halves."""
    order = rng.permutation(len(members))
    labels = []
    for half in np.array_split(order, 2):
        rows = np.concatenate([members[one] for one in half])
        _, states = choose_states(_rows(split, source, rows), min(most, len(rows)), seed)
        labels.append(states.log_responsibility(*split.all_images).argmax(1).cpu().numpy())
    return float(adjusted_rand_score(*labels))


def _members(source: np.ndarray, n_sources: int) -> list[np.ndarray]:
    """Return the rows of each source; several where a particle has copies."""
    order = np.argsort(source, kind="stable")
    return np.split(order, np.searchsorted(source[order], np.arange(1, n_sources)))


def _rows(split: SplitLikelihood, source: torch.Tensor, rows: np.ndarray) -> SplitLikelihood:
    """Return the likelihoods of `rows`, which may repeat, with their sources numbered from 0."""
    at = torch.as_tensor(rows, device=split.b.device)
    _, numbered = torch.unique(source[at], return_inverse=True)
    return SplitLikelihood(split.a[at], split.b[at], split.new_a[at], split.new_b[at], numbered)
