"""The decoder's sweep over packed rows, with the passes over activations in kernels."""

import torch
from torch import Tensor

from tomohet.model.decoder import FoldedDecoder
from tomohet.model.fused import activated_product, activation_slope
from tomohet.model.kernels.choice import lower_gradient
from tomohet.model.kernels.encoding import encode_rows
from tomohet.model.kernels.last_layer import last_layer
from tomohet.model.linear_base import LinearBase
from tomohet.model.rows import PackedRows
from tomohet.model.sweep import DecoderSweep, product_of

ALIGNMENT = 8  # numbers in 16 bytes of half precision: rows of products begin there


class KernelSweep(DecoderSweep):
    """A `DecoderSweep` of a Hermitian decoder with an encoding; arguments and results are the same.

    The membership of rows stands in columns beside the encoding. One product therefore makes the first
    activations from encodings and latents, and one product makes the gradients of both.
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
        super().__init__(folded, rows, z, chunk_rows, base, starts)
        width = len(folded.first_bias)
        self._slope = activation_slope(folded.activation)
        self._no_bias = torch.zeros(width, dtype=self.dtype, device=z.device)
        self._frequencies = folded.frequencies.float().contiguous()

    def run(self) -> "KernelSweep":
        """Sweep over the chunks, on the card that holds them."""
        with torch.cuda.device_of(self._z):
            super().run()
        return self

    def _make_first_buffers(self, points: int, buffer: dict) -> None:
        most = self.folded.coordinate_weight.shape[1] + self.rows.particles
        self._features = torch.empty(points * _aligned(most), **buffer)

    def _first_layer(self, chunk: slice, members: slice) -> tuple[tuple[Tensor, ...], Tensor]:
        weight = self.folded.coordinate_weight
        count, used = chunk.stop - chunk.start, weight.shape[1] + members.stop - members.start
        columns = _aligned(used)
        features = self._features[: count * columns].view(count, columns)
        encode_rows(features, self.rows.k[chunk], self.rows.particle[chunk], members.start, self._frequencies)
        combined = weight.new_zeros(len(weight), columns)
        torch.cat((weight, self._from_latent[members].T), dim=1, out=combined[:, :used])
        return (features,), activated_product(features, combined, self._no_bias, self.folded.activation)

    def _last_layer(self, hidden: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        rows, last = self.rows, len(self.folded.layers) - 1
        before = self._gradient[last % 2][: len(hidden)]
        slices, base = None, None
        if self.base is not None:
            slices, from_latents = self._base_parts(self.base, chunk)
            value = slices[:, 0] + from_latents
            base = value, torch.empty_like(value)
        measured = rows.value[chunk], rows.transfer[chunk], rows.weight[chunk] / rows.full_count
        found = last_layer(hidden, *self.folded.layers[last], measured, self._slope, before, base)
        if slices is not None and base is not None:
            self._add_base_gradient(base[1], slices, chunk)
        self.layer_gradients[last][0].add_(found.weight)
        self.layer_gradients[last][1].add_(found.bias)
        if last:
            self.layer_gradients[last - 1][1].add_(found.lower_bias)
        return found.loss, before

    def _lower_gradient(self, gradient: Tensor, number: int, lower: Tensor) -> Tensor:
        before = self._gradient[number % 2][: len(gradient)]
        weight = self.folded.layers[number][0]
        sums = lower_gradient(gradient, weight, lower, self._slope, before, number > 0)
        if sums is not None:
            self.layer_gradients[number - 1][1].add_(sums)
        return before

    def _first_gradients(self, gradient: Tensor, features: tuple[Tensor, ...], members: slice) -> None:
        both = product_of(gradient.T, features[0])
        encodings = self.coordinate_gradient.shape[1]
        used = encodings + members.stop - members.start
        self.coordinate_gradient.add_(both[:, :encodings])
        self.latent_gradient[members].add_(both[:, encodings:used].T)


def _aligned(columns: int) -> int:
    return columns + -columns % ALIGNMENT
