"""The gradient of a layer's pre-activations, from the gradient of the output of the layer above.

It is (gradient @ weight) times the activation's slope. Its sum over rows is the gradient of the layer's bias.
There are two ways. `in_the_product` is a product whose tiles get the slope, and give their sums, before they
are written. It reads the activations once and passes over nothing else. `after_the_product` lets cuBLAS do
the product, and does the rest in one pass. It reads two arrays of the size of the activations and writes one.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS, TILES = 32, 128, 8  # of one pass after a product


def after_the_product(
    gradient: Tensor, weight: Tensor, lower: Tensor, slope: float, out: Tensor, sums: bool
) -> Tensor | None:
    """Compute as `in_the_product` does, with the product by PyTorch."""
    torch.mm(gradient, weight, out=out)
    rows, width = out.shape
    blocks = triton.cdiv(rows, ROWS * TILES)
    parts = torch.empty(blocks if sums else 0, width, device=out.device)
    _slope_and_sum[(blocks, triton.cdiv(width, COLUMNS))](
        out, lower, parts, rows, slope, width, sums, ROWS, COLUMNS, TILES, num_warps=4
    )
    return parts.sum(0) if sums else None


def in_the_product(
    gradient: Tensor,
    weight: Tensor,
    lower: Tensor,
    slope: float,
    out: Tensor,
    sums: bool,
    tile: tuple[int, int, int] = (128, 128, 64),
    num_warps: int = 8,
    num_stages: int = 3,
) -> Tensor | None:
    """Write the gradient of the pre-activations into `out`, and return its sum over rows.

    Products of bfloat16 accumulate in float32, as the sums do.

    Parameters
    ----------
    gradient : (rows, inner) of the upper layer's output
    weight : (inner, width) of the upper layer
    lower : (rows, width) activations that the upper layer takes; their sign tells the activation's slope
    slope : of the activation where its output is not positive
    out : (rows, width)
    sums : whether the sums (width,) float32 are wanted; otherwise None is returned
    tile : rows, columns and inner columns of a tile
    num_warps, num_stages : of each program, as Triton has it

    """
    rows, inner = gradient.shape
    width = weight.shape[1]
    blocks = triton.cdiv(rows, tile[0])
    parts = torch.empty(blocks if sums else 0, width, device=out.device)
    _product[(blocks * triton.cdiv(width, tile[1]),)](
        gradient, weight, lower, out, parts, rows, slope, inner, width, sums, *tile,
        num_warps=num_warps, num_stages=num_stages,
    )  # fmt: skip
    return parts.sum(0) if sums else None


@triton.jit(do_not_specialize=["rows"])
def _slope_and_sum(
    gradient, lower, parts, rows, slope,
    width: tl.constexpr, SUMS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Apply the slope to up to TILES tiles of ROWS rows in place; write the sums of the block's columns."""
    block = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    local = tl.arange(0, ROWS)
    place = local[:, None] * width + column[None, :]
    total = tl.zeros((COLUMNS,), tl.float32)
    for tile in range(tl.minimum(TILES, tl.cdiv(rows - block * TILES * ROWS, ROWS))):
        row = (block * TILES + tile) * ROWS
        both = (row + local < rows)[:, None] & inside[None, :]
        start = row.to(tl.int64) * width
        one = tl.load(gradient + start + place, mask=both, other=0.0).to(tl.float32)
        positive = tl.load(lower + start + place, mask=both, other=0.0).to(tl.float32) > 0
        one = tl.where(positive, one, one * slope)
        tl.store(gradient + start + place, one.to(gradient.dtype.element_ty), mask=both)
        if SUMS:
            total += tl.sum(one, 0)
    if SUMS:
        tl.store(parts + block.to(tl.int64) * width + column, total, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _product(
    gradient, weight, lower, out, parts, rows, slope,
    inner: tl.constexpr, width: tl.constexpr, SUMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """Do one tile of the product. Programs that share rows follow one another: the rows stay in cache."""
    across = tl.cdiv(width, COLUMNS)
    block = tl.program_id(0) // across
    first = (block * ROWS).to(tl.int64)
    row = tl.arange(0, ROWS)
    column = (tl.program_id(0) % across) * COLUMNS + tl.arange(0, COLUMNS)
    there, inside = row < rows - block * ROWS, column < width
    gradient += first * inner
    lower += first * width
    out += first * width
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, inner, INNER):
        step = start + tl.arange(0, INNER)
        within = step < inner
        left = tl.load(
            gradient + row[:, None] * inner + step[None, :], mask=there[:, None] & within[None, :], other=0.0
        )
        right = tl.load(
            weight + step[:, None] * width + column[None, :],
            mask=within[:, None] & inside[None, :],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision="ieee")
    both = there[:, None] & inside[None, :]
    place = row[:, None] * width + column[None, :]
    positive = tl.load(lower + place, mask=both, other=0.0).to(tl.float32) > 0
    total = tl.where(positive, total, total * slope)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=both)
    if SUMS:
        tl.store(parts + block.to(tl.int64) * width + column, tl.sum(total, 0), mask=inside)
