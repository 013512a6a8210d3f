"""Several processes that do one job together, one per GPU: each reads its part of the particles.

All have the same weights. They start from the same seed or checkpoint, and one all-reduce per step sums the
gradients over the processes before the optimiser's step. They are started by `--multigpu` or by torchrun.
"""

import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from torch import Tensor

# The leader writes volumes and checkpoints while the others wait for it.
PATIENCE = datetime.timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """Rank (from 0) of this process among `size` processes; only the leader, rank 0, writes files."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return this process's part of n items: consecutive, as even as possible."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def add_up(self, values: Tensor) -> Tensor:
        """Sum `values` over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def joined_parts(self, own: Tensor, n: int) -> Tensor:
        """Join (n, ...) of all processes, each of which has the rows `part(n)`."""
        if self.size == 1:
            return own
        whole = own.new_zeros(n, *own.shape[1:])
        whole[self.part(n)] = own
        return self.add_up(whole)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            torch.distributed.barrier()

    def gathered(self, rows: np.ndarray, values: np.ndarray, n: int, device: torch.device) -> np.ndarray:
        """Gather (n, ...) float32 from each process's `values` at its `rows`; rows of no process are NaN."""
        if self.size == 1 and len(rows) == n:
            return values
        whole = np.zeros((n, *values.shape[1:]), np.float32)
        whole[rows] = values
        there = np.zeros(n, np.float32)
        there[rows] = 1
        if self.size > 1:
            whole, there = (self.add_up(torch.from_numpy(x).to(device)).cpu().numpy() for x in (whole, there))
        whole[there == 0] = np.nan
        return whole


ALONE = Processes()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun or `start_copies` has started.

    Without any, this process is alone.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()


def is_copy() -> bool:
    """Tell whether this process was started as one of several."""
    return "WORLD_SIZE" in os.environ


def start_one_per_gpu(device: torch.device) -> None:
    """Run this command once on each of several visible GPUs, and exit with their status.

    Returns on a CPU, with one GPU, and in the processes that were started.
    """
    n = torch.cuda.device_count() if device.type == "cuda" else 1
    if n > 1 and not is_copy():
        sys.exit(start_copies(n))


def share_of(part: tuple[int, int], device: torch.device) -> Processes:
    """Return this process among those that divide a job without further communication.

    `part` (I, N) of the command line, 1 <= I <= N, is divided again among copies, if several were started.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return Processes((part[0] - 1) * size + rank, part[1] * size)


def start_copies(n: int) -> int:
    """Run this command in n processes; return the exit status of the first that fails, or 0.

    When one fails the others are terminated. SIGTERM and SIGINT are passed on: the copies save and end.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1"}
    common["MASTER_PORT"] = str(port)
    command = [sys.executable, *sys.orig_argv[1:]]
    copies = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(n)
    ]

    def pass_on(number: int, _frame) -> None:
        for copy in copies:
            if copy.poll() is None:
                copy.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while any(copy.poll() is None for copy in copies) and not any(copy.poll() for copy in copies):
        time.sleep(0.2)
    failed = [copy.poll() for copy in copies if copy.poll()]
    if failed and failed[0] < 128:  # a failure; at a requested end each process saves by itself
        for copy in copies:
            copy.terminate()
    for copy in copies:
        copy.wait()
    return failed[0] if failed else 0
