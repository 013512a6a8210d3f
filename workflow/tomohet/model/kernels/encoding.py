"""The positional encoding and the membership of a chunk's rows, written in one pass.

The features are sines and cosines of phases k . f. PyTorch writes the phases in float32 and reads them twice.
This kernel computes each phase in registers, and writes each feature once in the type of the products. The
features stay in memory, because the gradient of the first layer's weights needs them again.
"""

import triton
import triton.language as tl
from torch import Tensor

ROWS, FREQUENCIES = 32, 64


def encode_rows(out: Tensor, k: Tensor, particle: Tensor, first: int, frequencies: Tensor) -> None:
    """Write `[sin(F k), cos(F k), membership]` of every row into `out`.

    Parameters
    ----------
    out : (rows, columns), columns at least 2 m; column 2 m + j is 1 where the particle is `first` + j, else 0
    k : (rows, 3) float32, cycles/px
    particle : (rows,) int64
    frequencies : (m, 3) float32

    """
    rows, columns = out.shape
    half = len(frequencies)
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(half, FREQUENCIES))
    tail = triton.next_power_of_2(max(columns - 2 * half, 1))
    _encode[grid](
        out, k, particle, frequencies, rows, first, columns, half, ROWS, FREQUENCIES, tail, num_warps=4
    )


@triton.jit(do_not_specialize=["rows", "first"])
def _encode(
    out,
    k,
    particle,
    frequencies,
    rows,
    first,
    columns: tl.constexpr,
    half: tl.constexpr,
    ROWS: tl.constexpr,
    FREQUENCIES: tl.constexpr,
    TAIL: tl.constexpr,
):
    """Encode ROWS rows at FREQUENCIES frequencies; programs of the first frequencies do the membership."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    number = tl.program_id(1) * FREQUENCIES + tl.arange(0, FREQUENCIES)
    wave = number < half
    x = tl.load(k + row * 3, mask=there, other=0.0)
    y = tl.load(k + row * 3 + 1, mask=there, other=0.0)
    z = tl.load(k + row * 3 + 2, mask=there, other=0.0)
    phase = x[:, None] * tl.load(frequencies + number * 3, mask=wave, other=0.0)[None, :]
    phase += y[:, None] * tl.load(frequencies + number * 3 + 1, mask=wave, other=0.0)[None, :]
    phase += z[:, None] * tl.load(frequencies + number * 3 + 2, mask=wave, other=0.0)[None, :]
    place = out + row[:, None] * columns + number[None, :]
    both = there[:, None] & wave[None, :]
    tl.store(place, tl.sin(phase).to(out.dtype.element_ty), mask=both)
    tl.store(place + half, tl.cos(phase).to(out.dtype.element_ty), mask=both)
    if tl.program_id(1) == 0:
        member = tl.arange(0, TAIL)
        belongs = (tl.load(particle + row, mask=there, other=-1) - first)[:, None] == member[None, :]
        column = out + row[:, None] * columns + 2 * half + member[None, :]
        tail = there[:, None] & (member < columns - 2 * half)[None, :]
        tl.store(column, belongs.to(tl.float32).to(out.dtype.element_ty), mask=tail)
