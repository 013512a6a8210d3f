"""The last layer, the loss and their gradients, in one pass over the activations.

A row's value is W h + b, plus the linear base's value where there is one. The loss is the sum of
weight |transfer value - measured|^2 (`tomohet.model.loss`). PyTorch passes over arrays of the
size of the activations seven times here: for the product, its two gradients (two), the activation's gradient
(three) and the sums for the bias (one). This kernel reads the activations once and writes the gradient once.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

VALUES = 1024  # of a tile of rows: in the registers of one warp, so that no warp waits for another
TILES = 64  # tiles of a program, one after another: their sums stay in registers


@dataclass(frozen=True)
class LastLayer:
    """Sums over rows in float32, of which `before` was written row by row.

    loss : scalar
    weight, bias : (2, width) and (2,), gradients of the last layer
    lower_bias : (width,), gradient of the bias of the layer below
    """

    loss: Tensor
    weight: Tensor
    bias: Tensor
    lower_bias: Tensor


def last_layer(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    measured: tuple[Tensor, Tensor, Tensor],
    slope: float,
    before: Tensor,
    base: tuple[Tensor, Tensor] | None = None,
) -> LastLayer:
    """Compute the loss of rows, the gradients of the last layer, and the gradient of what it takes.

    Parameters
    ----------
    hidden : (rows, width) activations
    weight, bias : (2, width) and (2,) of the last layer, in the type of `hidden`
    measured : value (rows, 2), transfer (rows,) and weight (rows,) in float32, as in `PackedRows`, the weight
        divided by the number of rows over which the loss is a mean
    slope : of the activation where its output is not positive
    before : (rows, width), gets the gradient of the pre-activations of `hidden`
    base : value (rows, 2) of the linear base, and (rows, 2) that gets the loss's gradient by the row's value

    """
    rows, width = hidden.shape
    columns = triton.next_power_of_2(width)
    tile = max(1, VALUES // columns)
    blocks = triton.cdiv(rows, tile * TILES)
    parts = torch.empty(blocks, 3 * width + 3, device=hidden.device)
    from_base, gradient = base or (parts, parts)  # not read
    _last_layer[(blocks,)](
        hidden, weight, bias, *measured, from_base, gradient, before, parts,
        rows, slope, width, base is not None, tile, columns, TILES,
        num_warps=max(1, min(8, columns // 512)),
    )  # fmt: skip
    total = parts.sum(0)
    weights, lower, rest = total.split([2 * width, width, 3])
    return LastLayer(rest[2], weights.view(2, width), rest[:2], lower)


@triton.jit(do_not_specialize=["rows"])
def _last_layer(  # noqa: PLR0913
    hidden, weight, bias, value, transfer, row_weight, from_base, gradient, before, parts,
    rows, slope,
    width: tl.constexpr, BASE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Do up to TILES tiles of ROWS rows; write the sums of loss and gradients into one row of `parts`."""
    block = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    inside = column < width
    weight_a = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    weight_b = tl.load(weight + width + column, mask=inside, other=0.0).to(tl.float32)
    bias_a, bias_b = tl.load(bias).to(tl.float32), tl.load(bias + 1).to(tl.float32)
    local = tl.arange(0, ROWS)
    place = local[:, None] * width + column[None, :]
    sum_a = tl.zeros((COLUMNS,), tl.float32)
    sum_b = tl.zeros((COLUMNS,), tl.float32)
    sum_lower = tl.zeros((COLUMNS,), tl.float32)
    loss = tl.zeros((ROWS,), tl.float32)
    sum_bias_a = tl.zeros((ROWS,), tl.float32)
    sum_bias_b = tl.zeros((ROWS,), tl.float32)
    for tile in range(tl.minimum(TILES, tl.cdiv(rows - block * TILES * ROWS, ROWS))):
        row = (block * TILES + tile) * ROWS + local
        there = row < rows
        both = there[:, None] & inside[None, :]
        start = ((block * TILES + tile) * ROWS).to(tl.int64) * width
        h = tl.load(hidden + start + place, mask=both, other=0.0).to(tl.float32)
        a = tl.sum(h * weight_a[None, :], 1) + bias_a
        b = tl.sum(h * weight_b[None, :], 1) + bias_b
        if BASE:
            a += tl.load(from_base + 2 * row, mask=there, other=0.0)
            b += tl.load(from_base + 2 * row + 1, mask=there, other=0.0)
        # Rows beyond the end have weight 0: they add nothing.
        ctf = tl.load(transfer + row, mask=there, other=0.0)
        w = tl.load(row_weight + row, mask=there, other=0.0)
        residual_a = ctf * a - tl.load(value + 2 * row, mask=there, other=0.0)
        residual_b = ctf * b - tl.load(value + 2 * row + 1, mask=there, other=0.0)
        loss += w * (residual_a * residual_a + residual_b * residual_b)
        by_a, by_b = 2.0 * w * ctf * residual_a, 2.0 * w * ctf * residual_b
        if BASE:
            tl.store(gradient + 2 * row, by_a, mask=there)
            tl.store(gradient + 2 * row + 1, by_b, mask=there)
        sum_bias_a += by_a
        sum_bias_b += by_b
        sum_a += tl.sum(h * by_a[:, None], 0)
        sum_b += tl.sum(h * by_b[:, None], 0)
        lower = by_a[:, None] * weight_a[None, :] + by_b[:, None] * weight_b[None, :]
        lower = tl.where(h > 0, lower, lower * slope)
        sum_lower += tl.sum(lower, 0)
        tl.store(before + start + place, lower.to(before.dtype.element_ty), mask=both)
    part = parts + block.to(tl.int64) * (3 * width + 3)
    tl.store(part + column, sum_a, mask=inside)
    tl.store(part + width + column, sum_b, mask=inside)
    tl.store(part + 2 * width + column, sum_lower, mask=inside)
    tl.store(part + 3 * width, tl.sum(sum_bias_a, 0))
    tl.store(part + 3 * width + 1, tl.sum(sum_bias_b, 0))
    tl.store(part + 3 * width + 2, tl.sum(loss, 0))
