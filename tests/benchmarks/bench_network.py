"""Training steps, encoder inference and decoding of volumes: our way and the textbook's.

Each function measures one of them at a `Place` and returns what a repetition held.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import textbook
import torch
from measure import Enough, Stopwatch
from textbook_images import Particles
from workloads import STAR, STORE, Workload

from tomohet.cli import options_of
from tomohet.model.vae import HeterogeneityVAE, build_vae
from tomohet.model.volumes import TrainedVolumes, half_precision, write_volumes
from tomohet.particles.dialects import read_particles
from tomohet.particles.source import open_particles
from tomohet.particles.store import open_store
from tomohet.training.batches import Fetched, ParticleImages
from tomohet.training.latents import infer_latents
from tomohet.training.settings import vae_network
from tomohet.training.vae import train_vae

VOLUMES_AT_ONCE = 32  # as `eval_vol` does by itself


@dataclass(frozen=True)
class Place:
    """Where and on what something is measured: data in `folder`, results into `scratch`."""

    load: Workload
    folder: Path
    scratch: Path
    device: torch.device
    watch: Stopwatch


@dataclass(frozen=True)
class Amount:
    """What a repetition holds: particles, images or volumes (`units`), tilt images, and arithmetic."""

    units: int
    images: int = 0
    flop: float | None = None


def train(place: Place, *options: str, share: float = 1.0) -> Amount:
    """Steps of the command `train_vae` on a share of the rows, from one batch of images to the next."""
    load, watch = place.load, place.watch
    args = _train_vae_arguments(place, "--rows-per-image", str(share), *options)
    store, particles = open_particles(args.particles, args, args.outdir)
    flop = load.batch * load.training_flop(share * load.rows(store))
    # One epoch that is longer than the measurement, whatever the number of particles.
    particles = np.resize(particles, load.batch * (watch.most_laps + 1))
    fetched = ParticleImages.fetched

    def timed(images: ParticleImages, groups: list[np.ndarray], first: int = 0) -> Iterator[Fetched]:
        for batch in fetched(images, groups, first):
            watch.lap()
            yield batch

    with mock.patch.object(ParticleImages, "fetched", timed), suppress(Enough):
        train_vae(args, store, particles, place.device)
    return Amount(load.batch, load.batch * load.tilts, flop)


def train_textbook(place: Place) -> Amount:
    """The same steps the plain way."""
    load = place.load
    steps = textbook.training_steps(_textbook(place), _particles(place), load.batch, place.device)
    place.watch.repeat(lambda: next(steps))
    return Amount(load.batch, load.batch * load.tilts)


def encode(place: Place) -> Amount:
    """Latents of all particles, as `eval_images` infers them."""
    load, store = place.load, open_store(place.folder / STORE)
    images = ParticleImages(store, np.arange(load.particles), place.device)
    model = _network(place)
    place.watch.repeat(lambda: infer_latents(model, images))
    return Amount(load.particles, load.particles * load.tilts, load.particles * load.encoding_flop(store))


def encode_textbook(place: Place) -> Amount:
    """The same the plain way."""
    load, model, particles = place.load, _textbook(place), _particles(place)
    place.watch.repeat(lambda: textbook.latents(model, particles, place.device))
    return Amount(load.particles, load.particles * load.tilts)


def decode(place: Place, downsample: int = 1, amp: bool = False, stack: int | None = None) -> Amount:
    """Volumes as `eval_vol` decodes and writes them.

    amp : with hidden layers of 16 bits. stack : so many volumes, into one file; default: a file for each.
    """
    load = place.load
    box = load.box // downsample
    # As many as take some seconds on a CPU; what they share is done once for all of a batch.
    count = VOLUMES_AT_ONCE if place.device.type == "cuda" else min(VOLUMES_AT_ONCE, 2**21 // load.box**3)
    count = stack or count
    how = {"box": box, "batch": VOLUMES_AT_ONCE, "stack": stack is not None}
    decoder = TrainedVolumes(_network(place).decoder, load.pixel_size_A, 1.0, place.device)
    z = np.random.default_rng(0).standard_normal((count, load.zdim), np.float32)
    dtype = (amp and half_precision(place.device)) or torch.float32
    place.watch.repeat(lambda: write_volumes(decoder, z, place.scratch, dtype=dtype, **how))
    return Amount(count, flop=count * load.decoding_flop(box))


def decode_textbook(place: Place, downsample: int = 1) -> Amount:
    """The same the plain way; volume by volume, so that one tells the time of all."""
    load, model = place.load, _textbook(place)
    box, path = load.box // downsample, place.scratch / "volume.mrc"
    z = torch.randn(load.zdim, device=place.device)
    place.watch.repeat(lambda: textbook.write_volume(model, z, box, path, load.pixel_size_A * downsample))
    return Amount(1)


def _train_vae_arguments(place: Place, *options: str):
    """What the command line of `train_vae` would be."""
    words = [place.folder / STORE, "-o", place.scratch, "--device", place.device.type]
    return options_of("train_vae", [*map(str, words), *place.load.training_options(), *options])


def _network(place: Place) -> HeterogeneityVAE:
    """Our network, with random weights."""
    network = vae_network(_train_vae_arguments(place), place.load.tilts, n_basis=0)
    return build_vae(place.load.box, network, seed=0).to(place.device).eval()


def _textbook(place: Place) -> textbook.TextbookVAE:
    load = place.load
    torch.manual_seed(0)
    model = textbook.TextbookVAE(load.box, load.zdim, load.layers, load.width, load.dose_mask)
    return model.to(place.device)


def _particles(place: Place) -> Particles:
    return Particles(read_particles(place.folder / STAR).images, place.load.box)
