"""Notice that one of several processes has died, whatever the others wait in.

A process that waits for another's numbers may wait for hours: NCCL does not always notice a lost peer. So
every process keeps a connection to process 0. The operating system closes the connection of a process that
dies, and after `SILENCE_S` that of a machine that is lost. Process 0 tells the others. Each ends by itself,
with what it has to say, or is ended after `GRACE_S`.
"""

import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener, wait

import torch.distributed

from tomohet.errors import LostProcess

SILENCE_S = 15  # of a lost machine
FINISHED = "finished"
GRACE_S = 8.0  # for a process that fails by itself to say why

log = logging.getLogger(__name__)


class Companions:
    """The other processes as seen by this one; `lost` says which of them has died first.

    connections : for process 0 one to each of the others, and for these the one to process 0
    """

    def __init__(self, rank: int, size: int, connections: dict[Connection, tuple[int, str]]) -> None:
        self._rank, self._size, self._connections = rank, size, connections
        # On one machine, what has started the processes says which of them has died.
        self._several_machines = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) < size
        self.lost: str | None = None
        self._noticed, self._over = threading.Event(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="companions", daemon=True)
        self._watcher.start()

    def lost_within(self, seconds: float) -> str | None:
        """Return which process has died, after waiting for the news for some seconds; None if none has."""
        self._noticed.wait(seconds)
        return self.lost

    def part(self, finished: bool) -> None:
        """Leave the others: `finished` after work done, else as a process that has failed."""
        self._over.set()
        if finished:
            for connection in self._connections:
                _say(connection, FINISHED)
        self._watcher.join()
        for connection in self._connections:
            connection.close()

    def _watch(self) -> None:
        """Wait for news from the others until all have finished or one has died."""
        open_ones = dict(self._connections)
        while open_ones and not self._over.is_set():
            for connection in wait(list(open_ones), timeout=0.2):
                rank, host = open_ones.pop(connection)
                try:
                    said = connection.recv()
                except (EOFError, OSError):
                    said = None
                if said == FINISHED or self._over.is_set():
                    continue
                self._end(said or f"process {rank + 1} of {self._size} on {host} has died")
                return

    def _end(self, lost: str) -> None:
        """Note a loss, tell it, and end this process where it does not end by itself."""
        self.lost = lost
        for connection in self._connections if self._rank == 0 else ():
            _say(connection, lost)
        # Process 0 speaks for all; its own loss is told by the next one.
        if self._several_machines and self._rank == (1 if lost.startswith("process 1 ") else 0):
            log.error("%s, so the other %d end too; run the same command to continue", lost, self._size - 1)
        self._noticed.set()
        if not self._over.wait(GRACE_S):
            os._exit(LostProcess.STATUS)


@contextmanager
def with_companions(rank: int, size: int, device: torch.device) -> Iterator[Companions]:
    """Connect the processes of the initialised process group for the time of a work that they share.

    Raises LostProcess where another process has died, in place of the error of the broken exchange.
    """
    companions = Companions(rank, size, _connected(rank, size, device))
    try:
        yield companions
    except RuntimeError as failure:
        lost = companions.lost_within(GRACE_S / 4)
        companions.part(finished=False)
        if lost is None:
            raise
        raise LostProcess(lost) from failure
    except Exception:
        companions.part(finished=False)
        raise
    except BaseException:  # all end together, at the same step
        companions.part(finished=True)
        raise
    companions.part(finished=True)


def _connected(rank: int, size: int, device: torch.device) -> dict[Connection, tuple[int, str]]:
    """Connect every process with process 0, which listens at the address where the group has met."""
    told: list = [None]
    listener = None
    if rank == 0:
        key = secrets.token_bytes(16)
        listener = Listener(("", 0), backlog=size, authkey=key)
        told = [(socket.gethostname(), listener.address[1], key)]
    torch.distributed.broadcast_object_list(told, device=device)
    host, port, key = told[0]
    if listener is None:
        connection = Client((os.environ["MASTER_ADDR"], port), authkey=key)
        connection.send((rank, socket.gethostname()))
        found = {connection: (0, host)}
    else:
        with listener:
            accepted = [listener.accept() for _ in range(size - 1)]
        found = {connection: connection.recv() for connection in accepted}
    for connection in found:
        _keep_alive(connection)
    return found


def _keep_alive(connection: Connection) -> None:
    """Let the system close the connection to a machine that does not answer for `SILENCE_S`."""
    with socket.socket(fileno=os.dup(connection.fileno())) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 3)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 3)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)


def _say(connection: Connection, what: str) -> None:
    with suppress(OSError):  # where the other has gone
        connection.send(what)
