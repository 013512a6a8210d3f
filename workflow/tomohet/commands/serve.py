"""Serve the report of a results folder to a browser of this machine."""

import importlib.util
import logging
import os
import secrets
import signal
import socket
import threading
from pathlib import Path

from tomohet.device import device_of
from tomohet.errors import InputError, Interrupted
from tomohet.files.locks import writing
from tomohet.options import ServeOptions
from tomohet.report.collect import collect
from tomohet.rounds.layout import SERVED
from tomohet.running.work import command

ADDRESS = "127.0.0.1"
NEEDED = ("starlette", "uvicorn")
WORKER = "AnyIO worker thread"  # as anyio names the threads that compute answers
GRACE_S = 1  # for answers under way when the server ends

log = logging.getLogger(__name__)


@command
def run(options: ServeOptions) -> None:
    """Print the address and serve until Ctrl-C."""
    refuse_without_libraries()
    results = collect(options.results).folder  # refuses a folder that holds no results
    if options.tomograms is not None and not options.tomograms.is_dir():
        raise InputError(f"--tomograms {options.tomograms}: no such folder")
    device_of(options.device)  # refuses a GPU that is not there
    folder = (options.folder or results / SERVED).resolve()
    with bound_socket(options.port) as listening, writing(folder):
        serve(options, results, folder, listening)
    leave_unfinished_threads()


def serve(options: ServeOptions, results: Path, folder: Path, listening: socket.socket) -> None:
    """Serve on a listening socket until a signal ends it. Raises Interrupted after SIGTERM."""
    import torch
    import uvicorn

    from tomohet.serving.app import Site, application

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    token = secrets.token_urlsafe(32)
    site = Site(results, folder, options.tomograms, options.device, options.threads)
    port = listening.getsockname()[1]
    print(f"http://{ADDRESS}:{port}/?token={token}", flush=True)
    log.info("serving %s; on another machine first: ssh -L %d:%s:%d HOST", results, port, ADDRESS, port)
    log.info("Ctrl-C ends the server; reconstructions stay in %s", folder)
    config = uvicorn.Config(
        application(site, token),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    signal.signal(signal.SIGTERM, _interrupted)  # called by uvicorn after its own end
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn has ended, and passes Ctrl-C on
        log.info("the server has ended")


def _interrupted(number: int, _frame: object) -> None:
    raise Interrupted(number)


def refuse_without_libraries() -> None:
    """Raise InputError that names the extra when the libraries of the server are not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"tomohet serve needs {' and '.join(missing)}: install the extra `serve`, e.g. "
            "pip install 'tomohet[serve]', or run make install again in the checkout"
        )


def bound_socket(port: int) -> socket.socket:
    """Return a socket that listens on a port of this machine's own address; 0 takes a free port.

    Raises InputError when the port is taken or not allowed.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
        listening.listen()  # from now on requests wait until they are answered
    except OSError as error:
        listening.close()
        raise InputError(
            f"--port {port}: {error.strerror} ({ADDRESS}); give another port, or 0 for a free one"
        ) from error
    return listening


def leave_unfinished_threads() -> None:
    """End the process at once when a thread still computes an answer that nobody waits for any more."""
    workers = [thread for thread in threading.enumerate() if thread.name == WORKER]
    for worker in workers:
        worker.join(0.1)  # the idle ones are ending
    if any(worker.is_alive() for worker in workers):
        logging.shutdown()
        os._exit(0)
