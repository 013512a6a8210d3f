"""How time and memory of the linear model grow with the number of particles.

    python tests/benchmarks/bench_linear_growth.py [--particles 250 500 1000 2000] [--zdim 2]

Stores of noise images (box 32, 21 tilts); every fit in a process of its own, with the same number of
iterations of EM: how many it takes to settle depends on what there is to be found. Prints CPU seconds per
particle, also relative to the fewest particles, and peak memory, of which `fit MB` is what comes on top of
the program, its tables and libraries. Pages of the images' file, which the system keeps as long as it has
room, do not count.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
from bench_memory import Case, write_store

CASE = Case("box 32, 21 tilts", 32, 21, "float32", "")
ITERATIONS = 6
MB = 1e6


def anonymous_bytes() -> int:
    """Memory of this process without pages of files."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


class Peak:
    """A context that keeps the most `anonymous_bytes` seen in it, every 5 ms."""

    def __enter__(self) -> "Peak":
        self.most, self._over = anonymous_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, anonymous_bytes())

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()


def fit(store: Path, zdim: int | None) -> dict:
    """Fit in this process: CPU seconds, and memory before and at most."""
    import numpy as np

    from tomohet.linear import basis_maps
    from tomohet.linear.fit import fit_linear_model
    from tomohet.particles.store import open_store

    opened = open_store(store)
    basis_maps.SETTLED = 0.0
    before, start = anonymous_bytes(), time.thread_time()
    with Peak() as peak:
        everyone = np.arange(len(opened.particles))
        fit_linear_model(opened, everyone, zdim=zdim, iterations=ITERATIONS)
    spent = time.thread_time() - start
    return {
        "CPU s": spent,
        "peak MB": peak.most / MB,
        "fit MB": (peak.most - before) / MB,
    }


def fitted_apart(particles: int, zdim: int | None) -> dict:
    """The same in a process of its own, on a store of so many particles."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        write_store(store, CASE, particles * CASE.bytes_per_particle)
        words = [sys.executable, __file__, "--only-fit", store]
        words += [] if zdim is None else ["--zdim", zdim]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return {"particles": particles} | json.loads(done.stdout)


def main() -> None:
    """Fit each, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--particles", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--zdim", type=int, help="as many as held-out tilts confirm, if not given")
    parser.add_argument("--only-fit", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_fit:
        print(json.dumps(fit(args.only_fit, args.zdim)))
        return
    table = pd.DataFrame(fitted_apart(particles, args.zdim) for particles in args.particles)
    table["ms per particle"] = 1000 * table["CPU s"] / table["particles"]
    table["relative"] = table["ms per particle"] / table["ms per particle"].iloc[0]
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
