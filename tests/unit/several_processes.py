"""Commands as several processes, on CPU, with gloo: copies of the test's, which has loaded PyTorch."""

import os
import socket
from importlib import import_module
from pathlib import Path

import forked


class Copy:
    """A command in a copy of this process, as far as the tests use a `subprocess.Popen`."""

    def __init__(self, words, environment):
        self._process, self._text = forked.start(
            [tuple(map(str, words))], Path.cwd(), lambda: os.environ.update(environment)
        )
        self.returncode = None

    def send_signal(self, number):
        os.kill(self._process, number)

    def communicate(self, timeout=forked.LONGEST_S):
        """Wait until it ends, at most so long; nothing, and all it said."""
        ended = forked.wait(self._process, self._text, timeout)
        self.returncode = ended.status
        return "", ended.said


def start(size, name, *arguments):
    """Start `size` processes of the command `name` with the variables that torchrun sets."""
    import_module("torch._dynamo")  # which optimizers load
    import_module(f"tomohet.commands.{name}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    several = {"WORLD_SIZE": str(size)} if size > 1 else {}
    return [
        Copy([name, *arguments], common | several | ({"RANK": str(rank)} if size > 1 else {}))
        for rank in range(size)
    ]


def run(size, name, *arguments):
    """Run the processes to their end, which must be a success."""
    for process in start(size, name, *arguments):
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
