"""train_vae: train the heterogeneity network of a set of particles, from images to the output folder."""

import logging
from dataclasses import replace

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.linear.prediction import source_tensor
from tomohet.linear.saved_model import SavedModel
from tomohet.model.config_file.writing import network_content, write_config
from tomohet.model.vae import build_vae
from tomohet.model.volumes import TrainedVolumes
from tomohet.options import TrainVaeOptions
from tomohet.particles.same_input import warn_of_other_input
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.training.batches import ParticleImages
from tomohet.training.checkpoints import settings_digest
from tomohet.training.free_latents import latents_of
from tomohet.training.held_out import write_held_out, write_held_out_figure
from tomohet.training.latents import infer_latents
from tomohet.training.loop import Plan, Training
from tomohet.training.noise import loss_weights
from tomohet.training.objectives import VaeObjective
from tomohet.training.posteriors import with_posteriors
from tomohet.training.reading import Loading, Place
from tomohet.training.runs import (
    EpochResults,
    begin,
    warn_of_idle,
    write_loss_figure,
    write_tilt_distribution,
)
from tomohet.training.settings import (
    data_term,
    loss_rows,
    product_type,
    teacher_digest,
    training_settings,
    vae_network,
)
from tomohet.training.splits import TiltSplit
from tomohet.training.teaching import teach
from tomohet.training.untaught import UntaughtJudge
from tomohet.training.warm_start import WarmStart

log = logging.getLogger(__name__)


def train_vae(
    options: TrainVaeOptions,
    store: Store,
    particles: np.ndarray,
    device: torch.device,
    processes: Processes = ALONE,
) -> None:
    """Train on `particles` (store ordinals) with the options of the command line; see `runs` for the files.

    Raises InputError for settings or data that cannot be trained on, and when the training diverges.
    """
    tilts = np.diff(store.offsets)[particles]
    _refuse_too_few(particles, options.batch_size)
    warn_of_idle(processes, options.batch_size)
    linear = SavedModel.read(options.init, store.box) if options.init else None
    if linear:
        warn_of_other_input(linear.settings.particles.origin, store.description, options.init, store.folder)
        store = linear.poses(store, particles).corrected(store, particles)
    maps = linear.maps.for_store(store, device) if linear else None
    n_fitted = len(maps.basis) if maps else 0
    options = _with_defaults(options, n_fitted)
    n_basis = min(n_fitted, options.zdim) if maps else 0
    if n_basis < n_fitted:
        log.warning(
            "--zdim %d: starts from the first %d of the linear model's %d basis maps",
            options.zdim, n_basis, n_fitted,
        )  # fmt: skip
    network = vae_network(options, int(tilts.max()), n_basis)
    warm = None
    if options.warm_start:
        warm = WarmStart.read(options.warm_start, store, particles, teacher_digest(options.init))
        network = warm.same_shape(network)
    settings = training_settings(options, store, particles, network)
    if warm:
        start = replace(settings.start, warm=warm.folder.resolve(), warm_digest=warm.digest)
        settings = replace(settings, start=start)
    if maps and maps.mean.nuisance is not None:
        log.warning(
            "the linear model has nuisance directions (outside of a focus mask, or explained by imaging "
            "conditions): the network's contribution to the maps, and its own latents, may follow them"
        )
    split = (
        warm.split(store, particles)
        if warm
        else TiltSplit.of_store(store, particles, options.fraction_train, maps is not None, options.seed)
    )

    def images(mask: np.ndarray, place: Place | None = None) -> ParticleImages:
        return ParticleImages(
            store,
            particles,
            device,
            keep=None if mask.all() else mask,
            place=place,
            loading=Loading.of(options),
            batch_size=options.batch_size,
            processes=processes,
            loss_rows=loss_rows(settings.data_set),
        )

    train, test = images(split.trained), images(split.test) if split.test.any() else None
    model = build_vae(store.box, network, options.seed).to(device)
    teaching = None
    if maps:
        judging, whole = images(split.judging), images(~split.test, place="file")
        course = {"epochs": options.num_epochs, "seed": options.seed, "folder": options.outdir}
        course |= {"rows_per_image": options.rows_per_image, "dtype": product_type(options, device)}
        teaching = teach(maps, model, store, particles, split, train, judging, whole, **course)
        train = teaching.fitted
        if warm:
            warm.fill(model)
            log.info("the network starts from the weights of %s", warm.folder)
        if test:
            test = with_posteriors(test, maps, model, store, particles, split.test)
    log.info("network: %d trained parameters", sum(p.numel() for p in model.parameters() if p.requires_grad))

    def latents() -> list[tuple[np.ndarray, np.ndarray]]:
        of_train = teaching.latents() if teaching else infer_latents(model, train)
        near = teaching.near if teaching else None
        return [of_train, latents_of(model, test, near)] if test else [of_train]

    beta = options.beta if options.beta is not None else 1 / network.decoder.zdim
    weights = loss_weights(options, store, particles, device, options.outdir if processes.leads else None)
    objective = VaeObjective(
        model,
        data_term(options, train.half_plane, device, weights),
        beta,
        options.beta_control,
        total_particles=options.num_epochs * len(particles),
        processes=processes,
    )
    digest = settings_digest(settings, options, store)
    judge = teaching
    if test and not teaching:
        course = {"epochs": options.num_epochs, "folder": options.outdir}
        judge = UntaughtJudge(
            model, train, test, objective.data, source=source_tensor(store, particles, device), **course
        )
    training = Training(model, objective, train, Plan.of(options), options.outdir, digest, judge)
    volumes = TrainedVolumes(model.decoder, store.pixel_size_A, store.scale, device)
    results = EpochResults(options.outdir, training, volumes, latents, every=options.checkpoint, first=1)
    begin(training, options.load, options.outdir)
    if processes.leads:
        write_config(options.outdir, network_content(settings, options))
        write_tilt_distribution(options.outdir, tilts, options.plot_format)
    training.run(results)
    if processes.leads:
        write_loss_figure(options.outdir, training.position.history, options.plot_format)
        ended = _said_end(training)
        if judge and judge.history:
            write_held_out_figure(options.outdir, judge.history, options.plot_format)
            log.info("verdict: %s", write_held_out(options.outdir, judge.history, ended))
    results.finish()


def _said_end(training: Training) -> str:
    """Log and return why a training that goes on until it has converged has ended; "" for any other."""
    if not training.plan.until_converged:
        return ""
    position, most = training.position, training.plan.epochs
    reason = position.ended or "it has not converged"
    text = f"after {position.epoch} of at most {most} epochs: {reason}"
    log.info("the training ended %s", text)
    return text


def _with_defaults(options: TrainVaeOptions, n_fitted: int) -> TrainVaeOptions:
    """Fill in the omitted options whose defaults depend on whether the network starts from a linear model.

    n_fitted : number of the linear model's basis maps; 0 without one
    """
    zdim = options.zdim or n_fitted or None
    encoder = options.encoder or ("free" if n_fitted else "tilts")
    return options.changed(zdim=zdim, encoder=encoder)


def _refuse_too_few(particles: np.ndarray, batch_size: int) -> None:
    if len(particles) < 2:
        raise InputError(f"{len(particles)} particles are too few to train on; select at least 2")
    if batch_size > len(particles):
        log.warning("--batch-size %d: there are only %d particles", batch_size, len(particles))
