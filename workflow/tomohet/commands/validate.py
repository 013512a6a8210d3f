"""Check a particle file before any computation: its content, its selection, and inconsistencies."""

import logging
import sys
from dataclasses import replace

from tomohet.errors import InputError
from tomohet.options import ValidateOptions
from tomohet.particles.dialects import read_particles
from tomohet.particles.positions import positions_from_volume_series
from tomohet.preflight import overall, preflight, summary, write_validation
from tomohet.preflight.check import Check
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: ValidateOptions) -> list[Check]:
    """Check, write the two files, print and return the verdicts; raise InputError on a "stop"."""
    particle_set = read_particles(
        options.particles, options.datadir, options.source_software, options.symmetry_expanded
    )
    if options.volume_series and particle_set.particles["x_A"].isna().all():
        positions = positions_from_volume_series(options.volume_series, particle_set.particles["source_id"])
        particle_set = replace(particle_set, particles=particle_set.particles.assign(**positions))
    checks, schemes, evidence = preflight(
        particle_set,
        rescale_A=options.rescale,
        look_at_images=not options.no_images,
        max_images=options.max_images,
        seed=options.seed,
        uninvert=options.uninvert_data,
    )
    write_validation(options.outdir, particle_set, checks, schemes, evidence)
    print(summary(checks, options.outdir / "validation.html", colour=sys.stdout.isatty()))
    if overall(checks) == "stop":
        stopped = next(check for check in checks if check.verdict == "stop")
        raise InputError(f"{options.particles}: {stopped.name}: {stopped.message}; {stopped.remedy}")
    return checks
