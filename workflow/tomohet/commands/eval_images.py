"""Infer latents of particles with a trained network."""

from pathlib import Path

from tomohet.device import device_of
from tomohet.files.parts import locked
from tomohet.options import EvalImagesOptions
from tomohet.particles.source import open_particles
from tomohet.processes import PATIENCE, share_of, start_one_per_gpu
from tomohet.running.work import command
from tomohet.training.evaluation import write_latents


@command
def run(options: EvalImagesOptions) -> Path:
    """Read the particles, infer latents, write means and log variances; return the path of the file."""
    device = device_of(options.device)
    if options.multigpu:
        start_one_per_gpu(device)
    folder = options.out_z.parent
    # The first of several processes prepares the images of a STAR file, which may take hours.
    with locked(folder / "prepared", PATIENCE.total_seconds()):
        store, particles = open_particles(options.particles, options, folder)
    write_latents(options, store, particles, device, share_of(options.part, device))
    return options.out_z
