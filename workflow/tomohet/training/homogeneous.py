"""train_nn: one neural volume for all particles."""

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.model.config_file.writing import network_content, write_config
from tomohet.model.settings import Network
from tomohet.model.vae import build_decoder
from tomohet.model.volumes import TrainedVolumes
from tomohet.options import TrainNnOptions
from tomohet.particles.store import Store
from tomohet.processes import ALONE, Processes
from tomohet.training.batches import ParticleImages
from tomohet.training.checkpoints import settings_digest
from tomohet.training.loop import Plan, Training
from tomohet.training.noise import loss_weights
from tomohet.training.objectives import VolumeObjective
from tomohet.training.reading import Loading
from tomohet.training.runs import EpochResults, begin, warn_of_idle, write_loss_figure
from tomohet.training.settings import data_term, decoder_shape, loss_rows, training_settings


def train_nn(
    options: TrainNnOptions,
    store: Store,
    particles: np.ndarray,
    device: torch.device,
    processes: Processes = ALONE,
) -> None:
    """Train a homogeneous volume on `particles` with the options of the command line.

    Raises InputError when there is nothing to train on, and when the training diverges.
    """
    if not len(particles):
        raise InputError("no particles to train on; check the selection")
    warn_of_idle(processes, options.batch_size)
    network = Network(decoder_shape(options, zdim=0))
    settings = training_settings(options, store, particles, network)
    images = ParticleImages(
        store,
        particles,
        device,
        loss_rows=loss_rows(settings.data_set),
        loading=Loading.of(options),
        batch_size=options.batch_size,
        processes=processes,
    )
    model = build_decoder(store.box, network.decoder, options.seed).to(device)
    weights = loss_weights(options, store, particles, device, options.outdir if processes.leads else None)
    objective = VolumeObjective(model, data_term(options, images.half_plane, device, weights))
    digest = settings_digest(settings, options, store)
    training = Training(model, objective, images, Plan.of(options), options.outdir, digest)
    volumes = TrainedVolumes(model, store.pixel_size_A, store.scale, device)
    results = EpochResults(options.outdir, training, volumes, None, every=options.checkpoint, first=0)
    begin(training, options.load, options.outdir)
    if processes.leads:
        write_config(options.outdir, network_content(settings, options))
    training.run(results)
    if processes.leads:
        write_loss_figure(options.outdir, training.position.history, options.plot_format)
    results.finish()
