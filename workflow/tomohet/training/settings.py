"""The parameters of a training, given or default, as the plain dictionary that config.pkl holds."""

import datetime
import hashlib
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tomohet import __version__
from tomohet.device import fast_bfloat16
from tomohet.options import TrainNnOptions, TrainVaeOptions
from tomohet.options.training import DecoderOptions
from tomohet.particles.same_input import input_digests
from tomohet.particles.store import Store
from tomohet.physics.fourier import HalfPlane
from tomohet.training.batches import LossRows
from tomohet.training.objectives import DataTerm

TrainingOptions = TrainVaeOptions | TrainNnOptions


def training_config(options: TrainingOptions, store: Store, particles: np.ndarray, model_args: dict) -> dict:
    """Return the dictionary of config.pkl: sections and names as tomoDRGN's, plain builtin values only.

    Additional keys: `particles` (store ordinals, in the order of the latents), `store`, `store_digest`,
    `input_digests`, `scale` (real units per stored unit), and the options that tomoDRGN does not have.
    """
    vae = options if isinstance(options, TrainVaeOptions) else None
    init = vae.init if vae else None
    return {
        "starfile_args": {
            "sourcefile": str(options.particles),
            "source_software": options.source_software,
            "ind_imgs": _text(options.ind_imgs),
            "ind_ptcls": _text(options.ind_ptcls),
            "sort_ptcl_imgs": options.sort_ptcl_imgs,
            "use_first_ntilts": options.use_first_ntilts,
            "use_first_nptcls": options.use_first_nptcls,
        },
        "dataset_args": {
            "datadir": _text(options.datadir),
            "lazy": options.lazy,
            "norm": [0.0, float(store.scale)],
            "invert_data": True in store.description["inverted"],
            "window": store.description["preparation"]["window"],
            "recon_dose_weight": options.recon_dose_weight,
            "recon_tilt_weight": options.recon_tilt_weight,
            "l_dose_mask": options.l_dose_mask,
            "noise_model": options.noise_model,
            "sequential_tilt_sampling": options.sequential_tilt_sampling,
            "physical_transfer": init is not None,
            "max_frequency": options.max_frequency,
            "march": options.march,
            "rows_per_image": options.rows_per_image,
            "fraction_train": vae.fraction_train if vae else 1.0,
        },
        "lattice_args": {"boxsize": store.box + 1, "extent": options.l_extent, "ignore_DC": True},
        "model_args": model_args,
        "training_args": {
            "n": options.num_epochs,
            "B": options.batch_size,
            "wd": options.wd,
            "lr": options.lr,
            "lr_schedule": options.lr_schedule,
            "lr_warmup": options.lr_warmup,
            "beta": vae.beta if vae else None,
            "beta_control": vae.beta_control if vae else None,
            "amp": not options.no_amp,
            "multigpu": options.multigpu,
            "verbose": options.verbose,
            "log_interval": 1 if options.verbose else options.log_interval,
            "checkpoint": options.checkpoint,
            "checkpoint_minutes": options.checkpoint_minutes,
            "outdir": str(options.outdir),
            "load": options.load,
            "init": _text(init.resolve() if init else None),
            "init_digest": teacher_digest(init),
        }
        | _poses(options),
        "seed": options.seed,
        "angpix": float(store.pixel_size_A),
        "scale": float(store.scale),
        "store": str(store.folder),
        "store_digest": store.digest,
        "input_digests": input_digests(store.description),
        "particles": [int(particle) for particle in particles],
        "meta": {
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "cmd": shlex.join(sys.argv),
            "version": __version__,
        },
    }


def _poses(options: TrainingOptions) -> dict:
    """Name the table of refined poses, where one is used."""
    if options.poses is None:
        return {}
    digest = hashlib.sha256(options.poses.read_bytes()).hexdigest()
    return {"poses": str(options.poses.resolve()), "poses_digest": digest}


def _text(path: object) -> str | None:
    return None if path is None else str(path)


def teacher_digest(folder: Path | None) -> str | None:
    """Digest the linear model from which the network starts: its weights and its refined poses."""
    if folder is None:
        return None
    files = (folder / name for name in ("weights.pkl", "poses.parquet"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()


def decoder_arguments(options: DecoderOptions, zdim: int) -> dict:
    """Return the part of `model_args` that `model.vae.build_decoder` reads."""
    return {
        "zdim": zdim,
        "players": options.dec_layers,
        "pdim": options.dec_dim,
        "activation": options.activation,
        "pe_type": options.pe_type,
        "pe_dim": options.pe_dim,
        "feat_sigma": options.feat_sigma,
        "l_extent": options.l_extent,
        "hermitian": True,
    }


def vae_arguments(options: TrainVaeOptions, longest: int, n_basis: int) -> dict:
    """Return `model_args` of train_vae.

    longest : the largest number of tilts of a particle
    n_basis : number of basis maps (eigenvolumes) of the linear model from which the network starts
    """
    return {
        "kind": "vae",
        "encoder": options.encoder,
        "qlayersA": options.enc_layers_A,
        "qdimA": options.enc_dim_A,
        "out_dimA": options.out_dim_A,
        "ntilts": int(longest),
        "qlayersB": options.enc_layers_B,
        "qdimB": options.enc_dim_B,
        "enc_mask": options.enc_mask,
        "pooling_function": options.pooling_function,
        "num_seeds": options.num_seeds,
        "num_heads": options.num_heads,
        "layer_norm": options.layer_norm,
        "n_basis": n_basis,
    } | decoder_arguments(options, options.zdim)


def loss_rows(config: dict) -> LossRows:
    """Take from the configuration which Fourier points enter the loss."""
    dataset = config["dataset_args"]
    return LossRows(dataset["l_dose_mask"], dataset["max_frequency"])


def product_type(config: dict, device: torch.device) -> torch.dtype:
    """Return the type of the factors of a decoder's products: bfloat16 where allowed and fast."""
    half_precision = config["training_args"]["amp"] and fast_bfloat16(device)
    return torch.bfloat16 if half_precision else torch.float32


def data_term(
    config: dict, half_plane: HalfPlane, device: torch.device, point_weight: Tensor | None = None
) -> DataTerm:
    """Build the reconstruction term on `device`; `point_weight` as in `DataTerm`."""
    dataset = config["dataset_args"]
    return DataTerm(
        half_plane,
        dose_weight=dataset["recon_dose_weight"],
        tilt_weight=dataset["recon_tilt_weight"],
        physical=dataset["physical_transfer"],
        rows_per_image=dataset["rows_per_image"],
        dtype=product_type(config, device),
        point_weight=point_weight,
    )
