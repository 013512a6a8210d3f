"""Decode volumes of a trained model at given latents."""

import logging
from pathlib import Path

import numpy as np
import torch

from tomohet.analysis.run_folder import RunFolder
from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.parts import content_digest
from tomohet.model.load import load_model
from tomohet.model.volumes import (
    half_precision,
    read_latent_points,
    stem,
    write_homogeneous,
    write_volumes,
)
from tomohet.options import EvalVolOptions
from tomohet.processes import share_of, start_one_per_gpu
from tomohet.running.outputs import take_output
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: EvalVolOptions) -> Path:
    """Load the model, decode, write the volumes; return their folder."""
    weights, config = _model_files(options)
    device = device_of(options.device)
    if options.multigpu:
        start_one_per_gpu(device)
    share = share_of(options.part, device)
    take_output(options.outdir, shared=share.size > 1)
    half = half_precision(device) if options.amp else None
    if options.amp and half is None:
        log.warning("--amp: this CPU has no bfloat16 instructions; float32 is used")
    decoder = load_model(weights, config, device)
    chosen = {
        "box": options.downsample,
        "lowpass_A": options.lowpass,
        "flip": options.flip,
        "invert": options.invert,
        "dtype": half or torch.float32,
    }
    if decoder.zdim == 0:
        if share.leads:
            write_homogeneous(decoder, options.outdir / f"{stem(options.prefix)}.mrc", **chosen)
        return options.outdir
    if options.zfile is None:
        raise InputError("--zfile is needed: the model has latents, and decodes one volume for each")
    z = read_latent_points(options.zfile, decoder.zdim).astype(np.float32)
    write_volumes(
        decoder,
        z,
        options.outdir,
        batch=options.batch_size,
        prefix=options.prefix,
        part=share.part(len(z)),
        stack=options.stack,
        model_digest=content_digest(weights, config),
        **chosen,
    )
    return options.outdir


def _model_files(options: EvalVolOptions) -> tuple[Path, Path]:
    if options.workdir is not None:
        training = RunFolder(options.workdir)
        return training.weights_path(training.epoch(options.epoch)), training.config_path
    if options.weights is None or options.config is None:
        raise InputError("give the model as -w WEIGHTS -c CONFIG, or as --workdir FOLDER")
    return options.weights, options.config
