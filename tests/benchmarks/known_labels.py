"""How well can any method that must learn its maps from these particles tell two states apart?

The difference map is fitted to particles whose state is given, as an M-step of the linear model with its own
priors, and tells the state of the others. Where this is below the oracle, who knows the maps, it is the
number of particles that limits, not how the states were found.
"""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from tomohet.linear.basis_maps import FIRST_PRIOR_SCALE, SHARE_OF_POWER, fit_basis
from tomohet.linear.em import first_equations
from tomohet.linear.likelihood import likelihood
from tomohet.linear.locality import local_variance
from tomohet.linear.prior_power import shell_scales
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap, mean_map
from tomohet.reconstruction.observations import Observations

FOLDS, ROUNDS, MAX_FREQUENCY = 5, 6, 0.25


def auc_with_known_labels(store: Store, present: np.ndarray) -> float:
    """Cross-validated AUC of the two states (n_particles,) bool."""
    everyone = np.arange(len(store.particles))
    mean = mean_map(observed(store, everyone))
    found = np.zeros(len(everyone))
    for known, other in KFold(FOLDS, shuffle=True, random_state=0).split(everyone):
        basis = difference_map(store, known, present[known], mean)
        a, b = likelihood(observed(store, other), mean, basis)
        found[other] = (b / (a[:, 0] + 1))[:, 0]
    return float(roc_auc_score(present, found))


def difference_map(store: Store, particles: np.ndarray, present: np.ndarray, mean: MeanMap) -> torch.Tensor:
    """(1, D, D, D): what differs between the particles in which the block is present and the others."""
    observations = observed(store, particles)
    z = torch.as_tensor((present - present.mean()) / present.std(), dtype=torch.float32)[:, None]
    equations = first_equations(observations, mean, z)
    precision = equations.precision(len(mean.power))
    scales = torch.full((1, len(mean.power)), FIRST_PRIOR_SCALE)
    local = torch.ones_like(mean.volume)[None]
    smoothing_px = store.box / (2 * (observations.n_shells - 1))
    for _ in range(ROUNDS):
        basis = fit_basis(equations, mean, scales, local)
        scales = SHARE_OF_POWER * shell_scales(basis, mean, precision, scales, local)
        local = local_variance(basis, mean, scales, precision, local, smoothing_px)
    return basis


def observed(store: Store, particles: np.ndarray) -> Observations:
    """The images of particles, as the linear model takes them."""
    return Observations(store, particles, max_frequency=MAX_FREQUENCY)
