"""train_vae: the heterogeneity network of a set of particles, from images to the output folder."""

import argparse
import logging

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.linear.inference import linear_posterior, read_linear
from tomohet.model.taught import stack_posterior
from tomohet.model.vae import build_vae
from tomohet.model.volumes import TrainedVolumes
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.training.batches import ParticleImages, split_tilts
from tomohet.training.checkpoints import settings_digest
from tomohet.training.loop import Plan, Training
from tomohet.training.noise import loss_weights
from tomohet.training.objectives import VaeObjective
from tomohet.training.reading import Loading
from tomohet.training.runs import (
    EpochResults,
    begin,
    write_config,
    write_loss_figure,
    write_tilt_distribution,
)
from tomohet.training.settings import data_term, loss_rows, training_config, vae_arguments

log = logging.getLogger(__name__)


def train_vae(
    args: argparse.Namespace,
    store: Store,
    particles: np.ndarray,
    device: torch.device,
    processes: Processes = ALONE,
) -> None:
    """Train on `particles` (store ordinals) with the options of the command line; see `runs` for the files.

    Raises InputError for settings or data that cannot be trained on, and when the training diverges.
    """
    tilts = np.diff(store.offsets)[particles]
    _refuse_too_few(particles, args.batch_size)
    teacher = read_linear(args.init, store.box) if args.init else None
    n_taught = teacher[0]["model_args"]["zdim"] if teacher else 0
    n_basis = min(n_taught, args.zdim)
    if n_basis < n_taught:
        log.warning("--zdim %d: taught by the first %d of %d basis maps", args.zdim, n_basis, n_taught)
    config = training_config(args, store, particles, vae_arguments(args, int(tilts.max()), n_basis))
    training_args = config["training_args"]
    train, test = _images(args, config, store, particles, device, processes)
    model = build_vae(store.box, config["model_args"], args.seed).to(device)
    if teacher:
        unit = teacher[0]["scale"] / store.scale
        model.decoder.base.fill(unit * teacher[1]["mean"], unit * teacher[1]["basis"][:n_basis])
        # Basis maps are in the order of their power: a smaller network is taught by the first of them.
        posterior = stack_posterior(*linear_posterior(args.init, store, particles, device))[..., :n_basis]
        for images in filter(None, (train, test)):
            images.start = posterior
    log.info("network: %d trained parameters", sum(p.numel() for p in model.parameters() if p.requires_grad))

    beta = training_args["beta"] if training_args["beta"] is not None else 1 / args.zdim
    weights = loss_weights(config, store, device, args.outdir if processes.leads else None)
    objective = VaeObjective(
        model,
        data_term(config, train.half_plane, device, weights),
        beta,
        training_args["beta_control"],
        total_particles=args.num_epochs * len(particles),
        processes=processes,
    )
    digest = settings_digest(config, store)
    training = Training(model, objective, train, Plan.of(config), args.outdir, digest)
    volumes = TrainedVolumes(model.decoder, store.pixel_size_A, store.scale, device)
    results = EpochResults(args.outdir, training, volumes, test, every=args.checkpoint, first=1)
    begin(training, args.load, args.outdir)
    if processes.leads:
        write_config(args.outdir, config)
        write_tilt_distribution(args.outdir, tilts, args.plot_format)
    training.run(results)
    if processes.leads:
        write_loss_figure(args.outdir, training.position.history, args.plot_format)
    results.finish()


def _refuse_too_few(particles: np.ndarray, batch_size: int) -> None:
    if len(particles) < 2:
        raise InputError(f"{len(particles)} particles are too few to train on; select at least 2")
    if batch_size > len(particles):
        log.warning("--batch-size %d: there are only %d particles", batch_size, len(particles))


def _images(args, config: dict, store: Store, particles: np.ndarray, device: torch.device, processes):
    """The images to train on, and those held out by --fraction-train, or None."""
    options = {"loading": Loading.of(args), "processes": processes}
    if args.fraction_train == 1:
        return ParticleImages(store, particles, device, loss_rows=loss_rows(config), **options), None
    tilts = np.diff(store.offsets)[particles]
    keep = split_tilts(tilts, args.fraction_train, np.random.default_rng([args.seed, 1]))
    alone = int((tilts == 1).sum())
    if alone:
        log.warning(
            "%d particles have a single tilt: it is trained on, and their test latents are NaN", alone
        )
    return (
        ParticleImages(store, particles, device, loss_rows=loss_rows(config), keep=keep, **options),
        ParticleImages(store, particles, device, keep=~keep, **options),
    )
