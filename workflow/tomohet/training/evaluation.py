"""eval_images: latents of particles from a trained network."""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.linear.inference import linear_posterior
from tomohet.model.load import box_of, load_config, load_vae
from tomohet.model.taught import stack_posterior
from tomohet.particles.store import Store
from tomohet.training.batches import ParticleImages
from tomohet.training.latents import infer_latents
from tomohet.training.reading import Loading

log = logging.getLogger(__name__)


def evaluate_images(
    args: argparse.Namespace, store: Store, particles: np.ndarray, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log variance (P, zdim) of the latents of `particles` (store ordinals).

    Raises InputError when box or pixel size differ from those of the training.
    """
    config = load_config(args.config)
    box, pixel_size_A = box_of(config), config["angpix"]
    if store.box != box or abs(store.pixel_size_A / pixel_size_A - 1) > 1e-3:
        raise InputError(
            f"{args.particles}: box {store.box} px at {store.pixel_size_A:g} Å, but the network was trained "
            f"on {box} px at {pixel_size_A:g} Å; resample with `tomohet downsample` or extract them so"
        )
    _refuse_other_normalisation(config, store)
    model = load_vae(args.weights, config, device)
    _warn_of_more_tilts(config, int(np.diff(store.offsets)[particles].max(initial=0)))
    images = ParticleImages(store, particles, device, loading=Loading.of(args))
    teacher = config["training_args"].get("init")
    if teacher is not None:
        n_basis = config["model_args"]["n_basis"]
        posterior = stack_posterior(*linear_posterior(Path(teacher), store, particles, device))
        images.start = posterior[..., :n_basis]
    interval = args.batch_size if args.verbose else args.log_interval
    return infer_latents(model, images, args.batch_size, log_interval=interval)


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
