"""Open a run of tomoDRGN 1.0: its weights and latents, in a folder that tomohet's commands accept."""

import argparse
from pathlib import Path

from tomohet.cli import command


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="No code in the run's files is executed. OUTDIR is then a workdir for eval_vol and analyze.",
    )
    parser.add_argument("run_dir", type=Path, help="output folder of tomodrgn train_vae or train_nn")
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="folder to write")
    return parser


def run(args: argparse.Namespace) -> None:
    """Translate and write."""
    from tomohet.model.imported import import_run

    import_run(args.run_dir, args.outdir)


if __name__ == "__main__":
    command(build_parser(), run)
