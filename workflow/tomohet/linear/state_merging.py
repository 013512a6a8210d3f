"""Merging of an over-segmented mixture until held-out tilts distinguish every pair of states.

Training images assign the particles to more states than wanted. Held-out images then measure where the
particles of two states lie on the line through both states. Two states that noise has split from one lie in
the same place, because that noise is absent from the held-out images. The least distinguishable pair is
merged repeatedly.

Consider the line from m_t to m_s, with d = m_s - m_t. The held-out images A', b' of particle p in state s
give x = d (b' - A' m_t), with the information i = d A' d. The particle's position on the line is x / i with
variance 1 / i, and the position of all particles of s is Y_st = sum x / sum i. The distance of s and t in
standard errors,

    (Y_st + Y_ts - 1) / sqrt(f (1 / sum_s i + 1 / sum_t i)),

follows N(0, 1) if the states are the same. The factor f >= 1 is the variance of the particles within the
states relative to the noise, chi^2 / (n_s + n_t - 2). Copies of one particle (`particles.copies`) share their
noise. 1 / sum i is therefore multiplied by sum_source (sum r)^2 / sum r^2 of their residuals r = x - i Y.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tomohet.linear.latent_states import LatentStates, fit_latent_states, k_means_states
from tomohet.linear.prediction import SplitLikelihood, summed_copies

# Over-segmentation factor of the initial mixture.
CROWD = 2


@dataclass(frozen=True)
class MergedStates:
    """States, and their pairwise distances on held-out images.

    states : the mixture
    distance : (S, S) in standard errors; infinite on the diagonal, minus infinite for a state without
        particles
    """

    states: LatentStates
    distance: Tensor

    @property
    def least_distance(self) -> float:
        """Distance of the least distinguishable pair, at least 0."""
        return max(self.distance.min().item(), 0.0)


def merged_states(split: SplitLikelihood, most: int, seed: int) -> Iterator[MergedStates]:
    """Yield mixtures from CROWD times `most` states (or the number of particles) down to one state."""
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
    """Merge the least distinguishable pairs until `n_states` remain."""
    return next(
        found.states for found in merged_states(split, n_states, seed) if len(found.states.share) == n_states
    )


def held_out_distance(point: Tensor, label: Tensor, split: SplitLikelihood) -> Tensor:
    """Return the (S, S) distances of states on held-out images, in standard errors.

    point : (S, K) latents of the states
    label : (N,) state of each particle
    """
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
