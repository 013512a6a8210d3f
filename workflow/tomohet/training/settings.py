"""The parameters of a training, given or default, as the plain dictionary that config.pkl holds."""

import argparse
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
from tomohet.errors import InputError
from tomohet.particles.same_input import input_digests
from tomohet.particles.store import Store
from tomohet.physics.fourier import HalfPlane
from tomohet.training.batches import LossRows
from tomohet.training.objectives import DataTerm

_AT_LEAST_ONE = (
    "zdim", "num_epochs", "batch_size", "checkpoint", "log_interval", "dec_layers", "dec_dim", "pe_dim",
    "enc_layers_A", "enc_dim_A", "out_dim_A", "enc_layers_B", "enc_dim_B", "num_seeds", "num_heads",
)  # fmt: skip
_RANGES = {  # lowest excluded, highest included
    "lr": (0, None),
    "fraction_train": (0, 1),
    "rows_per_image": (0, 1),
    "max_frequency": (0, 0.5),
    "feat_sigma": (0, None),
    "l_extent": (0, 0.5),
}


def check_options(args: argparse.Namespace) -> None:
    """Raise InputError for option values with which no training is possible."""
    for name in _AT_LEAST_ONE:
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise InputError(f"{_flag(name)} {value}: expected at least 1")
    for name, (lowest, highest) in _RANGES.items():
        value = getattr(args, name, None)
        if value is None or (value > lowest and (highest is None or value <= highest)):
            continue
        bound = f" and at most {highest}" if highest is not None else ""
        raise InputError(f"{_flag(name)} {value}: expected more than {lowest}{bound}")
    if not 0 <= args.lr_warmup < 1:
        raise InputError(f"--lr-warmup {args.lr_warmup}: expected a fraction of the training, 0 to below 1")
    if not 0 <= args.march < 1:
        raise InputError(f"--march {args.march}: expected a fraction of the training, 0 to below 1")
    if hasattr(args, "init"):
        _check_untaught(args)
    check_loading(args)
    if args.wd < 0 or args.checkpoint_minutes < 0:
        raise InputError("--wd and --checkpoint-minutes cannot be negative")
    if getattr(args, "pooling_function", None) == "set_encoder" and args.enc_dim_B % args.num_heads:
        raise InputError(f"--num-heads {args.num_heads}: --enc-dim-B {args.enc_dim_B} is not divisible by it")


def _check_untaught(args: argparse.Namespace) -> None:
    """Raise InputError for options that need a linear model, and for missing ones that it would supply."""
    if args.init is not None:
        if args.poses is not None:
            raise InputError(
                "--init and --poses exclude each other: the linear model of --init brings its own refined "
                "poses; leave out --poses"
            )
        return
    remedy = "with --init DIR (the output folder of `tomohet train_linear` on the same particles)"
    if args.encoder not in (None, "tilts"):
        raise InputError(
            f"--encoder {args.encoder}: latents of this encoder start from a linear model; give one {remedy}"
        )
    if args.zdim is None:
        raise InputError(
            f"--zdim is missing: give the number of latents, such as 128, or a linear model {remedy}"
        )


