"""Forward and backward pass of the decoder over packed rows, chunk by chunk.

Matrix products dominate the time. Everything else is done in place in reused buffers, so that on a CPU a
chunk's activations stay in cache. No graph is recorded: the loss is a sum over rows, and each chunk's
gradients are added as soon as its values are known.
"""

import torch
from torch import Tensor, nn

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
        self._make_first_buffers(points, buffer)
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

    def _make_first_buffers(self, points: int, buffer: dict) -> None:
        """Make room for the encodings of `points` and for their first activations."""
        width, features = self.folded.coordinate_weight.shape
        self._features = torch.empty(points, features, **buffer)
        self._first = torch.empty(points, width, **buffer)

    def run(self) -> "DecoderSweep":
        """Sweep over the chunks."""
        for start in self._starts:
            end = min(start + self.chunk_rows, len(self.rows))
            self.loss += self._chunk(slice(start, end), self.rows.members(start, end))
        return self

    def add(self, other: "DecoderSweep") -> None:
        """Add the results of a sweep over other chunks of the same rows."""
        for total, part in zip(self.totals(), other.totals(), strict=True):
            total.add_(part)

    def totals(self) -> list[Tensor]:
        """Return the loss and all gradients."""
        layers = [gradient for layer in self.layer_gradients for gradient in layer]
        return [self.loss, self.coordinate_gradient, self.latent_gradient, self.base_gradient, *layers]

    def _chunk(self, chunk: slice, members: slice) -> Tensor:
        """Return the chunk's loss, and add its gradients."""
        features, first = self._first_layer(chunk, members)
        hidden = [first]
        for weight, bias in self.folded.layers[:-1]:
            hidden.append(activated_product(hidden[-1], weight, bias, self.folded.activation))
        loss, gradient = self._last_layer(hidden[-1], chunk)
        for number in reversed(range(len(hidden) - 1)):
            accumulate(self.layer_gradients[number][0], gradient.T, hidden[number])
            gradient = self._lower_gradient(gradient, number, hidden[number])
        self._first_gradients(gradient, features, members)
        return loss

    def _first_layer(self, chunk: slice, members: slice) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what `_first_gradients` needs of the inputs, and the first activations (points, width)."""
        folded = self.folded
        k, particle = self.rows.k[chunk], self.rows.particle[chunk]
        if not folded.hermitian:
            k, particle = torch.cat((k, -k)), torch.cat((particle, particle))
        features = self._features[: len(k)]
        encode_into(
            features, k if len(folded.frequencies) else k * folded.coordinate_scale, folded.frequencies
        )
        membership = _membership(particle, members, self.dtype)
        first = torch.mm(features, folded.coordinate_weight.T, out=self._first[: len(k)])
        first = activate_(first.addmm_(membership, self._from_latent[members]), folded.activation)
        return (features, membership), first

    def _last_layer(self, hidden: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        """Return the chunk's loss, and the gradient (points, width) of the last pre-activations.

        The last layer takes activations (points, width) to the two outputs. Its gradients are added.
        """
        rows, folded = self.rows, self.folded
        weight, bias = folded.layers[-1]
        out = torch.addmm(bias, hidden, weight.T).float()
        value = out if folded.hermitian else read_hartley(out)
        slices = None
        if self.base is not None:
            slices, from_latents = self._base_parts(self.base, chunk)
            value = value + slices[:, 0] + from_latents
        residual = rows.transfer[chunk, None] * value - rows.value[chunk]
        weighted = rows.weight[chunk, None] * residual / rows.full_count
        gradient = 2 * weighted * rows.transfer[chunk, None]
        if slices is not None:
            self._add_base_gradient(gradient, slices, chunk)
        if not folded.hermitian:
            gradient = read_hartley_gradient(gradient)
        gradient = gradient.to(self.dtype)
        last = len(folded.layers) - 1
        accumulate(self.layer_gradients[last][0], gradient.T, hidden)
        self._add_bias_gradient(last, gradient)
        return (weighted * residual).sum(), self._lower_gradient(gradient, last, hidden)

    def _base_parts(self, base: LinearBase, chunk: slice) -> tuple[Tensor, Tensor]:
        """Return values (rows, K + 1, 2) of the maps of `base`, and the latents' part (rows, 2) of them."""
        slices = torch.view_as_real(base.slices(self.rows.k[chunk]))
        z = self._z[self.rows.particle[chunk], : base.n_basis]
        return slices, torch.einsum("rj,rjc->rc", z, slices[:, 1:])

    def _add_base_gradient(self, gradient: Tensor, slices: Tensor, chunk: slice) -> None:
        """Add the gradient of the latents through the base, from `gradient` (rows, 2) of the values."""
        per_row = torch.einsum("rc,rjc->rj", gradient, slices[:, 1:])
        self.base_gradient.index_add_(0, self.rows.particle[chunk], per_row)

    def _lower_gradient(self, gradient: Tensor, number: int, lower: Tensor) -> Tensor:
        """Return the gradient (points, width) of the pre-activations below further layer `number`.

        gradient : (points, out) of the layer's output
        lower : (points, width) activations that the layer takes; the gradient of their bias is added
        """
        before = self._gradient[number % 2][: len(gradient)]
        torch.mm(gradient, self.folded.layers[number][0], out=before)
        activation_gradient_(before, lower, self.folded.activation)
        if number:
            self._add_bias_gradient(number - 1, before)
        return before

    def _add_bias_gradient(self, number: int, gradient: Tensor) -> None:
        bias_gradient = self.layer_gradients[number][1]
        bias_gradient += gradient.sum(0, dtype=torch.float32)

    def _first_gradients(self, gradient: Tensor, features: tuple[Tensor, ...], members: slice) -> None:
        """Add the first layer's gradients.

        gradient : (points, width) of its pre-activations
        features : encodings (points, features) and membership (points, particles of the chunk)
        """
        encoding, membership = features
        accumulate(self.coordinate_gradient, gradient.T, encoding)
        accumulate(self.latent_gradient[members], membership.T, gradient)


