"""Train the network for heterogeneity: latents of particles, and volumes decoded from latents."""

from pathlib import Path

from tomohet.options import TrainVaeOptions
from tomohet.running.together import run_together
from tomohet.running.work import command
from tomohet.training.vae import train_vae


@command
def run(options: TrainVaeOptions) -> Path:
    """Read the particles, train, write; return the folder of the training."""
    run_together(train_vae, options)
    return options.outdir
