"""From many states to those that tilt images confirm which were not used.

There are more states at first than are wanted. Images used say which particle is in which; those held out say
whether two states differ: on the line through both, where do the particles of one lie, where those of the
other? Noise that made two states out of one is not in the images held out, by which both then lie in the
same place. The two that are confirmed least become one, and so on, one pair after the other.

Particle p in state s, at m_s, tells by its held-out images A', b' of the line from m_t with d = m_s - m_t:
x = d (b' - A' m_t), with information i = d A' d; its place is x / i, of variance 1 / i, and that of all
particles of s is Y_st = sum x / sum i. The distance of s and t over its standard error,

    (Y_st + Y_ts - 1) / sqrt(f (1 / sum_s i + 1 / sum_t i)),

follows N(0, 1) where they are the same. f is how much more than by noise particles of a state differ from
each other, chi^2 / (n_s + n_t - 2), but at least 1. Copies of one particle (`particles.copies`) share their
noise: 1 / sum i grows by what their residuals x - i Y have in common, sum_source (sum r)^2 / sum r^2.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tomohet.linear.latent_states import LatentStates, fit_latent_states, k_means_states
from tomohet.linear.prediction import SplitLikelihood, summed_copies

# How many times as many states there are at first.
CROWD = 2


@dataclass(frozen=True)
class MergedStates:
    """states, and distance (S, S) of every two by held-out images, in standard errors; infinite of a state
    from itself, minus infinite where a state has no particle."""

    states: LatentStates
    distance: Tensor

    @property
    def least_distance(self) -> float:
        """That of the two which are confirmed least, at least 0."""
        return max(self.distance.min().item(), 0.0)


def merged_states(split: SplitLikelihood, most: int, seed: int) -> Iterator[MergedStates]:
    """From CROWD times `most` states, or as many as there are particles, down to one."""
    crowd = min(CROWD * most, len(split.b))
    states = k_means_states(split.a, split.b, crowd, seed)
    while True:
        known = states.log_responsibility(split.a, split.b).exp()
        found = MergedStates(states, held_out_distance(states.point, known.argmax(1), split))
        yield found
        if len(states.share) == 1:
            return
        one, other = divmod(found.distance.argmin().item(), len(known.T))
        known[:, one] += known[:, other]
        known = torch.cat([known[:, :other], known[:, other + 1 :]], dim=1)
        states = fit_latent_states(split.a, split.b, known)


def states_of_number(split: SplitLikelihood, n_states: int, seed: int) -> LatentStates:
    """So many states, of which those became one that are told apart least."""
    return next(
        found.states for found in merged_states(split, n_states, seed) if len(found.states.share) == n_states
    )


def held_out_distance(point: Tensor, label: Tensor, split: SplitLikelihood) -> Tensor:
    """(S, S) distances of states at `point` (S, K), in standard errors; label (N,): each particle's state."""
    n_states = len(point)
    information, seen, squares = point.new_zeros(3, n_states, n_states)
    shared = torch.ones_like(information)
    for state in range(n_states):
        its = label == state
        precision, projection = split.new_a[its].double().flatten(1), split.new_b[its].double()
        line = point[state] - point
        i = precision @ (line[:, :, None] * line[:, None, :]).flatten(1).T
        x = projection @ line.T - precision @ (line[:, :, None] * point[:, None, :]).flatten(1).T
        information[state], seen[state] = i.sum(0), x.sum(0)
        squares[state] = (x.square() / i.clamp_min(torch.finfo(i.dtype).tiny)).sum(0)
        if split.source is not None and its.any():
            left = x - i * (seen[state] / information[state]).nan_to_num()
            together = summed_copies(left, split.source[its]).square().sum(0)
            shared[state] = (together / left.square().sum(0)).nan_to_num(nan=1.0).clamp_min(1)
    place = seen / information
    chi_square = squares - seen * place
    count = torch.bincount(label, minlength=n_states)
    freedom = (count[:, None] + count - 2).clamp_min(1)
    excess = ((chi_square + chi_square.T) / freedom).clamp_min(1)
    own = shared / information
    variance = excess * (own + own.T)
    distance = ((place + place.T - 1) / variance.sqrt()).nan_to_num(nan=-torch.inf)
    return distance.fill_diagonal_(torch.inf)
