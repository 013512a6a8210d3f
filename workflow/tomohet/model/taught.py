"""Encoders that start from the linear model's posterior.

The encoder's latent of a particle is used only where it has predicted held-out tilt images better than the
linear model's (`training.teaching`); else the linear model's latent is used.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tomohet.model.encoder import TiltEncoder
from tomohet.model.latent_prior import LatentPrior
from tomohet.model.mlp import ResidualLinear, ResidualMLP, scale_

MAP_BOX = 12  # side of the particles' back-projected maps, px


class MapEncoder(nn.Module):
    """Encoder of a particle's back-projected difference from the mean map to (mu, logvar); it uses the pose.

    n_inputs : voxels of a map
    """

    sees = "maps"

    def __init__(self, n_inputs: int, zdim: int, layers: int, width: int, activation: str) -> None:
        super().__init__()
        self.zdim = zdim
        self.network = ResidualMLP(n_inputs, layers, width, 2 * zdim, activation)

    def forward(self, maps: Tensor, tilts: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Compute mu, logvar (P, zdim) from maps (P, n_inputs)."""
        return self.network(maps.float()).split(self.zdim, dim=1)


class TaughtEncoder(nn.Module):
    """Mean and log variance of the linear posterior plus the output of a network, which is 0 at first.

    Latents beyond the linear model's start at the prior, N(0, 1).

    released : the network takes part in the training
    trusted : the network takes part in evaluation as well
    """

    def __init__(self, network: TiltEncoder | MapEncoder) -> None:
        super().__init__()
        self.network, self.zdim, self.sees = network, network.zdim, network.sees
        self.released = self.trusted = False
        affine = [module for module in network.modules() if isinstance(module, nn.Linear | ResidualLinear)]
        inside = [module.linear for module in affine if isinstance(module, ResidualLinear)]
        scale_([module for module in affine if module not in inside][-1], 0.0)

    def forward(self, seen: Tensor, tilts: np.ndarray | Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mu, logvar (P, zdim) from the network's input and linear posteriors `start` (P, 2, K)."""
        mu, logvar = padded(start, self.zdim).unbind(1)
        if not (self.released if self.training else self.trusted):
            return mu, logvar
        added_mu, added_logvar = self.network(seen, tilts)
        return mu + added_mu, logvar + added_logvar

    def release(self) -> None:
        """Let the network take part in the training from now on."""
        self.released = True

    def trust(self, trusted: bool) -> None:
        """Let the network take part in evaluation from now on, or no longer."""
        self.trusted = trusted

    def get_extra_state(self) -> dict:
        """Return the flags that are kept with the weights."""
        return {"released": self.released, "trusted": self.trusted}

    def set_extra_state(self, state: dict) -> None:
        """Restore the flags that are kept with the weights."""
        self.released, self.trusted = state["released"], state["trusted"]


class FreeLatents(nn.Module):
    """No network: every particle has its own latent, computed in closed form (`training.free_latents`).

    prior : distribution of the latents, once they have proved better than the linear model's; else None
    """

    sees = "nothing"

    def __init__(self, zdim: int) -> None:
        super().__init__()
        self.zdim = zdim
        self.prior: LatentPrior | None = None

    def forward(self, seen: None, tilts: np.ndarray | Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu, logvar (P, zdim): the particles' own latents."""
        mu, logvar = padded(start, self.zdim).unbind(1)
        return mu, logvar

    def adopt(self, prior: LatentPrior | None) -> None:
        """Take this distribution of the latents; None returns to the linear model's latents."""
        self.prior = prior

    def get_extra_state(self) -> dict:
        """Return the prior that is kept with the weights."""
        return {} if self.prior is None else {name: x.cpu() for name, x in vars(self.prior).items()}

    def set_extra_state(self, state: dict) -> None:
        """Restore the prior that is kept with the weights."""
        self.prior = LatentPrior(**state) if state else None


def padded(start: Tensor, zdim: int) -> Tensor:
    """Extend posteriors (P, 2, K) to `zdim` latents at the prior: mean 0, log variance 0."""
    return nn.functional.pad(start, (0, zdim - start.shape[-1]))


def stack_posterior(mu: Tensor, logvar: Tensor) -> Tensor:
    """Stack mean and log variance (P, K) into (P, 2, K)."""
    return torch.stack((mu, logvar), dim=1)
