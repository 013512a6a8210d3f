"""Time and memory of reading a synthetic optimisation set: python tests/benchmarks/bench_reading.py FOLDER.

By default 25,000 particles x 40 tilts = 1 M images in 50 tomograms. The stacks are sparse files of the right
size with a header; they are written once and left in FOLDER.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles

BOX = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--particles", type=int, default=25_000)
    parser.add_argument("--tomograms", type=int, default=50)
    parser.add_argument("--tilts", type=int, default=40)
    args = parser.parse_args()
    star = args.folder / "optimisation_set.star"
    if not star.exists():
        write_set(star, args.particles, args.tomograms, args.tilts)
    before = peak_MB()
    start = time.perf_counter()
    read_star(args.folder / "particles.star")
    parsed = time.perf_counter()
    particle_set = read_particles(star)
    end = time.perf_counter()
    table_MB = particle_set.images.memory_usage(deep=False).sum() / 1e6
    print(f"{len(particle_set.particles)} particles, {len(particle_set.images)} images")
    print(f"particles.star alone {parsed - start:.1f} s; read_particles {end - parsed:.1f} s")
    print(f"peak memory {peak_MB():.0f} MB ({before:.0f} MB before reading), image table {table_MB:.0f} MB")


def peak_MB() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_set(star: Path, n_particles: int, n_tomograms: int, n_tilts: int) -> None:
    rng = np.random.default_rng(0)
    folder = star.parent
    tomogram = np.arange(n_particles) % n_tomograms
    particles = pd.DataFrame({"rlnTomoName": [f"TS_{t:03d}" for t in tomogram]})
    particles["rlnTomoParticleName"] = [f"TS_{t:03d}/{p}" for p, t in enumerate(tomogram)]
    for axis in "XYZ":
        particles[f"rlnCenteredCoordinate{axis}Angst"] = rng.uniform(-900, 900, n_particles).round(4)
    for angle in ("Rot", "Tilt", "Psi"):
        particles[f"rlnAngle{angle}"] = rng.uniform(0, 180, n_particles).round(4)
    particles["rlnOpticsGroup"] = 1
    particles["rlnTomoVisibleFrames"] = str([1] * n_tilts).replace(" ", "")
    particles["rlnImageName"] = [f"stacks/TS_{t:03d}/{p}.mrcs" for p, t in enumerate(tomogram)]
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": [1],
            "rlnImagePixelSize": 8.0,
            "rlnVoltage": 300.0,
            "rlnSphericalAberration": 2.7,
            "rlnAmplitudeContrast": 0.07,
            "rlnCtfDataAreCtfPremultiplied": 1,
        }
    )
    names = [f"TS_{t:03d}" for t in range(n_tomograms)]
    overview = pd.DataFrame({"rlnTomoName": names, "rlnTomoHand": -1, "rlnTomoTiltSeriesPixelSize": 2.0})
    for axis in "XYZ":
        overview[f"rlnTomoSize{axis}"] = 1000
    overview["rlnTomoTiltSeriesStarFile"] = [f"tilt_series/{name}.star" for name in names]
    tilts = pd.DataFrame(
        {
            "rlnTomoXTilt": 0.0,
            "rlnTomoYTilt": np.linspace(-60, 60, n_tilts).round(3),
            "rlnTomoZRot": 85.0,
            "rlnDefocusU": 30000.0,
            "rlnDefocusV": 29000.0,
            "rlnDefocusAngle": 12.0,
            "rlnMicrographPreExposure": 3.0 * np.arange(n_tilts),
        }
    )
    write_blocks(folder / "particles.star", {"optics": optics, "particles": particles})
    write_blocks(folder / "tomograms.star", {"global": overview})
    for name in names:
        write_blocks(folder / f"tilt_series/{name}.star", {name: tilts})
        (folder / f"stacks/{name}").mkdir(parents=True, exist_ok=True)
    words = np.zeros(256, "<i4")
    words[:4], words[7:10] = (BOX, BOX, n_tilts, 2), (BOX, BOX, n_tilts)
    words[10:13] = (np.array([BOX, BOX, n_tilts], "<f4") * 8).view("<i4")
    header = bytearray(words.tobytes())
    header[208:216] = b"MAP DD\0\0"
    for name in particles["rlnImageName"]:
        with open(folder / name, "wb") as file:
            file.write(header)
            file.truncate(1024 + 4 * n_tilts * BOX * BOX)
    star.write_text("data_\n\n_rlnTomoParticlesFile particles.star\n_rlnTomoTomogramsFile tomograms.star\n")


def write_blocks(path: Path, blocks: dict[str, pd.DataFrame]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        for name, table in blocks.items():
            file.write(f"data_{name}\n\nloop_\n" + "".join(f"_{column}\n" for column in table.columns))
            file.write(table.to_csv(sep="\t", header=False, index=False, quoting=3) + "\n")


if __name__ == "__main__":
    main()
