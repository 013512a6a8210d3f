"""Time of repeated work, the matrix-product peak of the same moment, and peak memory."""

import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


class Enough(Exception):  # noqa: N818
    """All repetitions are done."""


@dataclass
class Stopwatch:
    """Mean time of repetitions of some work: `lap` is called before each, and raises `Enough` after the last.

    The first repetitions warm up; how long they take decides how many follow. One that takes longer than
    `long_s` is the measurement itself. Processor time when one thread does it all, because other programs on
    the machine then hardly count; else time of the clock.

    budget_s : for the repetitions after warming up. most : of them
    """

    device: torch.device
    budget_s: float = 3.0
    long_s: float = 8.0
    most: int = 30
    seconds: float = 0.0
    repetitions: int = 0
    _begun: int = 0
    _start: float = 0.0

    def __post_init__(self) -> None:
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        self._clock = time.process_time if alone else time.perf_counter
        self._warm_up = 1 if self.device.type == "cpu" else 3

    @property
    def most_laps(self) -> int:
        """More laps than this are never called for."""
        return self._warm_up + self.most + 1

    def now(self) -> float:
        """Seconds; all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._clock()

    def lap(self) -> None:
        """A repetition begins, and the one before has ended."""
        done = self._begun - self._warm_up
        self._begun += 1
        if done == -1:
            self._start = self.now()
        elif done == 0:
            now = self.now()
            last, self._start = now - self._start, now
            if last > self.long_s:
                self._stop(last, 1)
            self.repetitions = min(max(int(self.budget_s / max(last, 1e-9)), 1), self.most)
        elif done == self.repetitions:
            self._stop((self.now() - self._start) / done, done)

    def _stop(self, seconds: float, repetitions: int) -> None:
        self.seconds, self.repetitions = seconds, repetitions
        raise Enough

    def repeat(self, work: Callable[[], object]) -> None:
        """Time `work`."""
        try:
            while True:
                self.lap()
                work()
        except Enough:
            pass


def matrix_product_peak(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product in the type of the work, at its best."""
    cuda = device.type == "cuda"
    size = 8192 if cuda else 2048
    watch = Stopwatch(device)
    a = torch.randn(size, size, device=device, dtype=dtype)
    times = []
    for _ in range(8 if cuda else 4):
        start = watch.now()
        a @ a
        times.append(watch.now() - start)
    return 2 * size**3 / min(times[1:]) / 1e9


def peak_memory_MB(device: torch.device) -> float:
    """Most memory of tensors on a GPU, or of this process, its interpreter and libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def device_name(device: torch.device) -> str:
    """The GPU, or the processor and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'' if threads == 1 else 's'}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or os.uname().machine
