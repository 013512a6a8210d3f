"""Surroundings of the particles: a test whether tilts share them, and held-out images that do not.

Neighbours, ice and cytosol differ between particles but are the same in all tilts of a particle, like
structure. Their density is disordered: Fourier coefficients are independent unless they are closer than the
reciprocal of its extent. The surroundings therefore correlate images only where their central slices nearly
coincide: near the tilt axis, at low frequencies, and between neighbouring tilts. Structure that a few basis
maps describe correlates images everywhere.

`alike_beyond` measures the correlation of neighbouring tilts in excess of the model. `wedges` splits tilt
images by tilt angle into training and held-out images. Only coefficients of the held-out images that are far
from all training slices count (`Observations`, `apart_from`). There the surroundings cannot confirm a
component.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.likelihood import latent_prior, likelihoods, posterior
from tomohet.particles.copies import sources
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Chunk, Observations

# Points of two slices closer than this (pixels of the lattice) see the same surroundings.
SAME_PX = 0.35
# Fractions of a particle's tilt images from one end of the tilt range: end of the training images, and of the
# first held-out half.
USED, FIRST = 2 / 3, 5 / 6


def wedges(store: Store) -> tuple[Store, Store, Store]:
    """Split a store into training tilt images and two halves of the held-out images, by tilt angle.

    Training images are two thirds of a particle's images, from one end of its tilt range. Odd particles (and
    their copies) use the other end.
    """
    counts = np.diff(store.offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    rank = np.empty(len(owner), int)
    rank[np.lexsort((store.images["tilt_deg"].to_numpy(), owner))] = np.arange(len(owner))
    share = (rank - store.offsets[:-1][owner] + 0.5) / counts[owner]
    odd = np.unique(sources(store.particles), return_inverse=True)[1][owner] % 2 == 1
    share = np.where(odd, 1 - share, share)
    parts = share < USED, (share >= USED) & (share < FIRST), share >= FIRST
    return tuple(store.restricted(part) for part in parts)


def alike_beyond(
    observations: Observations, mean: MeanMap, basis: Tensor, variance: Tensor | None = None
) -> float:
    """Return the excess correlation of neighbouring tilts over the model, in standard deviations of noise.

    The sum runs over pairs of images i, j of a particle that are neighbours in tilt angle, and over points k
    where their slices coincide. It adds Re e_i* e_j of the residuals e = q - w S mu, minus the second moment
    that the model expects, w_i w_j S_i U (z z' + C) U' S_j'. Noise of independent images gives 0 with the
    variance w_i w_j / 2. All shells have equal weight: the sum of each shell is divided by its standard
    deviation, and the sum over shells by the root of their number.
    """
    prior = latent_prior(basis, mean)
    sums = torch.zeros(2, observations.n_shells, dtype=torch.float64, device=basis.device)
    for seen in likelihoods(observations, mean, basis, variance):
        chunk, residual, slices = seen.chunk, seen.residual, seen.slices
        second = posterior(seen, mean, prior).second_moment
        first, other = _neighbours(observations, chunk)
        near = _coincide(observations, chunk, first, other)
        alike = (residual[first].conj() * residual[other]).real
        weighted = chunk.weight[..., None] * slices
        mixed = weighted[first].conj() @ second[chunk.owner[first]].to(slices.dtype)
        alike = alike - (mixed * weighted[other]).sum(-1).real
        chance = chunk.weight[first] * chunk.weight[other] / 2
        for number, rows in enumerate((alike, chance)):
            by_shell = (rows * near).sum(0).double()
            sums[number].index_add_(0, observations.shell, by_shell)
    excess, chance = observations.processes.add_up(sums)
    seen = chance > 0
    deviations = (excess[seen] / chance[seen].sqrt()).sum() / seen.sum().clamp_min(1).sqrt()
    return float(deviations) / np.sqrt(observations.copies)  # copies of a particle share their noise


def _neighbours(observations: Observations, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Find pairs of a chunk's images that belong to one particle and are neighbours in tilt angle."""
    rows = observations.store.images_of(observations.particles[chunk.part])
    owner = np.repeat(np.arange(chunk.n_particles), chunk.counts)
    order = np.lexsort((observations.store.images["tilt_deg"].to_numpy()[rows], owner))
    pairs = np.stack([order[:-1], order[1:]])
    return tuple(torch.as_tensor(pairs[:, owner[pairs[0]] == owner[pairs[1]]]).to(chunk.owner.device))


def _coincide(observations: Observations, chunk: Chunk, first: Tensor, other: Tensor) -> Tensor:
    """Return (pairs, n) whether the same half-plane point of two images is nearly the same Fourier point."""
    turned = chunk.rotation[first][:, :2] - chunk.rotation[other][:, :2]
    apart = torch.einsum("nj,pjl->pnl", observations.half_plane.k.to(turned), turned)
    return (apart.square().sum(-1) < SAME_PX**2).to(turned)
