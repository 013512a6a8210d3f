"""Log-likelihood of a particle's images as a function of its latent: misfit, gradient and precision.

With the decoder linearised at z, V(z + d) = V(z) + J d, the log-likelihood is quadratic in d, as it is
everywhere in the linear latent model. From A = 2 Re sum J^H J h^2 w and b = 2 Re sum J^H h w (y - h V) follow
the Gauss-Newton step (A + 1)^-1 (b - z) and the Laplace posterior covariance (A + 1)^-1. A Fourier value has
two parts, so two backward passes through the network give all of J for any number of latents. Where the
network does not depend on the latents, its part of J is 0, and these passes are left out.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.model.decoder import CPU_CHUNK_ROWS, CUDA_CHUNK_ROWS, Decoder, FoldedDecoder
from tomohet.model.fused import activate_, activated_product, activation_gradient_
from tomohet.model.lanes import lane_count, run_in_lanes
from tomohet.model.linear_base import LinearBase
from tomohet.model.rows import PackedRows


@dataclass
class LatentTerms:
    """Terms of the log-likelihood of P particles.

    misfit : (P,) sum w |h V - y|^2
    gradient : (P, K) b
    precision : (P, K, K) A
    """

    misfit: Tensor
    gradient: Tensor
    precision: Tensor

    def __iadd__(self, other: "LatentTerms") -> "LatentTerms":
        self.misfit += other.misfit
        self.gradient += other.gradient
        self.precision += other.precision
        return self


@torch.no_grad()
def latent_terms(
    decoder: Decoder,
    rows: PackedRows,
    z: Tensor,
    chunk_rows: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> LatentTerms:
    """Compute the terms of all particles of `rows` at latents `z` (P, K).

    dtype : of the factors of the network's products; sums and all else are float32

    The decoder must be Hermitian.
    """
    chunk_rows = chunk_rows or _chunk_rows(z)
    folded = decoder.folded(dtype)
    every = range(0, len(rows), chunk_rows)
    lanes = lane_count(z.device, len(every))
    parts = run_in_lanes(
        lambda starts: _terms(folded, decoder.base, rows, z, chunk_rows, starts),
        [every[lane::lanes] for lane in range(lanes)],
    )
    total, *others = parts
    for other in others:
        total += other
    return total


def _terms(
    folded: FoldedDecoder,
    base: LinearBase | None,
    rows: PackedRows,
    z: Tensor,
    chunk_rows: int,
    starts: range,
) -> LatentTerms:
    """Sum the terms over the chunks of rows that begin at `starts`."""
    particles, zdim = z.shape
    total = LatentTerms(
        z.new_zeros(particles), z.new_zeros(particles, zdim), z.new_zeros(particles, zdim, zdim)
    )
    follows = depends_on_latents(folded)
    from_latent = _first_of_latents(folded, z)
    for start in starts:
        chunk = slice(start, min(start + chunk_rows, len(rows)))
        particle = rows.particle[chunk]
        hidden = _hidden(folded, rows.k[chunk], from_latent[particle])
        value = _output(folded, hidden[-1])
        jacobian = z.new_zeros(len(particle), 2, zdim)
        if follows:
            torch.stack([_jacobian(folded, hidden, part) for part in range(2)], dim=1, out=jacobian)
        if base is not None:
            slices = torch.view_as_real(base.slices(rows.k[chunk]))  # (rows, 1 + K, 2)
            basis = slices[:, 1:].transpose(1, 2)
            value = value + slices[:, 0] + (basis @ z[particle, : base.n_basis, None])[..., 0]
            jacobian[:, :, : base.n_basis] += basis
        root = rows.weight[chunk, None].sqrt()
        residual = root * (rows.value[chunk] - rows.transfer[chunk, None] * value)
        jacobian *= (root * rows.transfer[chunk, None])[..., None]
        members = rows.members(chunk.start, chunk.stop)
        jacobian, residual = (_by_particle(x, rows, chunk, members) for x in (jacobian, residual))
        total.misfit[members] += residual.square().sum(1)
        total.gradient[members] += 2 * torch.einsum("prk,pr->pk", jacobian, residual)
        total.precision[members] += 2 * jacobian.transpose(1, 2) @ jacobian
    return total


@torch.no_grad()
def network_share(
    decoder: Decoder,
    rows: PackedRows,
    z: Tensor,
    of_latents: tuple[float, ...] = (1.0,),
    chunk_rows: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Compute the terms that decide the scale s of a network's contribution N to its base B.

    Returns (P, F, 2): a = sum w Re (h N)^* (y - h B) and q = sum w |h N|^2. With s N in place of N the misfit
    is smaller than the base's by 2 s a - s^2 q.

    of_latents : F factors on the latents (P, K) that the network sees; the base sees the latents unchanged
    dtype : as of `latent_terms`

    Raises ValueError for a network without a base.
    """
    chunk_rows = chunk_rows or _chunk_rows(z)
    folded, base = decoder.folded(dtype), decoder.base
    if base is None:
        raise ValueError("the decoder has no linear model as its base")
    from_latents = [_first_of_latents(folded, factor * z) for factor in of_latents]
    found = z.new_zeros(len(z), len(of_latents), 2)
    for start in range(0, len(rows), chunk_rows):
        chunk = slice(start, min(start + chunk_rows, len(rows)))
        k, particle = rows.k[chunk], rows.particle[chunk]
        linear = _base_values(base, k, z[particle])
        transfer, weight = rows.transfer[chunk, None], rows.weight[chunk, None]
        rest = rows.value[chunk] - transfer * linear
        features = folded.features(k)
        for number, from_latent in enumerate(from_latents):
            first = from_latent[particle].addmm_(features, folded.coordinate_weight.T)
            added = transfer * folded.after_first_layer(first).float()
            both = torch.stack([(added * rest).sum(1), added.square().sum(1)], dim=1)
            found[:, number].index_add_(0, particle, weight * both)
    return found


