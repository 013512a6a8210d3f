"""Poses of particles, corrected in closed form as the linear model sees them (`reconstruction.pose_errors`)."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from tomohet.linear.basis_maps import Fitted
from tomohet.linear.em import expectation, likelihood
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.pose_errors import (
    LEAST_GAIN,
    N_TANGENTS,
    PoseErrors,
    composed,
    corrected,
    prior_deviation,
    tangents,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Poses:
    """store: with the poses as corrected so far; particles: ordinals in it; offset (N, 6): by how much each of
    their poses has been corrected: rotation vector (rad) and shift (px), in the frame of the corrected pose."""

    store: Store
    particles: np.ndarray
    offset: np.ndarray

    @classmethod
    def stated(cls, store: Store, particles: np.ndarray) -> "Poses":
        """The poses that the input states."""
        return cls(store, particles, np.zeros((len(particles), N_TANGENTS)))

    def moved(self, error: np.ndarray) -> "Poses":
        """Poses corrected by errors (N, 6) that are left."""
        of_all = np.zeros((len(self.store.particles), N_TANGENTS))
        of_all[self.particles] = error
        owner = self.store.images["particle"].to_numpy()
        poses = corrected(self.store.rotations(), of_all[owner])
        return replace(self, store=self.store.with_poses(*poses), offset=composed(self.offset, error))

    def errors_about(self, mean: MeanMap, observations: Observations) -> MeanMap:
        """The mean map with errors of the poses about it, as large as they are if all particles are alike; as it
        is, where poses are right as far as images tell."""
        maps = tangents(mean.volume)
        processes, count = observations.processes, len(observations.everyone)
        own = torch.as_tensor(self.offset[processes.part(count)], dtype=maps.dtype, device=maps.device)
        tables = (
            processes.joined_parts(table, count)
            for table in (*likelihood(observations, replace(mean, errors=None), maps), own)
        )
        deviation, gain = prior_deviation(*tables)
        if gain < LEAST_GAIN:
            return mean
        errors = PoseErrors(maps, deviation, own)
        log.info("were all particles alike: %s", errors.sentence)
        return replace(mean, errors=errors)

    def errors_left(self, fitted: Fitted, observations: Observations) -> np.ndarray:
        """Posterior mean (N, 6) of the errors of the observed poses under a fitted model."""
        processes, count = observations.processes, len(observations.everyone)
        observations = observations.alike(observations.everyone, len(fitted.mean.volume))
        latents, _ = expectation(
            observations, fitted.mean, fitted.basis, fitted.basis_variance, accumulate=False
        )
        left = latents.mean[:, len(fitted.basis) :].contiguous()
        return processes.joined_parts(left, count).double().cpu().numpy()
