"""How much of a latent is a movement of the whole particle: what a wrong pose looks like.

To first order a particle that is turned or moved differs from the mean map mu by a combination of the six
tangents, x cross grad mu and grad mu (`reconstruction.pose_errors`). The share of a latent's map is the power
of its projection on their span over its own.
"""

import numpy as np
import torch
from torch import Tensor

from tomohet.analysis.latent import PrincipalComponents
from tomohet.model.volumes import TrainedVolumes
from tomohet.reconstruction.pose_errors import tangents

# Side (px) at which maps of components are decoded: movements of the whole are smooth.
MOST_BOX = 64


def movement_shares(maps: Tensor, mean: Tensor) -> np.ndarray:
    """(K,) share of the power of maps (K, D, D, D) in the span of the tangents of the mean map (D, D, D)."""
    span, _ = torch.linalg.qr(tangents(mean.double()).flatten(1).T)
    flat = maps.double().flatten(1)
    shares = (flat @ span).square().sum(1) / flat.square().sum(1).clamp_min(1e-300)
    return shares.cpu().numpy()


def component_maps(
    decoder: TrainedVolumes, components: PrincipalComponents, count: int
) -> tuple[Tensor, Tensor]:
    """Maps (k, d, d, d) of the first `count` principal components, and the mean latent's (d, d, d).

    A component's map is the difference of the volumes one standard deviation to both sides of the mean
    latent.
    """
    deviation = components.scores.std(0)[:count]
    ends = [components.mean + sign * deviation[:, None] * components.axes[:count] for sign in (1, -1)]
    z = torch.as_tensor(np.concatenate([components.mean[None], *ends]), dtype=torch.float32)
    box = min(decoder.box, MOST_BOX)
    maps = torch.cat([part.cpu() for part in decoder.decode(z.to(decoder.device), box)])
    upper, lower = maps[1:].chunk(2)
    return upper - lower, maps[0]
