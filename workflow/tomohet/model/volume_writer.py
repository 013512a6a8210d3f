"""Writing of maps from the device to disk while the next maps are decoded."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

WAITING = 2  # groups of maps that may wait to be written: a bound on memory
# One thread checks and writes some hundred maps of 96 px in a second, fewer than a GPU decodes. A file of its
# own for each map takes longer: its header has statistics, and the disk must confirm it.
WRITERS = 8


class VolumeWriter:
    """Context manager that calls `write(number, map)` for every map, in threads of its own, in any order.

    An error of these threads is raised at the next `put`, or at the end; maps that still wait are then left.
    """

    def __init__(self, write: Callable[[int, np.ndarray], None]) -> None:
        self._write_one = write
        self._threads = ThreadPoolExecutor(WRITERS)
        self._pending: deque[list[Future]] = deque()

    def put(self, first: int, maps: Tensor) -> None:
        """Write `maps` (m, D, D, D), numbered from `first`; return before they are written."""
        while len(self._pending) >= WAITING:
            self._finish_oldest()
        host, arrived = _on_its_way(maps)
        volumes = enumerate(host.numpy(), start=first)
        self._pending.append([self._threads.submit(self._write, *one, arrived) for one in volumes])

    def _write(self, number: int, volume: np.ndarray, arrived: Callable[[], None]) -> None:
        arrived()
        self._write_one(number, volume)

    def _finish_oldest(self) -> None:
        for written in self._pending.popleft():
            written.result()

    def __enter__(self) -> "VolumeWriter":
        return self

    def __exit__(self, failed, *_) -> None:
        try:
            while self._pending and not failed:
                self._finish_oldest()
        finally:
            self._threads.shutdown(cancel_futures=True)


def _on_its_way(maps: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """Start to copy maps to the host's memory; return them and a function that waits for the copy.

    PyTorch keeps page-locked memory and gives it to a later group of maps, once this group is written.
    """
    if not maps.is_cuda:
        return maps, lambda: None
    host = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
    host.copy_(maps, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(maps.device))
    return host, copied.synchronize
