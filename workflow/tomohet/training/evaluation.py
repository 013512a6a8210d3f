"""eval_images: latents of particles from a trained network."""

import logging
import os
from pathlib import Path

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.files.parts import PartedFile, content_digest
from tomohet.files.pickles import save_latents
from tomohet.linear.saved_model import SavedModel
from tomohet.model.config_file.reading import read_vae_settings
from tomohet.model.load import load_vae
from tomohet.model.settings import Network, NetworkSettings
from tomohet.options import EvalImagesOptions
from tomohet.particles.store import Store
from tomohet.processes import Processes
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.free_latents import latents_of
from tomohet.training.latents import infer_latents
from tomohet.training.likelihood import Likelihood
from tomohet.training.posteriors import with_posteriors
from tomohet.training.reading import Loading
from tomohet.training.settings import loss_rows, teacher_digest

log = logging.getLogger(__name__)


def write_latents(
    options: EvalImagesOptions, store: Store, particles: np.ndarray, device: torch.device, share: Processes
) -> None:
    """Infer the latents of this process's share of `particles` (store ordinals), write `options.out_z`.

    Several processes write their rows into one file, and the last process turns that file into
    `options.out_z`. A share consists of whole batches: each batch is computed by a single process, so the
    results do not depend on the number of processes.
    """
    if share.size == 1:
        save_latents(options.out_z, *evaluate_images(options, store, particles, device))
        return
    n, zdim = len(particles), read_vae_settings(options.config).network.decoder.zdim
    batches = share.part(-(-n // options.batch_size))
    own = range(n)[batches.start * options.batch_size : batches.stop * options.batch_size]
    found = evaluate_images(options, store, particles[own], device) if own else ()

    images = store.data_rows[store.images_of(particles)]
    what = content_digest(
        options.weights, options.config, store.digest, particles, images, options.batch_size, options.poses
    )
    row_bytes = 2 * zdim * np.dtype(np.float32).itemsize
    file = PartedFile(options.out_z, n, row_bytes, what, lambda path: os.truncate(path, n * row_bytes))
    if own:
        file.write(own.start, np.stack(found, axis=1).astype(np.float32))

    def put(rows: Path, path: Path) -> None:
        save_latents(path, *np.fromfile(rows, np.float32).reshape(n, 2, zdim).swapaxes(0, 1))

    if file.finish(own, put):
        log.info("%s: latents of %d particles", options.out_z, n)


def evaluate_images(
    options: EvalImagesOptions, store: Store, particles: np.ndarray, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Infer mean and log variance (P, zdim) of the latents of `particles` (store ordinals).

    Raises InputError when box or pixel size differ from those of the training, and when the linear model from
    which the network was trained is missing or has changed.
    """
    settings = read_vae_settings(options.config)
    box, pixel_size_A = settings.box, settings.pixel_size_A
    if store.box != box or abs(store.pixel_size_A / pixel_size_A - 1) > 1e-3:
        raise InputError(
            f"{options.particles}: box {store.box} px at {store.pixel_size_A:g} Å, but the network was "
            f"trained on {box} px at {pixel_size_A:g} Å; resample the images with `tomohet downsample`, or "
            "extract them with that box and pixel size"
        )
    _refuse_other_normalisation(settings, store)
    model = load_vae(options.weights, settings, device)
    _warn_of_more_tilts(settings.network, int(np.diff(store.offsets)[particles].max(initial=0)))
    start, linear = settings.start, None
    # An encoder reads the whole image; the likelihood covers the points that the network was trained on.
    rows = LossRows() if start.linear is None else loss_rows(settings.data_set)
    if start.poses is not None and not store.poses_corrected:
        log.warning(
            "the network was trained on refined poses, but the particles have the poses of their file; "
            "give the refined ones with --poses %s",
            start.poses,
        )
    if start.linear is not None:
        linear = _same_linear_model(start.linear, start.linear_digest, store.box)
        store = linear.poses(store, particles).corrected(store, particles)
    images = ParticleImages(store, particles, device, loss_rows=rows, loading=Loading.of(options))
    if linear is not None:
        maps = linear.maps.for_store(store, device)
        everything = np.ones(int(images.tilts.sum()), bool)
        images = with_posteriors(images, maps, model, store, particles, everything)
        if model.encoder.sees == "nothing":
            return latents_of(model, images, Likelihood(images.half_plane, maps.mean.noise.common))
    interval = options.batch_size if options.verbose else options.log_interval
    return infer_latents(model, images, options.batch_size, log_interval=interval)


def _same_linear_model(folder: Path, digest: str | None, box: int) -> SavedModel:
    """Open the linear model from which the network was trained; latents start from its posterior."""
    fitted = (folder / "weights.pkl").is_file()
    if fitted and teacher_digest(folder) != digest:
        raise InputError(
            f"{folder}: this linear model is not the one from which the network was trained: it has been "
            "fitted again since; repeat the training with it, or put the earlier model back"
        )
    return SavedModel.read(folder, box)


def _refuse_other_normalisation(settings: NetworkSettings, store: Store) -> None:
    """Refuse images that are normalised differently from those of an imported tomoDRGN run.

    A tomoDRGN network expects images divided by one number, with the sign (contrast) of its own run.
    """
    if not settings.imported:
        return
    scale, inverted = settings.scale, settings.data_set.inverted
    stored = store.description["preparation"]["normalise"]
    same_scale = isinstance(stored, list) and stored[0] == 0 and np.isclose(stored[1], scale, rtol=1e-5)
    if not same_scale or store.description["inverted"] != [inverted]:
        sign = "" if inverted else " --uninvert-data"
        raise InputError(
            f"{store.folder}: the images are not normalised as for the imported run; prepare them with "
            f"--norm 0 {scale:g}{sign}"
        )


def _warn_of_more_tilts(network: Network, longest: int) -> None:
    encoder = network.encoder
    if encoder is not None and encoder.pooling == "concatenate" and longest > encoder.longest:
        log.warning(
            "particles have up to %d tilts, but the network concatenates %d: only the first %d tilts of each "
            "particle are used",
            longest, encoder.longest, encoder.longest,
        )  # fmt: skip
