"""Choose the latents to decode: one per particle, or k-means centres if there are many particles."""

import logging

import pandas as pd

from tomohet.analysis.choice import choose_latents
from tomohet.analysis.run_folder import ParticleLatents, RunFolder
from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.files.digests import sealed
from tomohet.options import ChooseVolumesOptions
from tomohet.rounds.layout import VOLUMES
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: ChooseVolumesOptions) -> pd.DataFrame:
    """Write z.pkl, the latents to decode, and the table of particles and their volumes; return the table."""
    if options.latents.is_dir():
        training = RunFolder(options.latents)
        path = training.latents_path(training.epoch(options.epoch))
    else:
        training, path = RunFolder(options.latents.parent), options.latents
    latents = ParticleLatents.read(path, training.particles(), options.particles)
    chosen, assignment = choose_latents(latents.mean, latents.particles, options.count, options.seed)
    with sealed(options.outdir / "z.pkl"):
        write_pickle(options.outdir / "z.pkl", chosen)
    write_parquet(options.outdir / VOLUMES.by_particle, assignment)
    log.info("%d volumes represent %d particles", len(chosen), len(assignment))
    return assignment
