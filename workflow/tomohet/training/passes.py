"""Forward and backward pass of a training step from buffers at fixed addresses, replayed as one CUDA graph.

Launching hundreds of small kernels one by one takes longer than the kernels. A CUDA graph launches all of
them at once, but repeats exactly what was recorded: same addresses, same sizes. So everything that a step
needs of its batch is written to fixed buffers by one copy from the host. The numbers of images and of Fourier
points are rounded up to a few sizes, with one graph per size. Images and points so added have no weight.

The first batch of a size is computed without a graph, and the second is recorded. The first replays are
compared with the same batch computed without a graph. Where a graph cannot be recorded or gives other
numbers, one line in the log says so, and no graph is used any more. Both ways compute the same numbers, so a
continued training repeats the uninterrupted one.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from tomohet.model.rows import rows_drawn
from tomohet.training.batches import Batch, Fetched, ParticleImages, Whole

log = logging.getLogger(__name__)

RUNGS = 16  # sizes between two powers of two: at most 1/16 of a batch is added
CHECKED_REPLAYS = 2  # of every graph
TOLERANCE = 1e-3  # of a gradient's norm; a graph with stale or missing inputs is far beyond it
LEAST = 1e-3  # of the largest gradient's norm: smaller gradients may be rounding errors
MOST_GRAPHS = 16  # each keeps its buffers


class Graph(Protocol):
    """Work recorded once and replayed at the same addresses."""

    def record(
        self, work: Callable[[], None], generator: torch.Generator, beside: "Graph | None" = None
    ) -> None:
        """Record the operations of `work`; raises RuntimeError where that is impossible.

        generator : gives the random numbers
        beside : another graph, never replayed at the same time, whose workspace may be shared
        """

    def replay(self) -> None:
        """Repeat the recorded operations."""


class CudaGraph:
    """A `torch.cuda.CUDAGraph`. A replay draws as `generator`, seeded anew, would draw outside of a graph."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(
        self, work: Callable[[], None], generator: torch.Generator, beside: "CudaGraph | None" = None
    ) -> None:
        """Record the operations of `work`; raises RuntimeError where that is impossible."""
        pool = None if beside is None else beside._graph.pool()
        self._graph.register_generator_state(generator)
        # Threads that read the next batches go on meanwhile.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            work()

    def replay(self) -> None:
        """Launch the recorded operations."""
        self._graph.replay()


class Size(NamedTuple):
    """What the buffers of a batch and its graph depend on.

    particles, whole_particles, first : of this process's part, of the whole batch, and where the part begins
    images, rows : numbers of images and of Fourier points, rounded up
    """

    particles: int
    whole_particles: int
    first: int
    images: int
    rows: int


class Buffers:
    """Inputs of one step at fixed addresses on the device."""

    def __init__(self, size: Size, stored: Tensor) -> None:
        self.size = size
        images, particles = size.images, size.particles
        self._numbers = torch.zeros(2 * images + 2 * particles + 3, dtype=torch.int64, device=stored.device)
        self._stored = stored.new_zeros(images, *stored.shape[1:])

    def fill(self, fetched: Fetched, beta: float) -> None:
        """Write a batch and its beta, by one copy from the host and one on the device."""
        size, m = self.size, len(fetched.numbers)
        index = np.full(size.images, fetched.numbers[0])  # of added images: any that exists
        index[:m] = fetched.numbers
        prefix = np.zeros(size.images, np.int64)
        prefix[:m] = fetched.prefix
        scalars = np.array([fetched.whole.rows, fetched.whole.points, beta]).view(np.int64)
        numbers = torch.from_numpy(np.concatenate([index, prefix, fetched.tilts, fetched.positions, scalars]))
        if self._numbers.is_cuda:
            numbers = numbers.pin_memory()
        self._numbers.copy_(numbers, non_blocking=True)
        self._stored[:m].copy_(fetched.stored)

    def batch(self, images: ParticleImages) -> tuple[Batch, Tensor]:
        """Gather the batch from the buffers alone; also return beta."""
        size = self.size
        parts = [size.images, size.images, size.particles, size.particles, 3]
        index, prefix, tilts, positions, scalars = self._numbers.split(parts)
        rows, points, beta = scalars.view(torch.float64).float().unbind()
        whole = Whole(size.whole_particles, rows, points, size.first)
        return images.batch_of(index, self._stored, positions, prefix, tilts, whole, size.rows), beta


@dataclass
class _Sized:
    """State of one size: its buffers, its graph once recorded, and how many replays were compared."""

    buffers: Buffers
    graph: Graph | None = None
    compared: int = 0


