"""An encoder that starts from the linear model's posterior and learns what to change."""

import numpy as np
import torch
from torch import Tensor, nn

from tomohet.model.encoder import TiltEncoder


class TaughtEncoder(nn.Module):
    """mu and log variance of the linear posterior, plus what the tilt encoder adds: nothing at first.

    Latents beyond the linear model's start at the prior, N(0, 1).
    """

    def __init__(self, tilts: TiltEncoder) -> None:
        super().__init__()
        self.tilts, self.zdim = tilts, tilts.zdim
        last = [module for module in tilts.modules() if isinstance(module, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, images: Tensor, tilts: np.ndarray, start: Tensor) -> tuple[Tensor, Tensor]:
        """mu, logvar (P, zdim) from half planes (m, n) and `start` (P, 2, K): the linear posterior."""
        added_mu, added_logvar = self.tilts(images, tilts)
        mu, logvar = nn.functional.pad(start, (0, self.zdim - start.shape[-1])).unbind(1)
        return mu + added_mu, logvar + added_logvar


def stack_posterior(mu: Tensor, logvar: Tensor) -> Tensor:
    """(P, 2, K) from mean and log variance (P, K)."""
    return torch.stack((mu, logvar), dim=1)