@torch.no_grad()
def misfits(
    decoder: Decoder,
    rows: PackedRows,
    z: Tensor,
    chunk_rows: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Compute the misfit (P,) of `latent_terms` alone, without the passes for the derivatives."""
    chunk_rows = chunk_rows or _chunk_rows(z)
    folded, base = decoder.folded(dtype), decoder.base
    from_latent, found = _first_of_latents(folded, z), z.new_zeros(len(z))
    for start in range(0, len(rows), chunk_rows):
        chunk = slice(start, min(start + chunk_rows, len(rows)))
        k, particle = rows.k[chunk], rows.particle[chunk]
        value = _output(folded, _hidden(folded, k, from_latent[particle])[-1])
        if base is not None:
            value = value + _base_values(base, k, z[particle])
        residual = rows.value[chunk] - rows.transfer[chunk, None] * value
        found.index_add_(0, particle, rows.weight[chunk] * residual.square().sum(1))
    return found


def depends_on_latents(decoder: Decoder | FoldedDecoder) -> bool:
    """Tell whether the network's contribution depends on the latents at all."""
    folded = decoder.folded() if isinstance(decoder, Decoder) else decoder
    return bool(folded.latent_weight.any())


def _chunk_rows(z: Tensor) -> int:
    return CUDA_CHUNK_ROWS if z.is_cuda else CPU_CHUNK_ROWS


def _first_of_latents(folded: FoldedDecoder, z: Tensor) -> Tensor:
    """Compute the latents' part (P, width) of the first layer, with its bias."""
    first = z @ folded.latent_weight.T + folded.first_bias.float()
    return first.to(folded.first_bias.dtype)


def _base_values(base: LinearBase, k: Tensor, z: Tensor) -> Tensor:
    """Compute the base's values (rows, 2) at `k` (rows, 3) for each row's latent (rows, K)."""
    slices = torch.view_as_real(base.slices(k))
    return slices[:, 0] + torch.einsum("rj,rjc->rc", z[:, : base.n_basis], slices[:, 1:])


def _output(folded: FoldedDecoder, hidden: Tensor) -> Tensor:
    """Compute the network's two outputs (rows, 2) in float32."""
    weight, bias = folded.layers[-1]
    return torch.addmm(bias, hidden, weight.T).float()


def _hidden(folded: FoldedDecoder, k: Tensor, from_latent: Tensor) -> list[Tensor]:
    """Compute the activations (rows, width) of every hidden layer."""
    first = from_latent.addmm_(folded.features(k), folded.coordinate_weight.T)
    hidden = [activate_(first, folded.activation)]
    for weight, bias in folded.layers[:-1]:
        hidden.append(activated_product(hidden[-1], weight, bias, folded.activation))
    return hidden


def _jacobian(folded: FoldedDecoder, hidden: list[Tensor], part: int) -> Tensor:
    """Compute the derivative (rows, K) of the value's real (0) or imaginary (1) part by the latent."""
    gradient = folded.layers[-1][0][part].expand(len(hidden[0]), -1).contiguous()
    for number in reversed(range(len(hidden))):
        gradient = activation_gradient_(gradient, hidden[number], folded.activation)
        if number:
            gradient = gradient @ folded.layers[number - 1][0]
    return (gradient @ folded.latent_weight.to(gradient.dtype)).float()


def _by_particle(values: Tensor, rows: PackedRows, chunk: slice, members: slice) -> Tensor:
    """Arrange both parts of a chunk's rows (rows, 2, ...) by particle: (members, 2 most, ...).

    Particles with fewer rows are padded with zeros.
    """
    bounds = np.asarray(rows.offsets)[members.start : members.stop + 1].clip(chunk.start, chunk.stop)
    most = int((bounds[1:] - bounds[:-1]).max())
    local = rows.particle[chunk] - members.start
    first = torch.as_tensor(bounds[:-1] - chunk.start, device=values.device)[local]
    number = torch.arange(len(values), device=values.device) - first
    padded = values.new_zeros(members.stop - members.start, most, *values.shape[1:])
    padded[local, number] = values
    return padded.flatten(1, 2)
