"""What surrounds particles: is it seen in their images, and which images of a particle do not share it?

Neighbours, ice and cytosol differ from particle to particle and are in all tilts alike, as structure is. They
are spread over the box without any order. The Fourier transform of such a density has coefficients that are
independent of each other, but for those that lie nearer together than the reciprocal of its extent. It so
makes images alike where their central slices come close: near the tilt axis, at low frequencies, and between
neighbouring tilts. Structure that a few maps describe makes images alike wherever their slices are.

`alike_beyond` measures how alike neighbouring tilts are beyond what the model explains. `wedges` divides
tilt images into those used and those held out by the tilt angle; of the latter the coefficients count that
are far from all slices used (`Observations`, `apart_from`). What surrounds a particle confirms nothing there.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.linear.likelihood import latent_prior, likelihoods, posterior
from tomohet.particles.copies import sources
from tomohet.particles.store import Store
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Chunk, Observations

# Points of two slices nearer together than this (pixels of the lattice) see the same surroundings.
SAME_PX = 0.35
# Shares of a particle's tilt images, from one end of the tilt range: used, and the first half held out.
USED, FIRST = 2 / 3, 5 / 6


def wedges(store: Store) -> tuple[Store, Store, Store]:
    """Parts of a store: tilt images to be used, two thirds of a particle's from one end of its tilt range,
    and two halves of the others, which are held out. Of odd particles (and their copies) it is the range's
    other end."""
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
    """How alike neighbouring tilts are beyond the model, in standard deviations of noise.

    Over pairs of images i, j of a particle that are next to each other in tilt angle, and points k of both
    slices at which these coincide, sum Re e_i* e_j of the residuals e = q - w S mu, less the second moment of
    them that the model expects, w_i w_j S_i U (z z' + C) U' S_j'. Noise of independent images leaves 0 with
    the variance w_i w_j / 2. Each shell counts alike: each shell's sum in units of its standard deviation,
    added up over the shells, over the root of their number.
    """
    prior = latent_prior(basis, mean)
    sums = torch.zeros(2, observations.n_shells, dtype=torch.float64, device=basis.device)
    for seen in likelihoods(observations, mean, basis, variance):
        chunk, residual, slices = seen.chunk, seen.residual, seen.slices
        latents = posterior(seen, mean, prior)
        second = latents.mean[:, :, None] * latents.mean[:, None, :] + latents.covariance
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
    return float(deviations) / np.sqrt(observations.copies)  # copies of a particle have the same noise


def _neighbours(observations: Observations, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Pairs of a chunk's images, of one particle and next to each other in tilt angle."""
    rows = observations.store.images_of(observations.particles[chunk.part])
    owner = np.repeat(np.arange(chunk.n_particles), chunk.counts)
    order = np.lexsort((observations.store.images["tilt_deg"].to_numpy()[rows], owner))
    pairs = np.stack([order[:-1], order[1:]])
    return tuple(torch.as_tensor(pairs[:, owner[pairs[0]] == owner[pairs[1]]]).to(chunk.owner.device))


def _coincide(observations: Observations, chunk: Chunk, first: Tensor, other: Tensor) -> Tensor:
    """(pairs, n) whether the same row of two images is nearly the same point of Fourier space."""
    turned = chunk.rotation[first][:, :2] - chunk.rotation[other][:, :2]
    apart = torch.einsum("nj,pjl->pnl", observations.half_plane.k.to(turned), turned)
    return (apart.square().sum(-1) < SAME_PX**2).to(turned)
