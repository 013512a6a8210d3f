"""Discrete states of particles: their number, the assignment of particles, and the map of each state.

A mixture of points in the latent space of the linear model is fitted by EM (`latent_states`), its number of
states is cross-validated on held-out tilts (`state_choice`), and the maps are reconstructed from all images
(`state_maps`).
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.fit import LinearModel
from tomohet.linear.inference import Teacher
from tomohet.linear.latent_states import fit_latent_states
from tomohet.linear.likelihood import latent_likelihood
from tomohet.linear.prediction import SplitLikelihood, source_tensor
from tomohet.linear.state_choice import StateChoice, choose_states
from tomohet.linear.state_maps import state_maps
from tomohet.linear.state_merging import states_of_number
from tomohet.particles.same_input import warn_of_other_input
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations

log = logging.getLogger(__name__)

MOST_STATES = 12


@dataclass(frozen=True)
class States:
    """States in order of size, the largest first.

    responsibility : (N, S) probability of each state given a particle's images
    maps : (S, D, D, D) in the units of the store's images
    prior_scale : (S,) prior power of each state's difference relative to the mean map
    choice : how the number of states was determined; None if it was given
    """

    mean: MeanMap
    responsibility: Tensor
    maps: Tensor
    prior_scale: Tensor
    choice: StateChoice | None

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
    linear: LinearModel | Path,
    n_states: int | None = None,
    *,
    most: int = MOST_STATES,
    max_frequency: float = 0.25,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> States:
    """Find the states of particles (ordinals of the store), starting from a linear model of the particles.

    linear : a fitted model, or the output folder of train_linear, whose own `max_frequency` then applies
    n_states : number of states; None takes the number, up to `most`, that held-out tilt images distinguish
        (`state_choice`)

    Raises InputError if the number is to be determined and the folder's model was fitted to other particles.
    """
    split = None
    if isinstance(linear, LinearModel):
        poses, mean, basis = linear.poses, linear.mean, (linear.basis, linear.basis_variance)
        variance, spectrum = linear.local_variance, linear.spectral_variance
        split = linear.held_out.confirmed.leading(len(linear.basis))
    else:
        teacher = Teacher.of(linear, store.box)
        warn_of_other_input(teacher.settings.particles.origin, store.description, linear, store.folder)
        if n_states is None:
            split = teacher.held_out(store, particles, device)
        poses, mean = teacher.poses(store, particles), teacher.mean_map(store, device)
        variance, spectrum = (teacher.state[f"{of}_variance"].to(device) for of in ("local", "spectral"))
        basis = teacher.maps(store, teacher.n_basis)[1].to(device), teacher.basis_variance(store, device)
        max_frequency = teacher.fit.max_frequency
    store, mean = poses.applied(store, particles, mean)
    observations = Observations(store, particles, max_frequency=max_frequency, device=device)
    tables = latent_likelihood(observations, mean, *basis)
    if n_states is None:
        choice, states = choose_states(split, min(most, len(particles)), seed)
        log.info(choice.sentence)
        found = states.log_responsibility(*split.all_images).exp()
        states = fit_latent_states(*tables, found)
    else:
        source = source_tensor(store, particles, device)
        choice, states = None, states_of_number(SplitLikelihood(*tables, *tables, source), n_states, seed)
    responsibility = states.log_responsibility(*tables).exp().float()
    size = torch.bincount(responsibility.argmax(1), minlength=responsibility.shape[1])
    responsibility = responsibility[:, torch.argsort(size, descending=True, stable=True)]
    # The prior: states differ at the voxels and frequencies at which the linear model finds differences.
    where = replace(mean, mask=mean.mask * variance.sqrt(), power=mean.power * spectrum)
    difference, prior_scale = state_maps(observations, where, responsibility)
    return States(mean, responsibility, mean.volume + difference, prior_scale, choice)
