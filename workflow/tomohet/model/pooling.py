"""Pooling of per-tilt features to one vector per particle, for any number of tilts.

Features arrive padded, (particles, tilts, features), with a mask of the tilts that exist. `mean`, `max`,
`median` and `set_encoder` do not depend on the order of the tilts; `concatenate` does, by design.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tomohet.device import sent


def pad_tilts(features: Tensor, tilts: np.ndarray | Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Pad packed features (m, f) of particles with `tilts` (P,) images to (P, longest, f), with a mask.

    `tilts` is an array on the host or a tensor on the device. Tilts past `longest` are left out; padding is
    zero.
    """
    if isinstance(tilts, Tensor):
        number = torch.arange(longest, device=tilts.device)
        mask = number < tilts[:, None]
        index = ((tilts.cumsum(0) - tilts)[:, None] + number) * mask
        return features[index] * mask[..., None], mask
    start = np.cumsum(tilts) - tilts
    number = np.arange(longest)
    present = number < tilts[:, None]
    index = sent(np.where(present, start[:, None] + number, 0), features.device)
    mask = sent(present, features.device)
    return features[index] * mask[..., None], mask


def pool(features: Tensor, mask: Tensor, function: str) -> Tensor:
    """Reduce padded features (P, T, f) over the tilts of `mask` (P, T).

    concatenate: (P, T f), absent tilts zero. mean, max, median: (P, f); the median of an even number is the
    mean of the middle two.
    """
    if function == "concatenate":
        return features.flatten(1)
    absent = ~mask[..., None]
    if function == "max":
        return features.masked_fill(absent, -torch.inf).amax(1)
    if function == "median":
        return torch.nanquantile(features.float().masked_fill(absent, torch.nan), 0.5, dim=1)
    return features.sum(1) / mask.sum(1, keepdim=True)


class AttentionBlock(nn.Module):
    """Multi-head attention of queries from one set to another (Lee et al. 2019, Set Transformer, MAB)."""

    def __init__(self, dim_query: int, dim_key: int, dim: int, heads: int, layer_norm: bool) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.fc_q, self.fc_k, self.fc_v = (
            nn.Linear(dim_query, dim),
            nn.Linear(dim_key, dim),
            nn.Linear(dim_key, dim),
        )
        self.fc_o = nn.Linear(dim, dim)
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)] if layer_norm else [])

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Map `queries` (P, S, dim_query) and `keys` (P, T, dim_key) to (P, S, dim).

        mask : (P, T), true for keys that exist
        """
        projected = self.fc_q(queries)
        q, k, v = (self._heads(x) for x in (projected, self.fc_k(keys), self.fc_v(keys)))
        # The published block scales by the full width, not by the width of a head.
        scores = q @ k.transpose(-1, -2) / self.dim**0.5
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
        x = projected + (weights @ v).transpose(1, 2).flatten(2)
        x = self.norms[0](x) if self.norms else x
        x = x + torch.relu(self.fc_o(x))
        return self.norms[1](x) if self.norms else x

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SetEncoder(nn.Module):
    """Two self-attention blocks, pooling by learned seeds, two more blocks and a linear read-out.

    Lee et al. 2019, with the sizes of the published network. The outputs of several seeds are concatenated.
    It replaces pooling and encoder B.
    """

    def __init__(self, dim_in: int, dim: int, dim_out: int, seeds: int, heads: int, layer_norm: bool) -> None:
        super().__init__()
        self.enc = nn.ModuleList(
            [AttentionBlock(width, width, dim, heads, layer_norm) for width in (dim_in, dim)]
        )
        self.seeds = nn.Parameter(torch.empty(1, seeds, dim))
        nn.init.xavier_uniform_(self.seeds)
        self.pooling = AttentionBlock(dim, dim, dim, heads, layer_norm)
        self.dec = nn.ModuleList([AttentionBlock(dim, dim, dim, heads, layer_norm) for _ in range(2)])
        self.readout = nn.Linear(seeds * dim, dim_out)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Map padded features (P, T, dim_in) and mask (P, T) to (P, dim_out)."""
        x = features
        for block in self.enc:
            x = block(x, x, mask)
        x = self.pooling(self.seeds.expand(len(x), -1, -1), x, mask)
        every_seed = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        for block in self.dec:
            x = block(x, x, every_seed)
        return self.readout(x.flatten(1))
