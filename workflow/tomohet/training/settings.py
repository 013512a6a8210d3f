"""Settings of a training: what its config.pkl records, and what its loss and its network follow from."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet.device import fast_bfloat16
from tomohet.model.settings import (
    DataSet,
    DecoderShape,
    EncoderShape,
    Network,
    NetworkSettings,
    Start,
    TrainedParticles,
)
from tomohet.options import TrainNnOptions, TrainVaeOptions
from tomohet.options.training import CourseOptions, DecoderOptions
from tomohet.particles.store import Store
from tomohet.physics.lattice import HalfPlane
from tomohet.training.batches import LossRows
from tomohet.training.objectives import DataTerm

TrainingOptions = TrainVaeOptions | TrainNnOptions


def training_settings(
    options: TrainingOptions, store: Store, particles: np.ndarray, network: Network
) -> NetworkSettings:
    """Return what a training of a network on particles (store ordinals) records in its config.pkl."""
    init = options.init if isinstance(options, TrainVaeOptions) else None
    return NetworkSettings(
        box=store.box,
        pixel_size_A=float(store.pixel_size_A),
        scale=float(store.scale),
        seed=options.seed,
        particles=TrainedParticles.of_store(store.description, store.folder, particles),
        network=network,
        data_set=DataSet(
            inverted=True in store.description["inverted"],
            window=store.description["preparation"]["window"],
            dose_mask=options.l_dose_mask,
            max_frequency=options.max_frequency,
            fraction_train=options.fraction_train if isinstance(options, TrainVaeOptions) else 1.0,
        ),
        start=Start(
            linear=init and init.resolve(),
            linear_digest=teacher_digest(init),
            poses=options.poses and options.poses.resolve(),
            poses_digest=options.poses and hashlib.sha256(options.poses.read_bytes()).hexdigest(),
        ),
    )


def teacher_digest(folder: Path | None) -> str | None:
    """Digest the linear model from which the network starts: its weights and its refined poses."""
    if folder is None:
        return None
    files = (folder / name for name in ("weights.pkl", "poses.parquet"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()


def decoder_shape(options: DecoderOptions, zdim: int, n_basis: int = 0) -> DecoderShape:
    """Return the shape of a decoder; `n_basis` as in `vae_network`."""
    return DecoderShape(
        zdim=zdim,
        layers=options.dec_layers,
        width=options.dec_dim,
        activation=options.activation,
        encoding=options.pe_type,
        per_axis=options.pe_dim,
        feat_sigma=options.feat_sigma,
        extent=options.l_extent,
        hermitian=True,
        n_basis=n_basis,
    )


def vae_network(options: TrainVaeOptions, longest: int, n_basis: int) -> Network:
    """Return the shape of train_vae's network.

    longest : the largest number of tilts of a particle
    n_basis : number of basis maps (eigenvolumes) of the linear model from which the network starts
    """
    encoder = EncoderShape(
        source=options.encoder or "tilts",
        layers_a=options.enc_layers_A,
        width_a=options.enc_dim_A,
        out_a=options.out_dim_A,
        longest=int(longest),
        layers_b=options.enc_layers_B,
        width_b=options.enc_dim_B,
        mask_px=options.enc_mask,
        pooling=options.pooling_function,
        seeds=options.num_seeds,
        heads=options.num_heads,
        layer_norm=options.layer_norm,
    )
    return Network(decoder_shape(options, options.zdim or 0, n_basis), encoder)


def loss_rows(data_set: DataSet) -> LossRows:
    """Return which Fourier points enter the loss of a training on this data set."""
    return LossRows(data_set.dose_mask, data_set.max_frequency)


def product_type(options: CourseOptions, device: torch.device) -> torch.dtype:
    """Return the type of the factors of a decoder's products: bfloat16 where allowed and fast."""
    return torch.bfloat16 if not options.no_amp and fast_bfloat16(device) else torch.float32


def data_term(
    options: TrainingOptions, half_plane: HalfPlane, device: torch.device, point_weight: Tensor | None = None
) -> DataTerm:
    """Build the reconstruction term on `device`; `point_weight` as in `DataTerm`.

    The images of a network that starts from a linear model are modelled as the camera recorded them, as they
    are in that model.
    """
    return DataTerm(
        half_plane,
        dose_weight=options.recon_dose_weight,
        tilt_weight=options.recon_tilt_weight,
        physical=isinstance(options, TrainVaeOptions) and options.init is not None,
        rows_per_image=options.rows_per_image,
        dtype=product_type(options, device),
        point_weight=point_weight,
    )
