"""How often the pre-flight check finds a wrong flag, sign or hand, and how often it alarms without cause.

    python tests/benchmarks/bench_detection.py [--seeds 20] [--particles 400] [--box 32] [--pixel-size 12]

Simulates both dialects per seed at SNR 0.05 and puts each wrong statement to `preflight.hypotheses.examine`.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd

from tomohet.particles.dialects import read_particles
from tomohet.particles.table import ParticleSet
from tomohet.preflight.hypotheses import examine
from tomohet.preflight.sample import depths
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate

FILES = {"raw": "particles.star", "premultiplied": "warptools/particles_optimisation_set.star"}


def with_images(particle_set: ParticleSet, **columns) -> ParticleSet:
    """The same set with other image columns."""
    return replace(particle_set, images=particle_set.images.assign(**columns))


def flag_wrong(particle_set: ParticleSet) -> ParticleSet:
    """Stated raw where premultiplied, and the other way round; dose weights likewise."""
    images = particle_set.images
    return with_images(
        particle_set, ctf_premultiplied=~images["ctf_premultiplied"], dose_weighted=~images["dose_weighted"]
    )


def hand_wrong(particle_set: ParticleSet) -> ParticleSet:
    """Defocus falls where it should grow with depth."""
    change = -2 * depths(particle_set)
    images = particle_set.images
    return with_images(
        particle_set,
        defocus_u_A=images["defocus_u_A"] + change,
        defocus_v_A=images["defocus_v_A"] + change,
    )


def sign_wrong(particle_set: ParticleSet, folder: Path) -> ParticleSet:
    """The same images with all grey values reversed, written beside the originals."""
    new = {}
    for stack in particle_set.images["stack"].unique():
        path = folder / f"negative_{len(new)}.mrcs"
        with mrcfile.open(stack, permissive=True) as old, mrcfile.new(path, overwrite=True) as out:
            out.set_data(-old.data)
        new[stack] = str(path)
    return with_images(particle_set, stack=particle_set.images["stack"].map(new))


def cases(particle_set: ParticleSet, folder: Path):
    """Yield (what is wrong, the finding that should say so, the set)."""
    yield "nothing", None, particle_set
    yield "flag", "premultiplication", flag_wrong(particle_set)
    yield "sign", "contrast", sign_wrong(particle_set, folder)
    yield "hand", "hand", hand_wrong(particle_set)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--particles", type=int, default=400)
    parser.add_argument("--box", type=int, default=32)
    parser.add_argument("--pixel-size", type=float, default=12.0)
    parser.add_argument("--snr", type=float, default=0.05)
    parser.add_argument("--max-images", type=int, help="images looked at (what `examine` takes by itself)")
    parser.add_argument("--keep", type=Path, help="folder where simulations are kept and found again")
    parser.add_argument("--csv", type=Path, help="also write every single finding")
    args = parser.parse_args()
    rows = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.keep / f"s{seed}" if args.keep else Path(temporary)
            if not (folder / "truth.npz").exists():
                config = {"n_particles": args.particles, "box": args.box, "pixel_size": args.pixel_size}
                simulate(config_from(config | {"snr": args.snr, "seed": seed}), folder)
            for data, file in FILES.items():
                stated = read_particles(folder / file, None, "auto")
                for wrong, name, particle_set in cases(stated, Path(temporary)):
                    result = examine(particle_set, max_images=args.max_images)
                    for finding in result.findings:
                        rows.append(
                            {
                                "data": data,
                                "wrong": wrong,
                                "finding": finding.name,
                                "concerned": name == finding.name,
                                "seconds": result.seconds,
                                "z": finding.z,
                                "verdict": finding.verdict,
                                "undecided": finding.found == "undecided",
                            }
                        )
    if args.csv:
        pd.DataFrame(rows).to_csv(args.csv, index=False)
    report(pd.DataFrame(rows))


def report(table: pd.DataFrame) -> None:
    """Print per data, wrong statement and finding: share of verdicts and the range of z."""
    for (data, wrong, finding), group in table.groupby(["data", "wrong", "finding"], sort=False):
        verdict = group["verdict"]
        mark = "<- should alarm" if group["concerned"].iloc[0] else ""
        print(
            f"{data:14}{wrong:9}{finding:18} n {len(group):3}  stop {np.mean(verdict == 'stop'):5.0%}  "
            f"look {np.mean(verdict == 'look'):5.0%}  undecided {group['undecided'].mean():5.0%}  "
            f"z {group['z'].min():+7.1f} {group['z'].median():+7.1f} {group['z'].max():+7.1f} {mark}"
        )
    print(
        f"CPU seconds per data set: median {table['seconds'].median():.1f}, most {table['seconds'].max():.1f}"
    )


if __name__ == "__main__":
    main()
