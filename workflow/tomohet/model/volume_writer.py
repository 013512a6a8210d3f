"""Writing of maps from the device to disk while the next maps are decoded."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

WAITING = 2  # groups of maps that may wait to be written: a bound on memory


class VolumeWriter:
    """Context manager that calls `write(number, map)` for every map, in its own thread.

    An error of that thread is raised at the next `put`, or at the end.
    """

    def __init__(self, write: Callable[[int, np.ndarray], None]) -> None:
        self._write_one = write
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future] = deque()

    def put(self, first: int, maps: Tensor) -> None:
        """Write `maps` (m, D, D, D), numbered from `first`; return before they are written."""
        while len(self._pending) >= WAITING:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._write, first, *_on_its_way(maps)))

    def _write(self, first: int, maps: Tensor, arrived: Callable[[], None]) -> None:
        arrived()
        for number, volume in enumerate(maps.numpy(), start=first):
            self._write_one(number, volume)

    def __enter__(self) -> "VolumeWriter":
        return self

    def __exit__(self, failed, *_) -> None:
        with self._thread:
            if failed:
                self._thread.shutdown(cancel_futures=True)
                return
            for pending in self._pending:
                pending.result()


def _on_its_way(maps: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """Start to copy maps to the host's memory; return them and a function that waits for the copy."""
    if not maps.is_cuda:
        return maps, lambda: None
    host = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
    host.copy_(maps, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(maps.device))
    return host, copied.synchronize
