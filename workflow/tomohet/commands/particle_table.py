"""Join all results about the particles of a round into one table."""

import logging

import pandas as pd

from tomohet.analysis.run_folder import refuse_other_models
from tomohet.errors import InputError
from tomohet.files.atomic import write_parquet
from tomohet.files.pickles import load_indices
from tomohet.options import ParticleTableOptions
from tomohet.particles.store_files import PARTICLES, read_particles
from tomohet.rounds.table import particle_table, with_axes_of_parent
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: ParticleTableOptions) -> pd.DataFrame:
    """Write the table as parquet; return it."""
    if not (options.store / PARTICLES).exists():
        raise InputError(f"{options.store}: not a prepared store (it has no {PARTICLES})")
    particles = read_particles(options.store)
    refuse_other_models(options.round_dir, options.store)
    table = particle_table(
        particles, load_indices(options.ind_ptcls), options.round_dir, options.volume_series
    )
    if options.parent_table is not None:
        table = with_axes_of_parent(table, options.parent_table)
    write_parquet(options.output, table)
    log.info("%d particles, %d columns: %s", *table.shape, ", ".join(map(str, table.columns)))
    return table