def check_loading(args: argparse.Namespace) -> None:
    """Raise InputError for impossible numbers of threads or of batches to prepare."""
    if args.num_workers < 0:
        raise InputError(f"--num-workers {args.num_workers}: expected a number of threads, 0 or more")
    if args.prefetch_factor is not None and args.prefetch_factor < 1:
        raise InputError(f"--prefetch-factor {args.prefetch_factor}: expected at least 1")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def training_config(args: argparse.Namespace, store: Store, particles: np.ndarray, model_args: dict) -> dict:
    """Build the dictionary of config.pkl: sections and names as in tomoDRGN, plain builtin values only.

    Additional keys: `particles` (store ordinals, in the order of the latents), `store`, `store_digest`,
    `input_digests`, `scale` (real units per stored unit), and the options that tomoDRGN does not have.
    """
    init = getattr(args, "init", None)
    return {
        "starfile_args": {
            "sourcefile": str(args.particles),
            "source_software": args.source_software,
            "ind_imgs": _text(args.ind_imgs),
            "ind_ptcls": _text(args.ind_ptcls),
            "sort_ptcl_imgs": args.sort_ptcl_imgs,
            "use_first_ntilts": args.use_first_ntilts,
            "use_first_nptcls": args.use_first_nptcls,
        },
        "dataset_args": {
            "datadir": _text(args.datadir),
            "lazy": args.lazy,
            "norm": [0.0, float(store.scale)],
            "invert_data": True in store.description["inverted"],
            "window": store.description["preparation"]["window"],
            "recon_dose_weight": args.recon_dose_weight,
            "recon_tilt_weight": args.recon_tilt_weight,
            "l_dose_mask": args.l_dose_mask,
            "noise_model": args.noise_model,
            "sequential_tilt_sampling": args.sequential_tilt_sampling,
            "physical_transfer": init is not None,
            "max_frequency": args.max_frequency,
            "march": args.march,
            "rows_per_image": args.rows_per_image,
            "fraction_train": getattr(args, "fraction_train", 1.0),
        },
        "lattice_args": {"boxsize": store.box + 1, "extent": args.l_extent, "ignore_DC": True},
        "model_args": model_args,
        "training_args": {
            "n": args.num_epochs,
            "B": args.batch_size,
            "wd": args.wd,
            "lr": args.lr,
            "lr_schedule": args.lr_schedule,
            "lr_warmup": args.lr_warmup,
            "beta": getattr(args, "beta", None),
            "beta_control": getattr(args, "beta_control", None),
            "amp": not args.no_amp,
            "multigpu": args.multigpu,
            "verbose": args.verbose,
            "log_interval": 1 if args.verbose else args.log_interval,
            "checkpoint": args.checkpoint,
            "checkpoint_minutes": args.checkpoint_minutes,
            "outdir": str(args.outdir),
            "load": args.load,
            "init": _text(init.resolve() if init else None),
            "init_digest": teacher_digest(init),
        }
        | _poses(args),
        "seed": args.seed,
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


def _poses(args: argparse.Namespace) -> dict:
    """Name the table of refined poses, where one is used."""
    if getattr(args, "poses", None) is None:
        return {}
    digest = hashlib.sha256(args.poses.read_bytes()).hexdigest()
    return {"poses": str(args.poses.resolve()), "poses_digest": digest}


def _text(path: object) -> str | None:
    return None if path is None else str(path)


def teacher_digest(folder: Path | None) -> str | None:
    """Digest the linear model from which the network starts: its weights and its refined poses."""
    if folder is None:
        return None
    files = (folder / name for name in ("weights.pkl", "poses.parquet"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()


def decoder_arguments(args: argparse.Namespace, zdim: int) -> dict:
    """Return the part of `model_args` that `model.vae.build_decoder` reads."""
    return {
        "zdim": zdim,
        "players": args.dec_layers,
        "pdim": args.dec_dim,
        "activation": args.activation,
        "pe_type": args.pe_type,
        "pe_dim": args.pe_dim,
        "feat_sigma": args.feat_sigma,
        "l_extent": args.l_extent,
        "hermitian": True,
    }


def vae_arguments(args: argparse.Namespace, longest: int, n_basis: int) -> dict:
    """Return `model_args` of train_vae.

    longest : the largest number of tilts of a particle
    n_basis : number of basis maps (eigenvolumes) of the linear model from which the network starts
    """
    return {
        "kind": "vae",
        "encoder": args.encoder,
        "qlayersA": args.enc_layers_A,
        "qdimA": args.enc_dim_A,
        "out_dimA": args.out_dim_A,
        "ntilts": int(longest),
        "qlayersB": args.enc_layers_B,
        "qdimB": args.enc_dim_B,
        "enc_mask": args.enc_mask,
        "pooling_function": args.pooling_function,
        "num_seeds": args.num_seeds,
        "num_heads": args.num_heads,
        "layer_norm": args.layer_norm,
        "n_basis": n_basis,
    } | decoder_arguments(args, args.zdim)


def loss_rows(config: dict) -> LossRows:
    """Take from the configuration which Fourier points enter the loss."""
    dataset = config["dataset_args"]
    return LossRows(dataset["l_dose_mask"], dataset["max_frequency"])


def data_term(
    config: dict, half_plane: HalfPlane, device: torch.device, point_weight: Tensor | None = None
) -> DataTerm:
    """Build the reconstruction term on `device`; `point_weight` as in `DataTerm`."""
    dataset = config["dataset_args"]
    half_precision = config["training_args"]["amp"] and fast_bfloat16(device)
    return DataTerm(
        half_plane,
        dose_weight=dataset["recon_dose_weight"],
        tilt_weight=dataset["recon_tilt_weight"],
        physical=dataset["physical_transfer"],
        rows_per_image=dataset["rows_per_image"],
        dtype=torch.bfloat16 if half_precision else torch.float32,
        point_weight=point_weight,
    )
