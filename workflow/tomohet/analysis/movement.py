"""Fraction of a latent's map that is a rigid movement of the whole particle, as wrong poses cause it.

To first order a particle that is rotated or shifted differs from the mean map mu by a combination of six
tangents: x cross grad mu and grad mu (`reconstruction.pose_errors`). The fraction is the power of the map's
projection on the span of the tangents over the power of the map.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.analysis.latent import PrincipalComponents
from tomohet.model.volumes import TrainedVolumes
from tomohet.reconstruction.pose_errors import tangents

# Side (px) at which maps of components are decoded: the tangents are smooth, so a small box is enough.
MOST_BOX = 64


def movement_shares(maps: Tensor, mean: Tensor) -> np.ndarray:
    """Compute the fraction (K,) of the power of maps (K, D, D, D) in the span of the mean map's tangents.

    mean : (D, D, D)
    """
    span, _ = torch.linalg.qr(tangents(mean.double()).flatten(1).T)
    flat = maps.double().flatten(1)
    shares = (flat @ span).square().sum(1) / flat.square().sum(1).clamp_min(1e-300)
    return shares.cpu().numpy()


def component_maps(
    decoder: TrainedVolumes, components: PrincipalComponents, count: int
) -> tuple[Tensor, Tensor]:
    """Decode maps (k, d, d, d) of the first `count` principal components, and the mean latent's (d, d, d).

    A component's map is the difference between the volumes one standard deviation above and below the mean
    latent.
    """
    deviation = components.scores.std(0)[:count]
    ends = [components.mean + sign * deviation[:, None] * components.axes[:count] for sign in (1, -1)]
    z = torch.as_tensor(np.concatenate([components.mean[None], *ends]), dtype=torch.float32)
    box = min(decoder.box, MOST_BOX)
    maps = torch.cat([part.cpu() for part in decoder.decode(z.to(decoder.device), box)])
    upper, lower = maps[1:].chunk(2)
    return upper - lower, maps[0]
