"""Several processes that do one job together, one per GPU: each reads its part of the particles.

All have the same weights. They start from the same seed or checkpoint, and one all-reduce per step sums the
gradients over the processes before the optimiser's step. They are started by `--multigpu`, on several nodes
together with srun, or by torchrun.
"""

import datetime
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from tomohet.companions import with_companions
from tomohet.errors import DoneByCopies, InputError, Interrupted, LostProcess
from tomohet.nodes import ONE_NODE, Node, this_node

# The leader writes volumes and checkpoints while the others wait for it.
PATIENCE = datetime.timedelta(hours=6)
# A process that waits for a lost one inside NCCL does not react to SIGTERM.
GRACE_S = 30.0
LAST_WORDS_S = 10.0

log = logging.getLogger(__name__)


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

    def as_the_leader(self, reason: str, device: torch.device) -> str:
        """Return a reason in all processes where the leader has one, and "" in all where it has none."""
        told = self.add_up(torch.tensor(float(bool(reason) and self.leads), device=device))
        return (reason or "as the leading process says") if told > 0 else ""

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
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    # With its device known, NCCL connects the processes now, and not in the middle of the first step.
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=device if on_gpu else None
    )
    rank, failed = torch.distributed.get_rank(), True
    try:
        with with_companions(rank, size, device):
            yield Processes(rank, size)
        failed = False
    except Interrupted:  # all processes end at the same step
        failed = False
        raise
    finally:
        # NCCL ends its connections together with the others, and those may wait for a step of this one.
        if not (failed and on_gpu):
            torch.distributed.destroy_process_group()


def is_copy() -> bool:
    """Tell whether this process was started as one of several."""
    return "WORLD_SIZE" in os.environ


def start_one_per_gpu(device: torch.device) -> None:
    """With several visible GPUs run this very command once on each, and raise DoneByCopies with their status.

    Where srun has started the command once on each of several nodes, their processes work together.

    Returns with one GPU or a CPU on one node, and in the processes that were started.

    Raises InputError where there is no command to run again, as in a notebook.
    """
    n = torch.cuda.device_count() if device.type == "cuda" else 1
    if is_copy():
        return
    node = this_node()
    if n * node.count > 1:
        raise DoneByCopies(start_copies(n, node))


def share_of(part: tuple[int, int], device: torch.device) -> Processes:
    """Return this process among those that divide a job without further communication.

    `part` (I, N) of the command line, 1 <= I <= N, is divided again among copies, if several were started.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return Processes((part[0] - 1) * size + rank, part[1] * size)


def start_copies(n: int, node: Node = ONE_NODE) -> int:
    """Run this command in n processes; return 0, or the exit status of the first that fails.

    node : this machine, where each of several runs n processes

    When one fails, the others are ended, and one line of the log says which it was. SIGTERM and SIGINT are
    passed on: the copies save and end.
    """
    common = {"WORLD_SIZE": str(n * node.count), "LOCAL_WORLD_SIZE": str(n), "MASTER_ADDR": node.address}
    common |= {"MASTER_PORT": str(node.port or _free_port()), "PYTHONPATH": _python_path()}
    command, first = own_command(), n * node.number
    copies = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(first + i), "LOCAL_RANK": str(i)})
        for i in range(n)
    ]
    with _signals_for(copies):
        _wait_for_a_failure(copies)
        ended = [(copy.poll() == LostProcess.STATUS, i) for i, copy in enumerate(copies) if copy.poll()]
        if not ended:
            return 0
        died_elsewhere, failed = min(ended)
        status = copies[failed].returncode
        if status < 128:  # a failure; at a requested end each process saves by itself
            _end(copies)
            if not died_elsewhere:
                log.error(
                    "process %d of %d (GPU %d) ended %s, so the others were ended too",
                    first + failed + 1, n * node.count, failed, _how(status),
                )  # fmt: skip
        for copy in copies:
            copy.wait()
    return status if status > 0 else 128 - status


def _wait_for_a_failure(copies: list[subprocess.Popen]) -> None:
    """Wait until all processes have ended or one has failed.

    A process that ends because of another's death has status 75. The other one, which may still be saying
    why, gets `LAST_WORDS_S` to end.
    """
    followed = None
    while any(copy.poll() is None for copy in copies):
        failures = {copy.poll() for copy in copies} - {None, 0}
        if failures - {LostProcess.STATUS}:
            return
        if failures:
            followed = followed or time.monotonic()
            if time.monotonic() - followed > LAST_WORDS_S:
                return
        time.sleep(0.1)


def own_command() -> list[str]:
    """Return the command that this process runs, as words for another process.

    Raises InputError unless the command line has started it.
    """
    program, *words = sys.argv
    if not program.startswith("tomohet "):
        raise InputError(
            "multigpu starts a command again on every GPU, which a notebook or script of your own cannot do: "
            "start `tomohet COMMAND ... --multigpu` in a terminal, or leave out multigpu"
        )
    return [sys.executable, "-m", "tomohet.cli", program.removeprefix("tomohet "), *words]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _python_path() -> str:
    """Return the PYTHONPATH with which a process finds this very library."""
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))


@contextmanager
def _signals_for(copies: list[subprocess.Popen]) -> Iterator[None]:
    """Pass SIGTERM and SIGINT on to the processes meanwhile."""

    def pass_on(number: int, _frame) -> None:
        for copy in copies:
            if copy.poll() is None:
                copy.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(copies: list[subprocess.Popen]) -> None:
    """End the processes: by SIGTERM, and after `GRACE_S` by SIGKILL."""
    for copy in copies:
        copy.terminate()
    until = time.monotonic() + GRACE_S
    for copy in copies:
        try:
            copy.wait(timeout=max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            copy.kill()


def _how(status: int) -> str:
    if status > 0:
        return f"with status {status}"
    name = signal.Signals(-status).name
    return f"by {name}" + (" (often: the machine has run out of memory)" if name == "SIGKILL" else "")
