"""Find structural blocks that come and go together in an ensemble of volumes, without a model."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="The folder of blocks serves `maven --masks` as it is."
    )
    parser.add_argument(
        "--volumes",
        type=Path,
        required=True,
        help="folder of <name>_<number>.mrc files, or one stack of volumes",
    )
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--rule",
        default="phi",
        choices=("phi", "siren"),
        help="link voxels by an exact test and phi, or by SIREn's published rule (phi)",
    )
    parser.add_argument(
        "--level",
        default="auto",
        help="density above which a voxel is on: auto (from the solvent), a number, or a CSV table with "
        "columns volume and level (auto)",
    )
    options.add_plot_options(parser)
    options.add_seed(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Binarise the volumes, link voxels, find blocks, and write masks, tables and figures."""
    import numpy as np
    import pandas as pd

    from tomohet import plots
    from tomohet.analysis.ensemble import open_ensemble
    from tomohet.analysis.siren import figures
    from tomohet.analysis.siren.blocks import blocks_of_ensemble
    from tomohet.analysis.siren.levels import read_levels
    from tomohet.files.atomic import write_json, write_parquet
    from tomohet.files.grids import write_on_grid

    ensemble = open_ensemble(args.volumes)
    mean = ensemble.mean()
    levels = read_levels(ensemble, args.level, mean, np.random.default_rng(args.seed))
    found = blocks_of_ensemble(ensemble, levels, args.rule, args.seed)
    table, partners = found.table, found.partners

    args.outdir.mkdir(parents=True, exist_ok=True)
    for stale in args.outdir.glob("block_*.mrc"):
        stale.unlink()
    for number in table.id:
        write_on_grid(args.outdir / f"block_{number}.mrc", found.labels == number, ensemble.grid)
    write_parquet(args.outdir / "blocks.parquet", table)
    states = pd.DataFrame(found.states, columns=[f"siren_{number}" for number in table.id])
    states.insert(0, "volume", ensemble.numbers)
    write_parquet(args.outdir / "volumes.parquet", states)
    plots.save(
        figures.coloured_sections(mean, found.labels, table), args.outdir / f"blocks.{args.plot_format}"
    )
    if len(table):
        plots.save(figures.state_histograms(found.states, table), args.outdir / f"states.{args.plot_format}")
    if len(table) > 1:
        plots.save(
            figures.co_occupancy(found.states, table), args.outdir / f"co_occupancy.{args.plot_format}"
        )
    write_json(
        args.outdir / "summary.json",
        {
            "n_volumes": len(ensemble),
            "n_blocks": len(table),
            "rule": args.rule,
            "level": args.level,
            "median_level": float(np.median(levels)),
            "n_voxels_tested": found.n_voxels_tested,
            "n_voxels_in_blocks": int(table.n_voxels.sum()),
            "n_pairs": partners.pairs if partners else 0,
            "n_pairs_linked": partners.linked if partners else 0,
            "p_value": partners.p_value if partners else None,
            "blocks": table.to_dict("records"),
        },
    )
    log.info("%d blocks, %d voxels in all", len(table), table.n_voxels.sum())


if __name__ == "__main__":
    command(build_parser(), run)
