"""Simulate tilt-series particles of a heterogeneous assembly, with their truth."""

import argparse
from pathlib import Path

from tomohet.cli import command, options


def build_parser() -> argparse.ArgumentParser:
    """Options of `simulate`; all but --config, -o and --device are keys of the configuration file too."""
    parser = argparse.ArgumentParser(
        prog="simulate",
        description="Simulate tilt-series particles of a heterogeneous assembly, with their truth.",
        epilog="Defaults in brackets. Options win over the configuration file, which may hold further keys: "
        "blocks, defocus_A, total_dose, hidden_fraction, shift_px, pose_error_deg, pose_error_A, "
        "tilt_shift_A, defocus_error_A, neighbours, background_ratio, preferred_orientation, ...",
    )
    parser.add_argument("-o", "--outdir", required=True, metavar="DIR", help="folder for all files")
    parser.add_argument("--config", metavar="YAML", help="file of `key: value` lines")
    parser.add_argument(
        "--n-particles", "--particles", type=int, metavar="N", help="number of particles (400)"
    )
    parser.add_argument("--box", type=int, metavar="PX", help="edge of the images, px (32)")
    parser.add_argument("--pixel-size", type=float, metavar="A", help="Å per pixel (12)")
    parser.add_argument("--snr", type=float, help="signal variance over noise variance; inf: no noise (0.1)")
    parser.add_argument("--seed", type=int, help="seed of all random numbers (0)")
    parser.add_argument("--n-tomograms", type=int, metavar="N", help="number of tomograms (4)")
    parser.add_argument("--tilt-step", type=float, metavar="DEG", help="step of the tilts in ±60 degrees (6)")
    parser.add_argument("--dialect", help="STAR dialect written: warp, warptools or both (both)")
    parser.add_argument(
        "--model", metavar="FILE", help="PDB or mmCIF file whose chains are the blocks (default: invented)"
    )
    parser.add_argument(
        "--maps", nargs="+", metavar="MRC", help="maps, of which each particle is one, instead of blocks"
    )
    parser.add_argument(
        "--map-frequencies", nargs="+", type=float, metavar="F", help="how often each map is drawn (equal)"
    )
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Read the configuration and simulate."""
    from tomohet.device import device_of
    from tomohet.files.overwriting import refuse_overwriting_inputs
    from tomohet.simulation.config import read_config
    from tomohet.simulation.simulate import WRITTEN, simulate

    values = {k: v for k, v in vars(args).items() if k not in ("outdir", "config", "device")}
    config = read_config(args.config, values)
    inputs = [file for file in (args.config, config.model, *(config.maps or ())) if file]
    refuse_overwriting_inputs([Path(args.outdir) / name for name in WRITTEN], inputs)
    simulate(config, args.outdir, device_of(args.device))


if __name__ == "__main__":
    command(build_parser(), run)
