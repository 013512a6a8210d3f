"""Peak memory of the stages against the size of the dataset.

    python tests/benchmarks/bench_tables.py [--only NAME] [--folder FOLDER]

Each stage runs as a command, in a process of its own, on synthetic data of two sizes. Its bytes for each
image or particle are the difference of the two peaks over the difference of the two sizes. The stages that
read images and the image table have `--images` particles of 41 tilts and a fourth of them; the others, which
read one row for each particle, have `--particles` and a fourth. Stacks have 16 px. Pages of
mapped files do not count, because the system can drop them.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.files.pickles import save_latents

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fake_results import make_results, particle_table

TILTS, BOX, PER_TOMOGRAM, ZDIM = 41, 16, 500, 8
OF_IMAGES = {
    "validate": "validate {0}/particles.star -o {0}/validation",
    "validate, tables only": "validate {0}/particles.star --no-images -o {0}/validation",
    "filter_star": "filter_star {0}/particles.star -o {0}/half.star --ind {0}/half.pkl",
    "filter_star, elsewhere": "filter_star {0}/particles.star -o {0}/../other/half.star --ind {0}/half.pkl",
    "prepare": "prepare {0}/particles.star -o {0}/prepared",
    "open the store": "",
    "backproject_voxel": "backproject_voxel {0}/prepared -o {0}/homogeneous",
    "analyze, leak audit": "analyze {0}/run -o {0}/audit --store {0}/prepared --skip-vol --skip-umap",
}  # fmt: skip
OF_PARTICLES = {
    "analyze, no UMAP": "analyze {0}/run -o {0}/analyze --skip-vol --skip-umap",
    "analyze": "analyze {0}/run -o {0}/analyze --skip-vol",
    "convergence_vae": "convergence_vae {0}/run -o {0}/convergence --skip-volgen --skip-umap",
    "particle_table": (
        "particle_table {0}/prepared --round-dir {0}/round --ind-ptcls {0}/all.pkl -o {0}/table.parquet"
    ),
    "select": "select {0}/results/all/particles.parquet --query 'pc1 > 0 and kmeans < 2' -o {0}/chosen.pkl",
    "report": "report {0}/results -o {0}/report.html",
    "subtomo2chimerax": "subtomo2chimerax {0}/volumes.star -o {0}/scene --mode markers",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24_000, help="particles of the stages with images")
    parser.add_argument("--particles", type=int, default=400_000, help="particles of the other stages")
    parser.add_argument("--folder", type=Path, help="for the data, which are kept there (a temporary one)")
    parser.add_argument("--only", default="", help="only the stages whose name starts so")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for stages, make, count, per in (
            (OF_IMAGES, make_images, args.images, TILTS),
            (OF_PARTICLES, make_tables, args.particles, 1),
        ):
            grown(folder, {k: v for k, v in stages.items() if k.startswith(args.only)}, make, count, per)


def grown(folder: Path, stages: dict[str, str], make: Callable, count: int, per: int) -> None:
    """Print each stage's peak memory at a fourth of `count` particles and at `count`, and bytes per row."""
    places = [(count // 4, folder / f"{per}_{count // 4}"), (count, folder / f"{per}_{count}")]
    for name, command in stages.items():
        found = []
        for n, place in places:
            if not (place / "made").exists():
                place.mkdir(parents=True, exist_ok=True)
                make(place, n)
                (place / "made").touch()
            found.append(peak(name, command.format(place), place))
        rows = per * (places[1][0] - places[0][0])
        slope = (found[1][0] - found[0][0]) / rows
        what = "image" if per > 1 else "particle"
        print(
            f"{name:24} {found[0][0] / 1e9:6.2f} GB {found[1][0] / 1e9:6.2f} GB {slope:8.0f} bytes/{what} "
            f"{found[1][1]:7.1f} s",
            flush=True,
        )


def peak(name: str, command: str, place: Path) -> tuple[float, float]:
    """Return peak memory (bytes) and processor time (s) of a command, or (without one) of opening a store."""
    code = f"from tomohet.particles.store import open_store; open_store({str(place / 'prepared')!r})"
    arguments = ["-m", "tomohet.cli", *shlex.split(command)] if command else ["-c", code]
    if name == "prepare":
        shutil.rmtree(place / "prepared", ignore_errors=True)  # a store that is there would only be checked
    # Freed columns return to the system at once, as those of large datasets do; small ones would be kept.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "200000", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    with open(place / "log", "w") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, env=environment)
        most, ended = 0, 0
        while not ended:
            most = max(most, own_memory(process.pid))
            time.sleep(0.02)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name}: {(place / 'log').read_text()[-2000:]}")
    return most, usage.ru_utime + usage.ru_stime


def own_memory(process: int) -> int:
    """Return the bytes that a process holds itself, without the pages of files that it maps."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def make_images(place: Path, n: int) -> None:
    """Write an image series of n particles, a stack for each tomogram, and latents of all its particles."""
    rng = np.random.default_rng(0)
    particle, tilt = np.repeat(np.arange(n), TILTS), np.tile(np.arange(TILTS), n)
    tomogram = particle // PER_TOMOGRAM
    position = rng.uniform(0, 900, (n, 3)).round(3)[particle]
    angles = rng.uniform(0, 180, (n, 3)).round(4)[particle]
    section = (particle % PER_TOMOGRAM) * TILTS + tilt + 1
    names = [f"{s:06d}@stacks/TS_{t:03d}.mrcs" for s, t in zip(section, tomogram, strict=True)]
    table = pd.DataFrame({"rlnImageName": names})
    table["rlnMicrographName"] = [f"TS_{t:03d}.tomostar" for t in tomogram]
    table["rlnGroupName"] = [f"TS_{t:03d}_{p:07d}" for t, p in zip(tomogram, particle, strict=True)]
    for axis, values in zip("XYZ", position.T, strict=True):
        table[f"rlnCoordinate{axis}"] = values
    for angle, values in zip(("Rot", "Tilt", "Psi"), angles.T, strict=True):
        table[f"rlnAngle{angle}"] = values
    table["rlnDefocusU"] = rng.uniform(2e4, 4e4, len(table)).round(1)
    table["rlnDefocusV"] = table["rlnDefocusU"] - 200
    table["rlnDefocusAngle"], table["rlnVoltage"], table["rlnSphericalAberration"] = 30.0, 300.0, 2.7
    table["rlnAmplitudeContrast"], table["rlnPhaseShift"] = 0.07, 0.0
    table["rlnImagePixelSize"] = 8.0
    table["rlnCtfBfactor"] = -12.0 * tilt
    table["rlnCtfScalefactor"] = np.cos(np.radians(1.5 * tilt)).round(5)
    table["rlnRandomSubset"] = particle % 2 + 1
    with open(place / "particles.star", "w") as file:
        file.write("\ndata_\n\nloop_\n" + "".join(f"_{column}\n" for column in table.columns))
        table.to_csv(file, sep=" ", header=False, index=False)
    (place / "stacks").mkdir(exist_ok=True)
    for number, count in enumerate(np.bincount(tomogram)):
        write_noise(place / f"stacks/TS_{number:03d}.mrcs", int(count), rng)
    write_pickle(place / "half.pkl", np.arange(0, n, 2))
    make_training(place / "run", n, rng)


def write_noise(path: Path, sections: int, rng: np.random.Generator) -> None:
    """Write a stack of noise images."""
    from tomohet.files.mrc import write_stack

    write_stack(path, rng.standard_normal((sections, BOX, BOX), np.float32), 8.0)


def make_training(folder: Path, n: int, rng: np.random.Generator) -> None:
    """Write latents of n particles at three epochs: four overlapping groups."""
    folder.mkdir(exist_ok=True)
    centres = rng.normal(0, 2, (4, ZDIM))
    latents = centres[rng.integers(0, 4, n)] + rng.normal(size=(n, ZDIM))
    for epoch in range(3):
        moved = latents + rng.normal(0, 0.1 / (epoch + 1), latents.shape)
        logvar = np.zeros((n, ZDIM), np.float32)
        save_latents(folder / f"z.{epoch}.train.pkl", moved.astype(np.float32), logvar)


def make_tables(place: Path, n: int) -> None:
    """Write latents, a store's table of particles, tables of stages, results with a particle table."""
    rng = np.random.default_rng(0)
    make_training(place / "run", n, rng)
    (place / "prepared").mkdir(exist_ok=True)
    number = np.arange(n)
    ids = pd.Series(number).map("TS_{0:07d}/{0:07d}".format)
    tomogram = pd.Series(number // PER_TOMOGRAM).map("TS_{:04d}".format)
    particles = pd.DataFrame({"particle": number, "source_id": ids, "tomogram": tomogram})
    for axis in "xyz":
        particles[f"{axis}_A"] = rng.uniform(0, 4000, n)
    particles = particles.assign(n_tilts=TILTS, half=pd.array(number % 2 + 1, dtype="Int8"))
    write_parquet(place / "prepared" / "particles.parquet", particles)
    write_pickle(place / "all.pkl", number)
    latent = pd.DataFrame({"particle": number, "kmeans": number % 7, "gmm": number % 3})
    for name in ("gmm_probability", *(f"pc{i}" for i in range(1, 9)), "umap1", "umap2"):
        latent[name] = rng.normal(size=n).astype(np.float32)
    write_parquet(place / "round" / "analyze" / "particles.parquet", latent)
    units = pd.DataFrame({"particle": number} | {f"maven_{unit}": rng.normal(size=n) for unit in "ABCDEFGH"})
    write_parquet(place / "round" / "maven" / "particles.parquet", units)
    make_results(place / "results", n=60, rounds=("all",))
    table = particle_table(n, rng).assign(tomogram=tomogram, source_id=ids)
    for family in ("linear_z", "pc"):
        for i in range(1, 9):
            table[f"{family}{i}"] = rng.normal(0, 1 / i, n).astype(np.float32)
    table.to_parquet(place / "results" / "all" / "particles.parquet")
    write_volume_series(place / "volumes.star", n, rng)


def write_volume_series(path: Path, n: int, rng: np.random.Generator) -> None:
    """Write a volume series: one row for each particle, with its position and angles."""
    number = np.arange(n)
    tomogram = pd.Series(number // PER_TOMOGRAM).map("TS_{:04d}.tomostar".format)
    table = pd.DataFrame({"rlnMicrographName": tomogram})
    for axis in "XYZ":
        table[f"rlnCoordinate{axis}"] = rng.uniform(0, 900, n).round(3)
    for angle in ("Rot", "Tilt", "Psi"):
        table[f"rlnAngle{angle}"] = rng.uniform(0, 180, n).round(4)
    table["rlnImageName"] = number
    table["rlnImageName"] = table["rlnImageName"].map("subtomo/{:07d}.mrc".format)
    table["rlnPixelSize"] = 8.0
    with open(path, "w") as file:
        file.write("\ndata_\n\nloop_\n" + "".join(f"_{column}\n" for column in table.columns))
        table.to_csv(file, sep=" ", header=False, index=False)


if __name__ == "__main__":
    main()
