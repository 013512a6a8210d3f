"""Independent shards of a computation, each on one thread of a CPU.

Threads that share a matrix product synchronise at every small product, which is slow when another program
occupies one of the cores. Threads that each have a shard of the rows synchronise only once.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Share = TypeVar("Share")
Result = TypeVar("Result")


def lane_count(device: torch.device, most: int) -> int:
    """Return how many shards to make: one per thread of a CPU, at most `most`; one on a GPU."""
    return max(1, min(torch.get_num_threads(), most)) if device.type == "cpu" else 1


def run_in_lanes(work: Callable[[Share], Result], shares: Sequence[Share]) -> list[Result]:
    """Run `work` on every shard, each on its own thread without gradients; return the results in order."""
    if len(shares) == 1:
        return [work(shares[0])]

    def without_graph(share: Share) -> Result:
        # Whether PyTorch records a graph is set for each thread.
        with torch.no_grad():
            return work(share)

    return list(_threads(len(shares)).map(without_graph, shares))


@functools.cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,))
