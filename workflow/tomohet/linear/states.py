"""Discrete states of particles: their number, the assignment of particles, and the map of each state.

A mixture of points in the latent space of the linear model is fitted by EM (`latent_states`), its number of
states is cross-validated on held-out tilts (`state_choice`), and the maps are reconstructed from all images
(`state_maps`).
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.fitted_maps import FittedMaps
from tomohet.linear.latent_states import fit_latent_states
from tomohet.linear.likelihood import latent_likelihood
from tomohet.linear.poses import PoseEstimates
from tomohet.linear.prediction import SplitLikelihood, source_tensor
from tomohet.linear.state_choice import StateChoice, choose_states
from tomohet.linear.state_maps import state_maps
from tomohet.linear.state_merging import states_of_number
from tomohet.linear.state_stability import StateStability, state_stability
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap

log = logging.getLogger(__name__)

MOST_STATES = 12


@dataclass(frozen=True)
class States:
    """States in order of size, the largest first.

    responsibility : (N, S) probability of each state given a particle's images
    maps : (S, D, D, D) in the units of the store's images
    prior_scale : (S,) prior power of each state's difference relative to the mean map
    choice : how the number of states was determined; None if it was given
    stability : how sure that number is; None if it was given
    """

    mean: MeanMap
    responsibility: Tensor
    maps: Tensor
    prior_scale: Tensor
    choice: StateChoice | None
    stability: StateStability | None = None

    @property
    def state(self) -> Tensor:
        """(N,) most probable state of each particle."""
        return self.responsibility.argmax(1)

    @property
    def sizes(self) -> Tensor:
        """(S,) number of particles in each state."""
        return torch.bincount(self.state, minlength=len(self.maps))


def fit_states(
    store: Store,
    particles: np.ndarray,
    maps: FittedMaps,
    poses: PoseEstimates,
    split: SplitLikelihood | None,
    n_states: int | None = None,
    *,
    most: int = MOST_STATES,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> States:
    """Find the states of particles (ordinals of the store), starting from a linear model of the particles.

    maps, poses : of the linear model
    split : likelihood of the particles' training and held-out images along its reproducible directions; not
        used if the number of states is given
    n_states : number of states; None takes the number, up to `most`, that held-out tilt images distinguish
        (`state_choice`)
    """
    maps = maps.for_store(store, device)
    store, mean = poses.applied(store, particles, maps.mean)
    observations = maps.observations(store, particles)
    tables = latent_likelihood(observations, mean, maps.basis, maps.basis_variance)
    if n_states is None:
        most = min(most, len(particles))
        choice, states = choose_states(split, most, seed)
        log.info(choice.sentence)
        stability = state_stability(split, choice, states, most, seed)
        log.info(stability.sentence)
        found = states.log_responsibility(*split.all_images).exp()
        states = fit_latent_states(*tables, found)
    else:
        source = source_tensor(store, particles, device)
        choice = stability = None
        states = states_of_number(SplitLikelihood(*tables, *tables, source), n_states, seed)
    responsibility = states.log_responsibility(*tables).exp().float()
    size = torch.bincount(responsibility.argmax(1), minlength=responsibility.shape[1])
    responsibility = responsibility[:, torch.argsort(size, descending=True, stable=True)]
    # The prior: states differ at the voxels and frequencies at which the linear model finds differences.
    mask, power = mean.mask * maps.local_variance.sqrt(), mean.power * maps.spectral_variance
    difference, prior_scale = state_maps(observations, replace(mean, mask=mask, power=power), responsibility)
    return States(mean, responsibility, mean.volume + difference, prior_scale, choice, stability)
