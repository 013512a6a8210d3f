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
        help="folder of <name>_<number>.mrc files, or one stack of volumes; z.pkl and assignment.parquet of "
        "choose_volumes beside them tell how independent they are, and how many particles each stands for",
    )
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--rule",
        default="phi",
        choices=("phi", "siren"),
        help="link voxels by an exact test and phi, or by SIREn's published rule (phi)",
    )
    parser.add_argument(
        "--blocks",
        type=Path,
        metavar="DIR",
        help="expand the blocks block_<id>.mrc of this folder, perhaps edited, instead of finding some",
    )
    parser.add_argument(
        "--weights",
        default="population",
        choices=("population", "equal"),
        help="count every volume as often as particles are assigned to it, or once (population)",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "popcount", "matrix"),
        help="count common volumes by bits on the CPU or by matrix products; the result is the same (auto: "
        "matrix on CUDA, else popcount)",
    )
    group = parser.add_argument_group("level")
    group.add_argument(
        "--level",
        default="auto",
        help="density above which a voxel is on: one height above solvent for all (auto, solvent, volume), "
        "each volume's own (own-solvent, own-maximum, cnn), a number, or a CSV table with columns volume and "
        "level (auto)",
    )
    group.add_argument("--mass-kda", type=float, metavar="KDA", help="molecular mass, for --level volume")
    group.add_argument(
        "--cnn-weights", type=Path, metavar="FILE", help="weights of SIREn's network, for --level cnn"
    )
    options.add_particle_maps(parser)
    options.add_device(parser)
    options.add_plot_options(parser)
    options.add_seed(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Binarise the volumes, link voxels, find blocks, and write masks, tables and figures."""
    from tomohet.files.leftovers import replacing

    with replacing(args.outdir, "siren"):
        find_blocks(args)


def find_blocks(args: argparse.Namespace) -> None:
    """The blocks of the volumes, their relations, and their states in volumes and particles."""
    import numpy as np
    import pandas as pd

    from tomohet.analysis.ensemble import open_ensemble
    from tomohet.analysis.maven.particles import particle_maps
    from tomohet.analysis.siren.blocks import Task, blocks_at
    from tomohet.analysis.siren.extent import noise_of
    from tomohet.analysis.siren.files import read_blocks
    from tomohet.analysis.siren.independence import latents_beside, population_beside, sampling_of
    from tomohet.analysis.siren.levels import outlying_volumes, read_levels
    from tomohet.analysis.siren.pairs import engine_of
    from tomohet.analysis.siren.particles import states_of_particles
    from tomohet.analysis.siren.stability import blocks_of_randomised, level_stability
    from tomohet.files.atomic import write_json, write_parquet
    from tomohet.files.grids import write_on_grid
    from tomohet.files.leftovers import replacing

    maps = None
    if args.workdir is not None:
        maps = particle_maps(args.workdir, args.epoch, args.device, *options.volume_form(args))
    ensemble = open_ensemble(args.volumes)
    mean = ensemble.mean()
    rng = np.random.default_rng(args.seed)
    levels = read_levels(ensemble, args.level, mean, rng, args.mass_kda, args.cnn_weights, args.device)
    population = population_beside(args.volumes, ensemble.numbers) if args.weights == "population" else None
    z = latents_beside(args.volumes, ensemble.numbers)
    if z is None:
        log.warning("no z.pkl beside the volumes: they are taken to be independent of each other")
    sampling = sampling_of(z, population, len(ensemble), args.seed)
    task = Task(
        ensemble,
        sampling,
        noise_of(ensemble, mean, levels.values),
        args.rule,
        args.seed,
        engine_of(args.engine, args.device),
    )
    outlying = outlying_volumes(ensemble, levels.values)
    if len(outlying):
        log.warning(
            "%d volumes enclose far more or less than the others at their level (outlying_volumes in "
            "summary.json): look at them, or give them levels of their own",
            len(outlying),
        )
    given = read_blocks(args.blocks, ensemble.grid) if args.blocks else None
    found = blocks_at(levels.values, task, given)
    stable, stability = level_stability(found, lambda factor: blocks_at(levels.scaled(factor), task, given))
    table, partners = found.table.assign(stability=stable), found.partners

    with replacing(args.outdir, "siren_blocks"):  # at once: states of particles are read off these masks
        for number in table.id:
            write_on_grid(args.outdir / f"block_{number}.mrc", found.labels == number, ensemble.grid)
    write_parquet(args.outdir / "blocks.parquet", table)
    write_parquet(args.outdir / "relations.parquet", found.relations)
    states = pd.DataFrame(found.states, columns=[f"siren_{number}" for number in table.id])
    height = float(np.median(levels.values - levels.solvent))
    reduced = None
    if maps is not None:
        of_each, reduced = states_of_particles(maps, ensemble, mean, args.outdir, states, height, args.seed)
        write_parquet(args.outdir / "particles.parquet", of_each)
    states.insert(0, "volume", ensemble.numbers)
    write_parquet(args.outdir / "volumes.parquet", states)
    draw(args, found, mean, float(np.median(levels.solvent)) + height, ensemble.grid.pixel_size_A)
    write_json(
        args.outdir / "summary.json",
        {
            "n_volumes": len(ensemble),
            "n_effective_volumes": found.n_effective,
            "n_blocks": len(table),
            "rule": args.rule,
            "level": args.level,
            "median_level": float(np.median(levels.values)),
            "median_height_above_solvent": height,
            "level_stability": stability,
            "outlying_volumes": outlying.tolist(),
            "noise_extent_px": found.noise_px,
            "n_voxels_tested": found.n_voxels_tested,
            "n_voxels_in_blocks": int(table.n_voxels.sum()),
            "n_pairs": partners.pairs if partners else 0,
            "n_pairs_linked": partners.linked if partners else 0,
            "n_pairs_exclusive": partners.excluded if partners else 0,
            "p_value": partners.p_value if partners else None,
            "least_phi": partners.least_phi if partners else None,
            "randomised": blocks_of_randomised(levels.values, task) if given is None else None,
            "particles": reduced,
            "blocks": table.to_dict("records"),
        },
    )
    log.info("%d blocks, %d voxels in all", len(table), table.n_voxels.sum())


def draw(args: argparse.Namespace, found, mean, level: float, pixel_size_A: float) -> None:
    """Write blocks.png, and where there are blocks surfaces, states, co_occupancy and relations."""
    from tomohet import plots
    from tomohet.analysis.siren import figures

    drawn = {"blocks": figures.coloured_sections(mean, found.labels, found.table)}
    if len(found.table):
        drawn["surfaces"] = figures.surfaces(mean, level, found.labels, found.table, pixel_size_A)
        drawn["states"] = figures.state_histograms(found.states, found.table)
    if len(found.table) > 1:
        drawn["co_occupancy"] = figures.co_occupancy(found.states, found.table)
        drawn["relations"] = figures.relation_graph(found.relations, found.table)
    for name, figure in drawn.items():
        plots.save(figure, args.outdir / f"{name}.{args.plot_format}")


if __name__ == "__main__":
    command(build_parser(), run)