def sweep_rows(
    folded: FoldedDecoder, rows: PackedRows, z: Tensor, chunk_rows: int, base: LinearBase | None = None
) -> DecoderSweep:
    """Sweep over all rows, with the chunks divided among the threads of a CPU.

    The result depends on the number of threads in the last bits only.
    """
    every = range(0, len(rows), chunk_rows)
    lanes = lane_count(z.device, len(every))
    sweep = sweep_class(folded, z)
    sweeps = [sweep(folded, rows, z, chunk_rows, base, every[lane::lanes]) for lane in range(lanes)]
    total, *others = run_in_lanes(lambda share: share.run(), sweeps)
    for other in others:
        total.add(other)
    return total


def sweep_class(folded: FoldedDecoder, z: Tensor) -> type[DecoderSweep]:
    """Return the sweep with kernels on a GPU where they work, else the one of PyTorch's operations."""
    # Tensors of another class have no values: they are there to count what would be done.
    if (
        not z.is_cuda
        or type(z) not in (Tensor, nn.Parameter)
        or not folded.hermitian
        or not len(folded.frequencies)
    ):
        return DecoderSweep
    from tomohet.model.kernels.trial import kernels_agree

    if not kernels_agree(z.device, folded.first_bias.dtype, folded.activation):
        return DecoderSweep
    from tomohet.model.kernels.sweep import KernelSweep

    return KernelSweep


def _membership(particle: Tensor, members: slice, dtype: torch.dtype) -> Tensor:
    """Return (points, particles of the chunk): 1 where a point belongs to a particle, else 0.

    Products with this matrix spread latents over rows and gather gradients per particle, deterministically.
    """
    candidates = torch.arange(members.start, members.stop, device=particle.device)
    return (particle[:, None] == candidates).to(dtype)


def accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, in float32 whatever the factors, as far as the device can."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += product_of(left, right)


def product_of(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right, in float32 whatever the factors where the device can."""
    if left.is_cuda and left.dtype is not torch.float32:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left @ right
