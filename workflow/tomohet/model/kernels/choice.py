"""Which way of computing the lower gradient is the fastest on this card: tried once per shape, and kept.

cuBLAS's product alone is hard to beat. A product that does the rest as well saves passes over memory. Which
of the two wins depends on the card, the shape and the version of Triton. `chosen` keeps the choice.
"""

import logging
from collections.abc import Callable
from functools import partial

import torch
import triton.testing
from torch import Tensor

from tomohet.model.kernels.chosen import choose, chosen
from tomohet.model.kernels.lower_gradient import after_the_product, in_the_product

Way = Callable[..., Tensor | None]

WAYS: dict[str, Way] = {
    "cuBLAS and one pass": after_the_product,
    "tiles of 128 x 128": partial(in_the_product, tile=(128, 128, 64), num_warps=8, num_stages=3),
    "tiles of 128 x 256": partial(in_the_product, tile=(128, 256, 64), num_warps=8, num_stages=3),
    "tiles of 64 x 128": partial(in_the_product, tile=(64, 128, 64), num_warps=4, num_stages=4),
}
FIRST = "cuBLAS and one pass"
GAIN = 0.95  # of the time of the first way: another way must take less, or noise would decide
TOLERANCE = 2e-2  # of the largest number, between ways whose products round in bfloat16
COMPARED_ROWS = 65_536  # at most: a copy of all rows may be too large
LEAST_ROWS = 4096  # of a product that can fill a card
TRIAL_MS = 20

log = logging.getLogger(__name__)


def lower_gradient(
    gradient: Tensor, weight: Tensor, lower: Tensor, slope: float, out: Tensor, sums: bool
) -> Tensor | None:
    """Write the gradient of a layer's pre-activations into `out` (rows, width); return its sum over rows.

    The arguments are those of `lower_gradient.in_the_product`. The first call of a shape tries every way,
    except while a CUDA graph is captured, when nothing can be timed.
    """
    shape = (str(out.dtype), *weight.shape, len(out).bit_length(), sums)
    name = chosen(shape)
    if name not in WAYS and _can_try(out):
        name, times = fastest((gradient, weight, lower, slope, out, sums))
        choose(shape, name)
        log.info(
            "gradient through %d x %d weights of %d rows: %s (%s)",
            *weight.shape,
            len(out),
            name,
            ", ".join(f"{one}: {time:.3f} ms" for one, time in times.items()),
        )
    return WAYS.get(name or FIRST, WAYS[FIRST])(gradient, weight, lower, slope, out, sums)


def fastest(
    arguments: tuple, timer: Callable[[Callable], float] | None = None
) -> tuple[str, dict[str, float]]:
    """Return the name of the fastest way that gives the numbers of the first, and the time of each, ms.

    arguments : of `lower_gradient`
    timer : returns the time of a call, ms; None measures with Triton's tools
    """
    timer = timer or _milliseconds
    expected = _result(WAYS[FIRST], arguments)
    times = {FIRST: timer(lambda: WAYS[FIRST](*arguments))}
    for name, way in WAYS.items():
        if name == FIRST:
            continue
        try:
            agrees = all(map(_close, _result(way, arguments), expected))
            if agrees:
                times[name] = timer(lambda way=way: way(*arguments))
        except (
            Exception
        ) as failure:  # what Triton raises differs: no compiler, no memory, no such instruction
            log.debug("%s: %s", name, failure)
            continue
        if not agrees:
            log.warning("the gradient by %s differs from that by cuBLAS: not used", name)
    name = min(times, key=times.__getitem__)
    return (name if times[name] < GAIN * times[FIRST] else FIRST), times


def _can_try(out: Tensor) -> bool:
    """Say whether the ways are to be tried: for half precision and many rows, outside of a capture."""
    half = out.dtype in (torch.bfloat16, torch.float16)
    return out.is_cuda and half and len(out) >= LEAST_ROWS and not torch.cuda.is_current_stream_capturing()


def _result(way: Way, arguments: tuple) -> list[Tensor]:
    sums = way(*arguments)
    out = arguments[4][:COMPARED_ROWS].to(torch.float32, copy=True)
    return [out] if sums is None else [out, sums]


def _close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _milliseconds(call: Callable) -> float:
    return float(triton.testing.do_bench(call, warmup=TRIAL_MS // 2, rep=TRIAL_MS, return_mode="median"))  # pyright: ignore[reportArgumentType]
