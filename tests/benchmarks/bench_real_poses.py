"""Half maps of particle files with poses as stated, and refined in each half set by itself.

    python tests/benchmarks/bench_real_poses.py FILE.star ... [--options="--uninvert-data"] [--always]

Prints, for each file, what train_linear says of the poses, and where the FSC of the half maps falls below
0.143 and 0.5. Half sets are refined only where train_linear finds errors, as the workflow does it; --always
refines them in any case. --options: of `tomohet prepare`.
"""

import argparse
import shlex
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from simulated_sets import command

from tomohet.linear.fit import fit_linear_model, refined_alone
from tomohet.particles.store import open_store
from tomohet.reconstruction.half_maps import half_maps


def measured(path: Path, options: list[str], always: bool) -> dict:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        command("prepare", path, "-o", folder, *options)
        store = open_store(folder)
        particles = np.flatnonzero(store.particles["n_tilts"] > 0)
        poses = fit_linear_model(store, particles).poses
        rotation_deg, shift_A = poses.spread(store.pixel_size_A)
        row = {"file": path.name, "particles": len(particles), "degrees": rotation_deg, "shift A": shift_A}
        for name, refine in (("stated", None), ("refined", refined_alone if poses.found or always else None)):
            maps = half_maps(store, particles, recon_dose_weight=True, recon_tilt_weight=True, refine=refine)
            row |= {f"{name} 0.143": maps.resolution_A, f"{name} 0.5": maps.resolution_05_A}
        return row


def main() -> None:
    """Prepare, fit, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--options", type=shlex.split, default=[])
    parser.add_argument("--always", action="store_true")
    args = parser.parse_args()
    table = pd.DataFrame([measured(path, args.options, args.always) for path in args.files])
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
