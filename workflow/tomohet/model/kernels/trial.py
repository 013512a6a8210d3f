"""Whether the kernels work on this machine: tried once per card and type, on small numbers."""

import logging
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tomohet.model.decoder import Decoder
from tomohet.model.linear_base import LinearBase
from tomohet.model.rows import PackedRows
from tomohet.model.sweep import DecoderSweep

BOX, ZDIM, WIDTH, N_BASIS = 16, 4, 64, 2
OFFSETS = np.array([0, 150, 151, 300])  # of the particles' rows: ragged, and one particle of one row
CHUNK_ROWS = 200
# The error may be this many times that of the reference in the same type, plus this share of the numbers.
TIMES, SHARE = 2.0, {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-2}

log = logging.getLogger(__name__)


@cache
def kernels_agree(device: torch.device, dtype: torch.dtype, activation: str) -> bool:
    """Compare loss and gradients of the sweep in kernels with those of the reference; log a difference.

    In half precision the reference has errors as well. Its float32 sweep tells how large they are.
    """
    try:
        from tomohet.model.kernels.sweep import KernelSweep

        found = _results(KernelSweep, device, dtype, activation)
        reference = _results(DecoderSweep, device, dtype, activation)
        exact = _results(DecoderSweep, device, torch.float32, activation)
    except Exception as failure:  # what Triton raises differs: it may lack a compiler, or know no such card
        reason = " ".join(f"{type(failure).__name__} {failure}".split())[:200]
        log.warning("training does without kernels in Triton, which takes longer: %s", reason)
        return False
    agree = all(_close(*one, SHARE[dtype]) for one in zip(found, reference, exact, strict=True))
    if not agree:
        log.warning("kernels in Triton compute something else on %s: training does without them", device)
    return agree


@torch.no_grad()
def _results(sweep: type[DecoderSweep], device: torch.device, dtype, activation: str) -> list[Tensor]:
    decoder, rows, z = small_problem(device, activation)
    done = sweep(decoder.folded(dtype), rows, z, CHUNK_ROWS, decoder.base).run()
    return done.totals()


@torch.no_grad()
def small_problem(
    device: torch.device, activation: str, n_basis: int = N_BASIS
) -> tuple[Decoder, PackedRows, Tensor]:
    """Make a decoder over a linear base of random maps, 300 rows of three particles, and latents.

    Without maps (`n_basis` 0) the decoder has no base. The numbers are always the same.
    """
    draw = torch.Generator().manual_seed(0)
    decoder = Decoder(BOX, ZDIM, 2, WIDTH, activation=activation, n_basis=n_basis, generator=draw)
    for parameter in decoder.decoder.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=draw) / WIDTH**0.5)
    if isinstance(decoder.base, LinearBase):
        maps = torch.randn(n_basis + 1, BOX, BOX, BOX, generator=draw) / BOX**1.5
        decoder.base.fill(maps[0], maps[1:])
    count = int(OFFSETS[-1])
    rows = PackedRows(
        k=(torch.rand(count, 3, generator=draw, dtype=torch.float32) - 0.5).to(device),
        value=torch.randn(count, 2, generator=draw).to(device),
        transfer=(torch.rand(count, generator=draw) * 2 - 1).to(device),
        weight=torch.rand(count, generator=draw).to(device),
        particle=torch.repeat_interleave(torch.arange(3), torch.as_tensor(np.diff(OFFSETS))).to(device),
        offsets=OFFSETS,
        full_count=count,
    )
    return decoder.to(device), rows, torch.randn(3, ZDIM, generator=draw).to(device)


def _close(found: Tensor, reference: Tensor, exact: Tensor, share: float) -> bool:
    error, allowed = (found - exact).norm(), (reference - exact).norm()
    return bool(error <= TIMES * allowed + share * exact.norm())