@dataclass
class FixedPasses:
    """Losses and gradients of batches from fixed buffers.

    objective : has `losses_at(batch, beta, generator)` and `beta_after(seen)`
    trained : parameters that get gradients; the gradients' addresses are fixed as well
    fraction : of the Fourier points that is drawn
    graph : makes an empty graph
    """

    objective: object
    images: ParticleImages
    trained: Sequence[Tensor]
    fraction: float
    graph: Callable[[], Graph] = CudaGraph
    usable: bool = True
    replays: int = 0
    _sizes: dict[Size, _Sized] = field(default_factory=dict)
    _gradients: list[Tensor] | None = None
    _generator: torch.Generator | None = None

    def begin(self, images: ParticleImages) -> None:
        """Record everything anew, on `images`: the network, or what is known of the images, has changed."""
        self.images = images
        self._sizes.clear()
        self._gradients = None

    def __call__(self, fetched: Fetched, seen: int, seed: int) -> Tensor:
        """Compute (total, gen, kld), (3,) float64 on the device, and set the parameters' gradients."""
        if self._generator is None:
            self._generator = torch.Generator(self.images.device)
        size = _size(fetched, self.fraction)
        first = size not in self._sizes
        if first:
            self._sizes[size] = _Sized(Buffers(size, fetched.stored))
        sized = self._sizes[size]
        sized.buffers.fill(fetched, self.objective.beta_after(seen))
        if not first and self.usable and sized.graph is None and len(self._graphs()) < MOST_GRAPHS:
            self._record(sized)
        self._generator.manual_seed(seed)
        if sized.graph is None or not self.usable:
            self._compute(sized.buffers)
        else:
            sized.graph.replay()
            self.replays += 1
            if sized.compared < CHECKED_REPLAYS:
                self._compare(sized, seed)
        gradients = iter(self._gradients)
        for parameter, used in zip(self.trained, self._used, strict=True):
            parameter.grad = next(gradients) if used else None
        return self._losses.clone()

    def _graphs(self) -> list[Graph]:
        return [sized.graph for sized in self._sizes.values() if sized.graph is not None]

    def _compute(self, buffers: Buffers) -> None:
        """Write losses and gradients of the batch in the buffers to their fixed addresses."""
        batch, beta = buffers.batch(self.images)
        losses = self.objective.losses_at(batch, beta, self._generator)
        gradients = torch.autograd.grad(losses[0], self.trained, allow_unused=True)
        found = [gradient for gradient in gradients if gradient is not None]
        if self._gradients is None:
            self._used = [gradient is not None for gradient in gradients]
            self._gradients = [torch.empty_like(gradient) for gradient in found]
            self._losses = torch.empty(len(losses), dtype=torch.float64, device=self.images.device)
        torch._foreach_copy_(self._gradients, found)
        self._losses.copy_(torch.stack([loss.detach() for loss in losses]))

    def _record(self, sized: _Sized) -> None:
        graph = self.graph()
        try:
            graph.record(
                lambda: self._compute(sized.buffers), self._generator, next(iter(self._graphs()), None)
            )
        except RuntimeError as error:
            self._do_without(f"a step cannot be recorded ({' '.join(str(error).split())[:200]})")
        else:
            sized.graph = graph

    def _compare(self, sized: _Sized, seed: int) -> None:
        """Compare a replay with the same step without a graph, whose results stay."""
        replayed = [self._losses.clone(), *(gradient.clone() for gradient in self._gradients)]
        self._generator.manual_seed(seed)
        self._compute(sized.buffers)
        expected = [self._losses, *self._gradients]
        off, size = (
            np.array([float(torch.linalg.vector_norm(one)) for one in numbers])
            for numbers in (torch._foreach_sub(replayed, expected), expected)
        )
        size[1:] = size[1:].clip(LEAST * size[1:].max())
        sized.compared += 1
        # Where the step's own losses are not finite, the training ends anyway.
        if np.isfinite(size).all() and not (off <= TOLERANCE * size).all():
            worst = np.max(off[size > 0] / size[size > 0])
            self._do_without(f"a replay differs from the step itself by {worst:.2g} of its size")

    def _do_without(self, reason: str) -> None:
        log.warning("training steps run without CUDA graphs, more slowly: %s", reason)
        self.usable = False
        self._generator = torch.Generator(self.images.device)
        for sized in self._sizes.values():
            sized.graph = None


def rounded_up(n: int) -> int:
    """Return the next of few sizes: multiples of a power of two, at most 1/`RUNGS` above `n`."""
    step = 1 << max(0, n.bit_length() - RUNGS.bit_length())
    return -(-n // step) * step


def _size(fetched: Fetched, fraction: float) -> Size:
    rows = int(rows_drawn(fetched.prefix, fraction).sum())
    return Size(
        len(fetched.positions),
        fetched.whole.particles,
        fetched.whole.first,
        rounded_up(len(fetched.numbers)),
        rounded_up(max(rows, 1)),
    )
