"""Requests to stop from outside: SIGTERM (time limit, preemption) and Ctrl-C."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


class StopRequest:
    """`signal` is the number of the signal that asked for the end, or None."""

    signal: int | None = None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT instead of ending at once; a second SIGINT interrupts at once."""
    request = StopRequest()

    def note(number: int, _frame) -> None:
        if number == signal.SIGINT and request.signal == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agreed_stop(request: StopRequest, told: Tensor | None, checked: bool) -> int | None:
    """Return the signal to stop for, the same in all processes.

    told : the signals of all processes, None for one process. Processes compare them only at steps where all
        of them check (`checked`)
    """
    if told is None:
        return request.signal
    return int(told.max()) or None if checked else None
