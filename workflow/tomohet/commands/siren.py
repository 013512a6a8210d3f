"""Find structural blocks that come and go together in a set of volumes, without a model."""

import logging

import numpy as np
import pandas as pd

from tomohet import plots
from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven.particles import particle_maps
from tomohet.analysis.siren import figures
from tomohet.analysis.siren.answers import block_answers
from tomohet.analysis.siren.blocks import Task
from tomohet.analysis.siren.extent import noise_of
from tomohet.analysis.siren.files import read_blocks
from tomohet.analysis.siren.independence import latents_beside, population_beside, sampling_of
from tomohet.analysis.siren.levels import outlying_volumes, read_levels
from tomohet.analysis.siren.pairs import engine_of
from tomohet.analysis.siren.particles import states_of_particles
from tomohet.analysis.siren.stability import (
    blocks_of_randomised,
    examine_share,
    level_stability,
    search,
)
from tomohet.answers import stated
from tomohet.files.atomic import write_json, write_parquet
from tomohet.files.grids import write_on_grid
from tomohet.files.leftovers import replacing
from tomohet.files.shares import WHOLE, shares_of
from tomohet.options import SirenOptions
from tomohet.rounds.layout import BLOCKS, SIREN, block_map
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: SirenOptions) -> dict:
    """Binarise the volumes, link voxels, find blocks; write masks, tables and figures; return the summary."""
    with replacing(options.outdir, "siren"):
        return find_blocks(options)


def find_blocks(options: SirenOptions) -> dict:
    """Find the blocks of the volumes, their relations, and their states in volumes and particles."""
    maps = None
    if options.workdir is not None:
        maps = particle_maps(options.workdir, options.epoch, options.device, *options.volume_form)
    ensemble = open_ensemble(options.volumes)
    mean = ensemble.mean()
    rng = np.random.default_rng(options.seed)
    levels = read_levels(
        ensemble, options.level, mean, rng, options.mass_kda, options.cnn_weights, options.device
    )
    population = (
        population_beside(options.volumes, ensemble.numbers) if options.weights == "population" else None
    )
    z = latents_beside(options.volumes, ensemble.numbers)
    if z is None:
        log.warning("no z.pkl next to the volumes, so they are assumed to be independent of each other")
    sampling = sampling_of(z, population, len(ensemble), options.seed)
    task = Task(
        ensemble,
        sampling,
        noise_of(ensemble, mean, levels.values),
        options.rule,
        options.seed,
        engine_of(options.engine, options.device),
        shares_of(options.part, options.outdir, options.parts),
    )
    given = read_blocks(options.blocks, ensemble.grid) if options.blocks else None
    if options.part != WHOLE:
        if given is None:  # given blocks are expanded, and no pairs are examined
            examine_share(levels, task)
        return {}
    outlying = outlying_volumes(ensemble, levels.values)
    if len(outlying):
        log.warning(
            "%d volumes enclose far more or less than the others at their level (outlying_volumes in "
            "summary.json): look at them, or give them levels of their own",
            len(outlying),
        )
    found = search(levels, task, given=given)
    stable, stability = level_stability(found, lambda factor: search(levels, task, factor, given))
    table, partners = found.table.assign(stability=stable), found.partners

    with replacing(
        options.outdir, "siren_blocks"
    ):  # written now, because the states of particles are measured in these masks
        for number in table.id:
            write_on_grid(options.outdir / block_map(number), found.labels == number, ensemble.grid)
    write_parquet(options.outdir / BLOCKS, table)
    write_parquet(options.outdir / "relations.parquet", found.relations)
    states = pd.DataFrame(found.states, columns=[f"siren_{number}" for number in table.id])
    height = float(np.median(levels.values - levels.solvent))
    reduced = None
    if maps is not None:
        of_each, reduced = states_of_particles(
            maps, ensemble, mean, options.outdir, states, height, options.seed
        )
        write_parquet(options.outdir / SIREN.by_particle, of_each)
    states.insert(0, "volume", ensemble.numbers)
    write_parquet(options.outdir / SIREN.by_volume, states)
    draw(options, found, mean, float(np.median(levels.solvent)) + height, ensemble.grid.pixel_size_A)
    summary = {
        "n_volumes": len(ensemble),
        "n_effective_volumes": found.n_effective,
        "n_blocks": len(table),
        "rule": options.rule,
        "level": options.level,
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
    }
    summary |= stated(block_answers(summary))
    write_json(options.outdir / SIREN.summary, summary)
    log.info("%d blocks, %d voxels in all", len(table), table.n_voxels.sum())
    return summary


def draw(options: SirenOptions, found, mean, level: float, pixel_size_A: float) -> None:
    """Write blocks.png and, if there are blocks, surfaces, states, co_occupancy and relations."""
    drawn = {"blocks": figures.coloured_sections(mean, found.labels, found.table)}
    if len(found.table):
        drawn["surfaces"] = figures.surfaces(mean, level, found.labels, found.table, pixel_size_A)
        drawn["states"] = figures.state_histograms(found.states, found.table)
    if len(found.table) > 1:
        drawn["co_occupancy"] = figures.co_occupancy(found.states, found.table)
        drawn["relations"] = figures.relation_graph(found.relations, found.table)
    for name, figure in drawn.items():
        plots.save(figure, options.outdir / f"{name}.{options.plot_format}")
