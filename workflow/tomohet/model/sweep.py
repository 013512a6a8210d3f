"""Forward and backward pass of the decoder over packed rows, chunk by chunk.

Matrix products dominate the time. Everything else is done in place in reused buffers, so that on a CPU a
chunk's activations stay in cache. No graph is recorded: the loss is a sum over rows, and each chunk's
gradients are added as soon as its values are known.
"""

import torch
from torch import Tensor

from tomohet.model.decoder import FoldedDecoder, read_hartley, read_hartley_gradient
from tomohet.model.fused import activate_, activated_product, activation_gradient_
from tomohet.model.lanes import lane_count, run_in_lanes
from tomohet.model.linear_base import LinearBase
from tomohet.model.positional import encode_into
from tomohet.model.rows import PackedRows


class DecoderSweep:
    """Reconstruction loss of `rows` for latents `z` (particles, zdim), and its gradients.

    `starts`: first rows of the chunks to sweep over; None means all chunks.

    After `run`: `loss` (scalar); `coordinate_gradient` (width, features) of the first layer's coordinate
    weights; `latent_gradient` (particles, width) of the first layer's pre-activations, summed over a
    particle's rows; `layer_gradients`, weight and bias of every further layer; `base_gradient` (particles, K)
    of the first K latents through the linear base. All are float32.
    """

    def __init__(
        self,
        folded: FoldedDecoder,
        rows: PackedRows,
        z: Tensor,
        chunk_rows: int,
        base: LinearBase | None = None,
        starts: range | None = None,
    ) -> None:
        self.folded, self.rows, self.chunk_rows = folded, rows, chunk_rows
        self.base, self._z = base, z
        self._starts = range(0, len(rows), chunk_rows) if starts is None else starts
        self.dtype = folded.first_bias.dtype
        width, features = folded.coordinate_weight.shape
        points = min(chunk_rows, len(rows)) * (1 if folded.hermitian else 2)
        buffer = {"dtype": self.dtype, "device": z.device}
        self._features = torch.empty(points, features, **buffer)
        self._first = torch.empty(points, width, **buffer)
        self._gradient = [torch.empty(points, width, **buffer) for _ in range(2)]
        # Every row belongs to one particle, so the first bias is added to the latent's part.
        self._from_latent = (z @ folded.latent_weight.T + folded.first_bias.float()).to(self.dtype)

        zeros = {"dtype": torch.float32, "device": z.device}
        self.loss = torch.zeros((), **zeros)
        self.coordinate_gradient = torch.zeros(width, features, **zeros)
        self.latent_gradient = torch.zeros(rows.particles, width, **zeros)
        self.base_gradient = torch.zeros(rows.particles, base.n_basis if base else 0, **zeros)
        self.layer_gradients = [
            (torch.zeros(weight.shape, **zeros), torch.zeros(bias.shape, **zeros))
            for weight, bias in folded.layers
        ]

    def run(self) -> "DecoderSweep":
        """Sweep over the chunks."""
        for start in self._starts:
            end = min(start + self.chunk_rows, len(self.rows))
            self.loss += self._chunk(slice(start, end), self.rows.members(start, end))
        return self

    def add(self, other: "DecoderSweep") -> None:
        """Add the results of a sweep over other chunks of the same rows."""
        for total, part in zip(self._totals(), other._totals(), strict=True):
            total.add_(part)

    def _totals(self) -> list[Tensor]:
        layers = [gradient for layer in self.layer_gradients for gradient in layer]
        return [self.loss, self.coordinate_gradient, self.latent_gradient, self.base_gradient, *layers]

    def _chunk(self, chunk: slice, members: slice) -> Tensor:
        rows, folded = self.rows, self.folded
        k, particle = rows.k[chunk], rows.particle[chunk]
        if not folded.hermitian:
            k, particle = torch.cat((k, -k)), torch.cat((particle, particle))
        count = len(k)
        features = self._features[:count]
        encode_into(
            features, k if len(folded.frequencies) else k * folded.coordinate_scale, folded.frequencies
        )
        membership = _membership(particle, members, self.dtype)

        first = torch.mm(features, folded.coordinate_weight.T, out=self._first[:count])
        hidden = [activate_(first.addmm_(membership, self._from_latent[members]), folded.activation)]
        for weight, bias in folded.layers[:-1]:
            hidden.append(activated_product(hidden[-1], weight, bias, folded.activation))
        weight, bias = folded.layers[-1]
        out = torch.addmm(bias, hidden[-1], weight.T).float()

        value = out if folded.hermitian else read_hartley(out)
        if self.base is not None:
            slices = torch.view_as_real(self.base.slices(rows.k[chunk]))  # (rows, K + 1, 2)
            z = self._z[rows.particle[chunk], : self.base.n_basis]
            value = value + slices[:, 0] + torch.einsum("rj,rjc->rc", z, slices[:, 1:])
        residual = rows.transfer[chunk, None] * value - rows.value[chunk]
        weighted = rows.weight[chunk, None] * residual / rows.full_count
        gradient = 2 * weighted * rows.transfer[chunk, None]
        if self.base is not None:
            per_row = torch.einsum("rc,rjc->rj", gradient, slices[:, 1:])
            self.base_gradient.index_add_(0, rows.particle[chunk], per_row)
        if not folded.hermitian:
            gradient = read_hartley_gradient(gradient)
        self._backward(gradient.to(self.dtype), hidden, features, membership, members)
        return (weighted * residual).sum()

    def _backward(
        self, gradient: Tensor, hidden: list[Tensor], features: Tensor, membership, members
    ) -> None:
        """Add this chunk's gradients, from `gradient` (points, 2) of the two outputs."""
        count = len(gradient)
        for number in reversed(range(len(hidden))):
            weight_gradient, bias_gradient = self.layer_gradients[number]
            _accumulate(weight_gradient, gradient.T, hidden[number])
            bias_gradient += gradient.sum(0, dtype=torch.float32)
            before = self._gradient[number % 2][:count]
            torch.mm(gradient, self.folded.layers[number][0], out=before)
            gradient = activation_gradient_(before, hidden[number], self.folded.activation)
        _accumulate(self.coordinate_gradient, gradient.T, features)
        _accumulate(self.latent_gradient[members], membership.T, gradient)


def sweep_rows(
    folded: FoldedDecoder, rows: PackedRows, z: Tensor, chunk_rows: int, base: LinearBase | None = None
) -> DecoderSweep:
    """Sweep over all rows, with the chunks divided among the threads of a CPU.

    The result depends on the number of threads in the last bits only.
    """
    every = range(0, len(rows), chunk_rows)
    lanes = lane_count(z.device, len(every))
    sweeps = [DecoderSweep(folded, rows, z, chunk_rows, base, every[lane::lanes]) for lane in range(lanes)]
    total, *others = run_in_lanes(DecoderSweep.run, sweeps)
    for other in others:
        total.add(other)
    return total


def _membership(particle: Tensor, members: slice, dtype: torch.dtype) -> Tensor:
    """Return (points, particles of the chunk): 1 where a point belongs to a particle, else 0.

    Products with this matrix spread latents over rows and gather gradients per particle, deterministically.
    """
    candidates = torch.arange(members.start, members.stop, device=particle.device)
    return (particle[:, None] == candidates).to(dtype)


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, in float32 whatever the factors, as far as the device can."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif left.is_cuda:
        total += torch.mm(left, right, out_dtype=total.dtype)
    else:
        total += left @ right
