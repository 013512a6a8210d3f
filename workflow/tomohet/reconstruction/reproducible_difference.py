"""Power of the difference between a subset and the other particles that independent halves reproduce.

X_p is the whitened back-projection of a particle's residuals from the mean map (`particle_maps`). The
difference map of a subset is D = sum_p l_p X_p with centred labels l_p. Its reproducible power is

    Q = sum_(p, q) l_p l_q <X_p, X_q>, without pairs of images of one particle,

twice the mean of <D_1, D_2> over all divisions of the particles into two halves. Noise of different particles
is independent, so that Q is 0 on average for particles that are alike, whatever the level of their noise.
Random subsets of the same particles give the null distribution (`controls`). They contain chance differences
in composition, too.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.particles.copies import sources
from tomohet.reconstruction.mean_map import MeanMap
from tomohet.reconstruction.observations import Observations
from tomohet.reconstruction.particle_maps import particle_maps

DIFFERENCE_BOXES = (16, 20, 24, 32)  # finer maps add little to differences that span several voxels
DIFFERENCE_BYTES = 320 * 2**20  # of all difference maps
PARTICLES_AT_ONCE = 512


def difference_box(box: int, max_frequency: float, n_maps: int) -> int:
    """Return the smallest of DIFFERENCE_BOXES that holds `max_frequency` (cycles per pixel), or the largest.

    It is reduced until `n_maps` fit into DIFFERENCE_BYTES.
    """
    holding = [size for size in DIFFERENCE_BOXES if size >= 2 * max_frequency * box]
    fitting = [size for size in DIFFERENCE_BOXES if 4 * n_maps * size**3 <= DIFFERENCE_BYTES]
    return min(box, *holding[:1] or DIFFERENCE_BOXES[-1:], *fitting[-1:] or DIFFERENCE_BOXES[:1])


def reproducible_power(
    observations: Observations, mean: MeanMap, labels: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """Return Q (..., S) float64 of each row of labels, in one pass over the images.

    labels : (..., S, N) bool, which of the observations' particles belong to each subset
    shares : (..., N) what is subtracted to centre all S rows: the mean label of each particle's stratum;
        default: the mean of each row
    """
    shares = labels.mean(-1, keepdims=True) if shares is None else shares[..., None, :]
    shares = np.broadcast_to(shares, (*shares.shape[:-1], labels.shape[-1]))
    shape, n_maps = labels.shape[:-1], int(np.prod(labels.shape[:-1]))
    box = difference_box(observations.store.box, observations.max_frequency, n_maps)
    source = sources(observations.store.particles)[observations.everyone]
    order = np.argsort(source, kind="stable")
    total, own = torch.zeros(n_maps, box**3), torch.zeros(n_maps, dtype=torch.float64)
    for block in _blocks(source[order]):
        part = order[block]
        maps = _maps(observations.alike(observations.everyone[part], box), mean)
        centred = (labels[..., part] - shares[..., part]).reshape(n_maps, -1)
        centred = torch.as_tensor(centred, dtype=maps.dtype)
        same = torch.as_tensor(source[part][:, None] == source[part])
        pairs = torch.where(same, maps @ maps.T, 0)
        total += centred @ maps
        own += ((centred @ pairs) * centred).sum(1).double()
    return (total.double().square().sum(1) - own).numpy().reshape(shape)


def _maps(observations: Observations, mean: MeanMap) -> Tensor:
    """Return X (P, voxels) float32 on the host."""
    found = particle_maps(observations, mean)
    return (found.unit.float() * found.rms[:, None]).cpu()


def _blocks(source: np.ndarray) -> list[slice]:
    """Divide sorted particles into blocks of about PARTICLES_AT_ONCE, with all copies of one together."""
    first = np.flatnonzero(np.diff(source, prepend=-1))
    even = np.searchsorted(first, np.arange(0, len(source), PARTICLES_AT_ONCE))
    starts = first[np.unique(even[even < len(first)])]
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(source)], strict=True)]
