"""A small results folder with a linear model, a network and a store, and its server in the test's process."""

import asyncio
import json
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pandas as pd
import uvicorn
import yaml

from tomohet.serving.app import Site, application

TOKEN = "a token of the tests"
CONFIG = {
    "dataset": "tiny",
    "homogeneous": {"recon_tilt_weight": True, "seed": 3},
    "volumes": {"flip": True},
    "rounds": {"all": {"volumes": {"invert": True}}},
}


def make_served(root: Path, store: Path, linear: Path, network: Path) -> Path:
    """Write a results folder `root` with one round, `all`, from a store and two trainings; return it."""
    shutil.copytree(store, root / "prepared")
    shutil.copytree(linear, root / "all" / "linear")
    shutil.copytree(network, root / "all" / "train_vae")
    table = pd.read_parquet(store / "particles.parquet")[["particle", "tomogram", "n_tilts"]]
    table["kmeans"] = np.arange(len(table)) % 3
    # Rows are not particles: row 0 is the last particle.
    table.iloc[::-1].to_parquet(root / "all" / "particles.parquet", index=False)
    (root / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return root


class Served:
    """A running server, and requests to it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, address: str, body=None, token: str | None = TOKEN, **headers):
        """Return status, headers and content of the answer; JSON content as a value."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        known = {} if token is None else {"Authorization": f"Bearer {token}"}
        known |= {} if body is None else {"Content-Type": "application/json"}
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(
            method, address, sent, known | {k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kind = answer.headers.get("content-type", "")
        return answer.status, answer.headers, json.loads(content) if kind == "application/json" else content

    def finished(self, mean: dict) -> dict:
        """Wait for the end of a reconstruction and return its description."""
        until = time.monotonic() + 120
        while mean["state"] in ("waiting", "running"):
            assert time.monotonic() < until, mean
            time.sleep(0.2)
            mean = self.ask("GET", f"/mean?job={mean['job']}")[2]
        return mean


@contextmanager
def serving(results: Path, folder: Path | None = None, tomograms: Path | None = None, routes=()):
    """Serve a results folder, and a test's own routes, on a free port of this machine in the block."""
    folder = folder or results / "served"
    folder.mkdir(exist_ok=True)
    site = Site(results, folder, tomograms, "cpu", 1)
    app = application(site, TOKEN)
    app.router.routes[:0] = routes
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        try:
            yield Served(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
