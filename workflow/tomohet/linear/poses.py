"""Pose correction in closed form under the linear model (`reconstruction.pose_errors`)."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.spatial.transform import Rotation

from tomohet.linear.basis_maps import CoarseFit
from tomohet.linear.em import expectation
from tomohet.linear.likelihood import Latents, likelihood
from tomohet.linear.pose_directions import Direction, direction_of_errors
from tomohet.particles.refined_poses import POSE_COLUMNS
from tomohet.particles.store import Store
from tomohet.physics.geometry import corrected_poses
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.pose_errors import (
    LEAST_GAIN,
    N_TANGENTS,
    PoseErrors,
    composed,
    prior_deviation,
    tangents,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Poses:
    """Corrected poses of particles.

    store : the store with the poses as corrected so far
    particles : ordinals in the store
    offset : (N, 6) total corrections, rotation vector (rad) and shift (px), in the frame of the corrected
        pose
    """

    store: Store
    particles: np.ndarray
    offset: np.ndarray

    @classmethod
    def stated(cls, store: Store, particles: np.ndarray) -> "Poses":
        """Start from the poses of the input files."""
        return cls(store, particles, np.zeros((len(particles), N_TANGENTS)))

    def moved(self, error: np.ndarray) -> "Poses":
        """Correct the poses by residual errors (N, 6)."""
        of_all = np.zeros((len(self.store.particles), N_TANGENTS))
        of_all[self.particles] = error
        owner = self.store.images["particle"].to_numpy()
        poses = corrected_poses(self.store.rotations(), of_all[owner])
        return replace(self, store=self.store.with_poses(*poses), offset=composed(self.offset, error))

    def errors_about(
        self, mean: MeanMap, observations: Observations, others: tuple[Observations, ...] = ()
    ) -> tuple[MeanMap, "Poses"]:
        """Estimate pose errors about a mean map, under the assumption that all particles are identical.

        Returns the mean map with these pose errors, and the poses corrected by them. Both are unchanged if
        the images do not show any errors.

        others : further observations of the particles; if given, they have to confirm the errors
        """
        maps = tangents(mean.volume)
        mine = observations.processes.part(len(observations.everyone))
        own = torch.as_tensor(self.offset[mine], dtype=maps.dtype, device=maps.device)
        tables = likelihood(observations, replace(mean, errors=None), maps)
        more = [likelihood(part, replace(mean, errors=None), maps) for part in others]
        both = [sum(terms) for terms in zip(tables, *more, strict=True)]
        given = observations.joined(*tables) if others else None
        deviation, gain = prior_deviation(*observations.joined(*both, own), given=given)
        if gain < LEAST_GAIN * observations.copies:  # each copy repeats the evidence of the same images
            return mean, self
        errors = PoseErrors(maps, deviation, own, settled=bool(others))
        log.info("under the assumption of identical particles: %s", errors.sentence)
        (left,) = observations.joined(errors.left(*tables)[0])
        return replace(mean, errors=errors), self.moved(left.double().cpu().numpy())

    def with_errors(self, mean: MeanMap, errors: PoseErrors | None) -> MeanMap:
        """Return the mean map with pose errors of the same size as about another map; None: no errors."""
        return replace(mean, errors=errors and replace(errors, maps=tangents(mean.volume)))

    def errors_left(self, fitted: CoarseFit, observations: Observations) -> np.ndarray:
        """Return the posterior mean (N, 6) of the residual pose errors under a fitted model."""
        observations = observations.alike(observations.everyone, len(fitted.mean.volume))
        latents, _ = expectation(
            observations, fitted.mean, fitted.basis, fitted.basis_variance, accumulate=False
        )
        (left,) = observations.joined(latents.mean[:, -N_TANGENTS:].contiguous())
        return left.double().cpu().numpy()


@dataclass(frozen=True)
class PoseEstimates:
    """Pose errors of N particles under the linear model.

    error : (N, 6) rotation vector (rad) and shift (px) from the input pose to the true pose, along the axes
        of the input pose
    deviation : (N, 6) posterior standard deviations
    prior : (2,) standard deviation over particles of a rotation and of a shift along one axis; 0 if the
        images do not show pose errors
    direction : leading direction of the errors, if known
    """

    error: np.ndarray
    deviation: np.ndarray
    prior: np.ndarray
    direction: Direction | None = None

    @classmethod
    def none(cls, n: int) -> "PoseEstimates":
        """Return zero estimates for n particles whose images do not show pose errors."""
        return cls(np.zeros((n, N_TANGENTS)), np.zeros((n, N_TANGENTS)), np.zeros(2))

    @classmethod
    def of(cls, poses: Poses, mean: MeanMap, latents: Latents) -> "PoseEstimates":
        """Build estimates from the posterior of all particles' residual errors (the last six latents)."""
        n = len(poses.particles)
        if mean.errors is None:
            return cls.none(n)
        variance = latents.covariance.diagonal(dim1=1, dim2=2)[:, -N_TANGENTS:]
        total = composed(poses.offset, latents.mean[:, -N_TANGENTS:].double().cpu().numpy())
        shift = Rotation.from_rotvec(total[:, :3]).apply(total[:, 3:])
        error = np.concatenate([total[:, :3], shift], axis=1)
        # The likelihood of the total errors is their posterior without their prior.
        precision = torch.linalg.inv(latents.covariance[:, -N_TANGENTS:, -N_TANGENTS:].double())
        whole = latents.mean[:, -N_TANGENTS:].double() + torch.as_tensor(poses.offset).to(precision)
        tables = (
            precision - torch.diag(mean.errors.precision.double()),
            torch.einsum("nij,nj->ni", precision, whole),
        )
        direction = direction_of_errors(*tables, mean.errors.deviation)
        return cls(error, variance.sqrt().cpu().numpy(), mean.errors.deviation, direction)

    @property
    def found(self) -> bool:
        """Whether the images show that poses have errors."""
        return bool(self.prior.any())

    def spread(self, pixel_size_A: float) -> tuple[float, float]:
        """Return the rms rotation (degrees), and the rms shift along one axis (Å)."""
        return float(np.degrees(self.prior[0]) * np.sqrt(3)), float(self.prior[1] * pixel_size_A)

    def sentence(self, pixel_size_A: float) -> str:
        """Describe the pose errors in one sentence."""
        if not self.found:
            return "poses: the images show no errors"
        rotation_deg, shift_A = self.spread(pixel_size_A)
        size = f"poses are off by {rotation_deg:.1f} degrees (rms) and {shift_A:.1f} Å along each axis (rms)"
        if self.direction is None or not self.direction.preferred:
            return size
        return (
            f"{size}; {100 * self.direction.share:.0f} % of their variance lies along one direction, as if a "
            "part moved, or as if the particle were poorly aligned about one axis"
        )

    def corrected(self, store: Store, particles: np.ndarray) -> Store:
        """Return the store with the poses of these particles (ordinals) corrected, if they are not yet."""
        if not self.error.any() or store.poses_corrected:
            return store
        return Poses.stated(store, particles).moved(self.error).store

    def applied(self, store: Store, particles: np.ndarray, mean: MeanMap) -> tuple[Store, MeanMap]:
        """Return the corrected store, and the mean map (given without errors) with the residual errors."""
        if not self.found:
            return store, mean
        offset = composed(np.zeros_like(self.error), self.error)
        offset = torch.as_tensor(offset, dtype=mean.volume.dtype, device=mean.volume.device)
        errors = PoseErrors(tangents(mean.volume), self.prior, offset)
        return self.corrected(store, particles), replace(mean, errors=errors)

    def of_rows(self, rows: np.ndarray) -> "PoseEstimates":
        """Select the estimates of some particles; row -1 stands for an unknown particle (error 0)."""
        known = (rows >= 0)[:, None]
        return replace(self, error=self.error[rows] * known, deviation=self.deviation[rows] * known)

    @classmethod
    def read(cls, table: pd.DataFrame, prior: list[float], pixel_size_A: float) -> "PoseEstimates":
        """Read estimates from the columns that `table` writes; `prior` is that of the class."""
        unit = np.repeat([np.degrees(1.0), pixel_size_A], 3)
        deviation = np.repeat(table[["turn_sd_deg", "move_sd_A"]].to_numpy(np.float64), 3, axis=1)
        error = table[list(POSE_COLUMNS)].to_numpy(np.float64)
        return cls(error / unit, deviation / unit, np.asarray(prior, np.float64))

    def table(self, particles: np.ndarray, pixel_size_A: float) -> pd.DataFrame:
        """Return a table with a row per particle (store ordinals).

        The columns are turn_x_deg, ..., move_z_A, and the posterior standard deviations along one axis,
        turn_sd_deg and move_sd_A.
        """
        table = pd.DataFrame({"particle": particles})
        unit = np.repeat([np.degrees(1.0), pixel_size_A], 3)
        table[list(POSE_COLUMNS)] = self.error * unit
        rms = np.sqrt(np.square(self.deviation * unit).reshape(-1, 2, 3).mean(2))
        table["turn_sd_deg"], table["move_sd_A"] = rms.T
        return table
