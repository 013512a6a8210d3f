"""Time and memory of reading and filtering a large particle STAR file, beside the `starfile` package.

    python tests/benchmarks/bench_star.py [--rows 1000000] [--folder FOLDER]

Writes one table of 22 columns as RELION 3.1 does (once; kept in FOLDER), reads it; and filters it: reads it,
keeps every second row, writes those. Each task runs in a process of its own, so that its peak memory is its
own, and all in one run, so that the ratios hold on a busy machine too. Times are those of the processor.
Needs `pip install starfile`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import starfile

from tomohet.files.atomic import atomic_path
from tomohet.files.star import read_star
from tomohet.particles.export import read_particle_file

NUMBERS = (
    "CoordinateX CoordinateY CoordinateZ AngleRot AngleTilt AnglePsi OriginXAngst OriginYAngst OriginZAngst "
    "DefocusU DefocusV DefocusAngle PhaseShift CtfBfactor CtfScalefactor"
).split()
WHOLE = ["ClassNumber", "RandomSubset", "OpticsGroup", "NrOfSignificantSamples"]
NAMES = ["MicrographName", "ImageName", "GroupName"]
COLUMNS = [*NUMBERS, *WHOLE, *NAMES]
OPTICS = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n_rlnVoltage #3\n1 3.7 300\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--task", nargs=2, metavar=("NAME", "STAR"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(measured(*args.task)))
        return
    path = args.folder / f"particles_{args.rows}.star"
    if not path.exists():
        write_particles(path, args.rows)
    print(f"{args.rows} rows x {len(COLUMNS)} columns, {path.stat().st_size / 1e6:.0f} MB of text")
    print(f"{'task':22} {'CPU s':>7} {'peak MB':>8}")
    found = {}
    for name in TASKS:
        call = [sys.executable, __file__, "--task", name, str(path)]
        found[name] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
        print(f"{name:22} {found[name]['seconds']:7.1f} {found[name]['peak_MB']:8.0f}", flush=True)
    for what in ("read", "filter"):
        ours, theirs = found[f"{what}, tomohet"], found[f"{what}, starfile"]
        seconds, memory = (theirs[key] / ours[key] for key in ("seconds", "peak_MB"))
        print(f"{what}: starfile takes {seconds:.1f} times the time and {memory:.1f} times the memory")


def measured(name: str, star: str) -> dict[str, float]:
    """Processor time (s) of one task and the peak memory (MB) of this process, interpreter included."""
    start = time.process_time()
    TASKS[name](Path(star))
    seconds = time.process_time() - start
    return {"seconds": seconds, "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def filter_tomohet(star: Path) -> None:
    """Keep every second row, the way `filter_star` does: rows stay text."""
    particles = read_particle_file(star, "volumeseries")
    half = star.with_suffix(".half")
    particles.write(half, np.arange(particles.n_rows) % 2 == 0)
    half.unlink()


def filter_starfile(star: Path) -> None:
    """The same with `starfile`: read, keep, write."""
    blocks = starfile.read(star, always_dict=True)
    blocks["particles"] = blocks["particles"].iloc[::2]
    half = star.with_suffix(".half")
    starfile.write(blocks, half, overwrite=True)
    half.unlink()


TASKS = {
    "read, tomohet": read_star,
    "read, starfile": lambda star: starfile.read(star, always_dict=True),
    "filter, tomohet": filter_tomohet,
    "filter, starfile": filter_starfile,
}


def write_particles(path: Path, n: int) -> None:
    """Columns of numbers with fixed width and decimals, as RELION writes them, then those of names."""
    rng = np.random.default_rng(0)
    row = " ".join(["%12.6f"] * len(NUMBERS) + ["%5d"] * len(WHOLE) + ["%s"] * len(NAMES)) + " \n"
    with atomic_path(path) as temporary, open(temporary, "w") as file:
        file.write(f"\n# version 30001\n\n{OPTICS}\n# version 30001\n\ndata_particles\n\nloop_\n")
        file.writelines(f"_rln{name} #{i}\n" for i, name in enumerate(COLUMNS, start=1))
        for i in range(n):
            particle, tilt = divmod(i, 40)
            tomogram = f"tomo_{particle % 900:04d}"
            image = f"{tilt + 1:06d}@subtomo/{tomogram}/{particle:07d}.mrcs"
            whole = (particle % 4, particle % 2 + 1, 1, i % 900)
            numbers = rng.uniform(-180, 180, len(NUMBERS)).tolist()
            file.write(row % (*numbers, *whole, f"{tomogram}.mrc", image, f"group_{particle:07d}"))
        file.write("\n")


if __name__ == "__main__":
    main()
