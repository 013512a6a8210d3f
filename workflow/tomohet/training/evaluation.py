"""eval_images: latents of particles from a trained network."""

import logging
import os
from pathlib import Path

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.files.parts import PartedFile, content_digest
from tomohet.files.pickles import save_latents
from tomohet.linear.inference import Teacher
from tomohet.model.load import box_of, load_config, load_vae
from tomohet.options import EvalImagesOptions
from tomohet.particles.store import Store
from tomohet.processes import Processes
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.free_latents import latents_of
from tomohet.training.latents import infer_latents
from tomohet.training.likelihood import Likelihood
from tomohet.training.reading import Loading
from tomohet.training.settings import loss_rows, teacher_digest
from tomohet.training.teaching import take_posteriors

log = logging.getLogger(__name__)


def write_latents(
    options: EvalImagesOptions, store: Store, particles: np.ndarray, device: torch.device, share: Processes
) -> None:
    """Infer the latents of this process's share of `particles` (store ordinals), write `options.out_z`.

    Of several processes each puts its rows into one file, which the last one turns into `options.out_z`.
    Shares are whole batches, so that every batch is that of a single process, and so are its numbers.
    """
    if share.size == 1:
        save_latents(options.out_z, *evaluate_images(options, store, particles, device))
        return
    n, zdim = len(particles), load_config(options.config)["model_args"]["zdim"]
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
    """Mean and log variance (P, zdim) of the latents of `particles` (store ordinals).

    Raises InputError when box or pixel size differ from those of the training, and when the linear model that
    taught the network is gone or another.
    """
    config = load_config(options.config)
    box, pixel_size_A = box_of(config), config["angpix"]
    if store.box != box or abs(store.pixel_size_A / pixel_size_A - 1) > 1e-3:
        raise InputError(
            f"{options.particles}: box {store.box} px at {store.pixel_size_A:g} Å, but the network was "
            f"trained on {box} px at {pixel_size_A:g} Å; resample with `tomohet downsample` or extract "
            "them so"
        )
    _refuse_other_normalisation(config, store)
    model = load_vae(options.weights, config, device)
    _warn_of_more_tilts(config, int(np.diff(store.offsets)[particles].max(initial=0)))
    teacher = config["training_args"].get("init")
    # An encoder sees all of an image; a likelihood has the rows that the network was trained on.
    rows = LossRows() if teacher is None else loss_rows(config)
    if "poses" in config["training_args"] and not store.poses_corrected:
        log.warning(
            "the network was trained on refined poses, and these are as stated; name them: --poses %s",
            config["training_args"]["poses"],
        )
    if teacher is not None:
        teacher = _same_teacher(config, store.box)
        store = teacher.poses(store, particles).corrected(store, particles)
    images = ParticleImages(store, particles, device, loss_rows=rows, loading=Loading.of(options))
    if teacher is not None:
        everything = np.ones(int(images.tilts.sum()), bool)
        take_posteriors(images, teacher, model, store, particles, everything)
        if model.encoder.sees == "nothing":
            return latents_of(model, images, Likelihood(images.half_plane, teacher.noise(device)))
    interval = options.batch_size if options.verbose else options.log_interval
    return infer_latents(model, images, options.batch_size, log_interval=interval)


def _same_teacher(config: dict, box: int) -> Teacher:
    """The linear model that taught the network; latents start from its posterior."""
    folder = Path(config["training_args"]["init"])
    fitted = (folder / "weights.pkl").is_file()
    if fitted and teacher_digest(folder) != config["training_args"]["init_digest"]:
        raise InputError(
            f"{folder}: this linear model is not the one that taught the network: it was fitted anew since; "
            "repeat the training with it, or put the earlier one back"
        )
    return Teacher.of(folder, box)


def _refuse_other_normalisation(config: dict, store: Store) -> None:
    """A network of tomoDRGN knows images divided by one number, of the sign that its run gave them."""
    if "imported" not in config:
        return
    scale, inverted = config["scale"], config["dataset_args"]["invert_data"]
    stored = store.description["preparation"]["normalise"]
    same_scale = isinstance(stored, list) and stored[0] == 0 and np.isclose(stored[1], scale, rtol=1e-5)
    if not same_scale or store.description["inverted"] != [inverted]:
        sign = "" if inverted else " --uninvert-data"
        raise InputError(
            f"{store.folder}: prepared otherwise than for the imported run; prepare the images with "
            f"--norm 0 {scale:g}{sign}"
        )


def _warn_of_more_tilts(config: dict, longest: int) -> None:
    places = config["model_args"]["ntilts"]
    if config["model_args"]["pooling_function"] == "concatenate" and longest > places:
        log.warning(
            "particles have up to %d tilts; the network concatenates %d, so the first %d of each are used",
            longest, places, places,
        )  # fmt: skip
