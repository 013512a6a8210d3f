"""Train the heterogeneity network: latents of particles and the volumes they stand for."""

from tomohet.options import TrainVaeOptions
from tomohet.running.together import run_together
from tomohet.running.work import command
from tomohet.training.vae import train_vae


@command
def run(options: TrainVaeOptions) -> None:
    """Read the particles, train, write."""
    run_together(train_vae, options)
