"""Small trainings in this process, for the tests of trainings."""

import importlib.util

import pandas as pd
import torch

from tomohet.particles.source import open_particles
from tomohet.training.settings import check_options
from tomohet.training.vae import train_vae

CPU = torch.device("cpu")
SMALL = (
    "--zdim 2 -n 1 -b 4 --dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-layers-A 1 "
    "--enc-dim-B 16 --enc-layers-B 1 --pe-dim 3 --lr 0.001"
).split()


def parse(script, particles, outdir, *options):
    from tomohet.cli import SCRIPTS

    spec = importlib.util.spec_from_file_location(script, SCRIPTS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_parser().parse_args([str(particles), "-o", str(outdir), *options])


def train(store_folder, outdir, *options):
    """train_vae in this process; later options win."""
    args = parse("train_vae", store_folder, outdir, *SMALL, *options)
    check_options(args)
    args.outdir.mkdir(parents=True, exist_ok=True)
    store, particles = open_particles(args.particles, args)
    train_vae(args, store, particles, CPU)
    return args.outdir


def final_loss(folder):
    return pd.read_csv(folder / "loss.csv")["total"].iloc[-1]
