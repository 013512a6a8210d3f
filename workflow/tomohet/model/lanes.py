"""Independent shares of a computation on the threads of a CPU.

Threads that share every small matrix product wait for each other at each, and badly so when another program
has one of the cores. With a share of the rows each, they meet once.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Share = TypeVar("Share")
Result = TypeVar("Result")


def lane_count(device: torch.device, most: int) -> int:
    """How many shares to make: one per thread of a CPU, at most `most`; one on a GPU."""
    return max(1, min(torch.get_num_threads(), most)) if device.type == "cpu" else 1


def run_in_lanes(work: Callable[[Share], Result], shares: Sequence[Share]) -> list[Result]:
    """Results of `work` on every share, in order; each share on a thread of its own, without gradients."""
    if len(shares) == 1:
        return [work(shares[0])]

    def without_graph(share: Share) -> Result:
        # Whether PyTorch records a graph is a setting of each thread.
        with torch.no_grad():
            return work(share)

    return list(_threads(len(shares)).map(without_graph, shares))


@functools.cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,))
