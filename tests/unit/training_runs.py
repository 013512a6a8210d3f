"""Small trainings in this process, for the tests of trainings."""

import pandas as pd
import torch

from tomohet.cli import options_of
from tomohet.particles.source import open_particles
from tomohet.training.vae import train_vae

CPU = torch.device("cpu")
SMALL = (
    "--zdim 2 -n 1 -b 4 --dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-layers-A 1 "
    "--enc-dim-B 16 --enc-layers-B 1 --pe-dim 3 --lr 0.001"
).split()


def parse(command, particles, outdir, *options):
    return options_of(command, [str(particles), "-o", str(outdir), *options])


def train(store_folder, outdir, *options):
    """train_vae in this process; later options win."""
    given = parse("train_vae", store_folder, outdir, *SMALL, *options)
    given.outdir.mkdir(parents=True, exist_ok=True)
    store, particles = open_particles(given.particles, given, given.outdir)
    train_vae(given, store, particles, CPU)
    return given.outdir


def final_loss(folder):
    return pd.read_csv(folder / "loss.csv")["total"].iloc[-1]
