"""How time and memory of the linear model grow with the number of particles.

    python tests/benchmarks/bench_linear_growth.py [--particles 250 500 1000 2000] [--zdim 6]

Stores of noise images (box 32, 21 tilts); every fit in a process of its own. Prints CPU seconds per particle,
also relative to the fewest particles, and peak memory, of which `fit MB` is what comes on top of the program,
its tables and libraries. The kernel's difference maps are held at once, up to `KERNEL_BYTES` of them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from bench_memory import Case, write_store

CASE = Case("box 32, 21 tilts", 32, 21, "float32", "")
MB = 1e6


def fit(store: Path, zdim: int) -> dict:
    """Fit in this process: CPU seconds, and memory before and at most."""
    import numpy as np

    from tomohet.linear.fit import fit_linear_model
    from tomohet.particles.store import open_store

    opened = open_store(store)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    start = time.process_time()
    fit_linear_model(opened, np.arange(len(opened.particles)), zdim=zdim)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"CPU s": time.process_time() - start, "peak MB": peak / MB, "fit MB": (peak - before) / MB}


def fitted_apart(particles: int, zdim: int) -> dict:
    """The same in a process of its own, on a store of so many particles."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        write_store(store, CASE, particles * CASE.bytes_per_particle)
        words = [sys.executable, __file__, "--only-fit", store, "--zdim", zdim]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return {"particles": particles} | json.loads(done.stdout)


def main() -> None:
    """Fit each, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--particles", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--zdim", type=int, default=6)
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
