"""Train one neural volume for all particles: the consensus map of a decoder without latents."""

from pathlib import Path

from tomohet.options import TrainNnOptions
from tomohet.running.together import run_together
from tomohet.running.work import command
from tomohet.training.homogeneous import train_nn


@command
def run(options: TrainNnOptions) -> Path:
    """Read the particles, train, write; return the folder of the training."""
    run_together(train_nn, options)
    return options.outdir
