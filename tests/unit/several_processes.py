"""Commands that run as several processes, on CPU, with gloo."""

import os
import socket
import subprocess
import sys

from tomohet.cli import SCRIPTS


def start(size, name, *arguments):
    """Start `size` processes of the command `name` as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, SCRIPTS / f"{name}.py", *arguments]
    common = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    several = {"WORLD_SIZE": str(size)} if size > 1 else {}
    return [
        subprocess.Popen(
            list(map(str, command)),
            env=common | several | ({"RANK": str(rank)} if size > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def run(size, name, *arguments):
    """Run the processes to their end, which must be a success."""
    for process in start(size, name, *arguments):
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
