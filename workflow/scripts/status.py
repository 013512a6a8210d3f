"""Say which stages of which rounds are done, running or pending."""

import argparse
from pathlib import Path

from tomohet.cli import command


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Looks at files alone; what an edited configuration makes run again: snakemake -n",
    )
    parser.add_argument(
        "--configfile",
        type=Path,
        default=Path("config/config.yaml"),
        help="configuration (config/config.yaml)",
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the results (results)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Print one line for the dataset and one for each round."""
    import shlex
    from itertools import groupby

    from tomohet.rounds.config import read_config
    from tomohet.rounds.progress import is_locked, progress

    config = read_config(args.configfile)
    stages = progress(config, args.results / config["dataset"])
    n_done = sum(stage.state == "done" for stage in stages)
    print(f"{args.results / config['dataset']}: {n_done} of {len(stages)} stages done")
    if is_locked(args.results.absolute().parent):
        print(
            "Snakemake is running here, or was killed; if it was, release the folder first: "
            f"snakemake --unlock --configfile {shlex.quote(str(args.configfile))}"
        )
    for name, group in groupby(stages, key=lambda stage: stage.round):
        group = list(group)
        print(f"\n{name or 'dataset'}")
        for stage in group:
            print(f"  {stage.name:<16} {stage.state}")


if __name__ == "__main__":
    command(build_parser(), run)
