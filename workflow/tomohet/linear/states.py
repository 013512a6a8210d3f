"""Discrete states of particles: how many, which particle in which, and the map of each."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.em import likelihood
from tomohet.linear.fit import LinearModel
from tomohet.linear.inference import Teacher
from tomohet.linear.latent_states import fit_latent_states
from tomohet.linear.mixture import refine_states
from tomohet.linear.state_choice import StateChoice, choose_states
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations

log = logging.getLogger(__name__)

MOST_STATES = 8


@dataclass(frozen=True)
class States:
    """States by size, the largest first.

    responsibility (N, S): probability of every state given a particle's images; maps (S, D, D, D) in the
    units of the store's images; prior_scale (S,): prior power of each state's difference relative to the mean
    map's; choice: how the number was found, None where it was given.
    """

    mean: MeanMap
    responsibility: Tensor
    maps: Tensor
    prior_scale: Tensor
    choice: StateChoice | None

    @property
    def state(self) -> Tensor:
        """(N,) the likeliest state of each particle."""
        return self.responsibility.argmax(1)

    @property
    def sizes(self) -> Tensor:
        """(S,) particles in each state."""
        return torch.bincount(self.state, minlength=len(self.maps))


def fit_states(
    store: Store,
    particles: np.ndarray,
    linear: LinearModel | Path,
    n_states: int | None = None,
    *,
    most: int = MOST_STATES,
    iterations: int = 5,
    max_frequency: float = 0.25,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> States:
    """Find the states of particles (ordinals of the store), starting from a linear model of them.

    linear: a fitted model, or the output folder of train_linear, whose own `iterations` and `max_frequency`
    then count. n_states: None takes as many, of 1 to `most`, as predict held-out tilt images
    (`state_choice`).
    """
    if isinstance(linear, LinearModel):
        mean, basis, variance = linear.mean, linear.basis, linear.local_variance
    else:
        teacher = Teacher.of(linear, store.box)
        mean, basis = teacher.mean_map(store, device), teacher.maps(store, teacher.n_basis)[1].to(device)
        variance, fit = teacher.state["local_variance"].to(device), teacher.config["training_args"]
        iterations, max_frequency = fit["iterations"], fit["max_frequency"]
    choice = None
    if n_states is None:
        choice = choose_states(
            store, particles, zdim=min(len(basis), len(particles) - 1), most=min(most, len(particles)),
            iterations=iterations, max_frequency=max_frequency, seed=seed, device=device,
        )  # fmt: skip
        n_states = choice.n_states
        log.info(choice.sentence)
    observations = Observations(store, particles, max_frequency=max_frequency, device=device)
    tables = likelihood(observations, mean, basis)
    start = fit_latent_states(*tables, n_states, seed).log_responsibility(*tables).exp()
    # States differ where the linear model has found that particles differ.
    where = replace(mean, mask=mean.mask * variance.sqrt())
    mixture = refine_states(observations, where, start.float())
    order = torch.argsort(
        torch.bincount(mixture.responsibility.argmax(1), minlength=n_states), descending=True, stable=True
    )
    return States(
        mean=mean,
        responsibility=mixture.responsibility[:, order],
        maps=mean.volume + mixture.difference[order],
        prior_scale=mixture.prior_scale[order],
        choice=choice,
    )
