"""Content of config.pkl: sections and names as tomoDRGN's, plain builtin values only.

Keys that tomoDRGN does not have: `particles` (store ordinals, in the order of the latents), `store`,
`store_digest`, `input_digests`, `scale` (real units per stored unit), and the options of this program.
"""

import datetime
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomohet import __version__
from tomohet.files.atomic import write_pickle, write_yaml
from tomohet.files.digests import sealed
from tomohet.model.config_file.words import MIRRORED, network_entries
from tomohet.model.settings import LinearFit, LinearSettings, ModelSettings, NetworkSettings
from tomohet.options import TrainNnOptions, TrainVaeOptions

# Entries that change where, how often or how fast results are written, but not the results.
_WITHOUT_EFFECT = {
    "outdir", "verbose", "log_interval", "checkpoint", "checkpoint_minutes", "n", "until", "multigpu", "lazy",
    "num_workers", "prefetch_factor", "persistent_workers", "pin_memory", "plot_format", "datadir",
    "device", "load", "init", "poses", "warm_start",
}  # fmt: skip


def network_content(settings: NetworkSettings, options: TrainVaeOptions | TrainNnOptions) -> dict:
    """Return the content of config.pkl of a training of a network.

    options : of the command, with defaults that depend on the data filled in
    """
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
        "dataset_args": _data_set(settings, options),
        "lattice_args": _lattice(settings, options.l_extent),
        "model_args": network_entries(settings.network),
        "training_args": _training(settings, options),
        "seed": settings.seed,
        "angpix": settings.pixel_size_A,
        "scale": settings.scale,
        **_particles(settings),
        "meta": {
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "cmd": shlex.join(sys.argv),
            "version": __version__,
        },
    }


def _data_set(settings: NetworkSettings, options: TrainVaeOptions | TrainNnOptions) -> dict:
    return {
        "datadir": _text(options.datadir),
        "lazy": options.lazy,
        "norm": [0.0, settings.scale],
        "invert_data": settings.data_set.inverted,
        "window": settings.data_set.window,
        "recon_dose_weight": options.recon_dose_weight,
        "recon_tilt_weight": options.recon_tilt_weight,
        "l_dose_mask": settings.data_set.dose_mask,
        "noise_model": options.noise_model,
        "sequential_tilt_sampling": options.sequential_tilt_sampling,
        "physical_transfer": settings.start.linear is not None,
        "max_frequency": settings.data_set.max_frequency,
        "march": options.march,
        "rows_per_image": options.rows_per_image,
        "fraction_train": settings.data_set.fraction_train,
    }


def _training(settings: NetworkSettings, options: TrainVaeOptions | TrainNnOptions) -> dict:
    vae, start = options if isinstance(options, TrainVaeOptions) else None, settings.start
    poses = {} if start.poses is None else {"poses": str(start.poses), "poses_digest": start.poses_digest}
    warm = {} if start.warm is None else {"warm_start": str(start.warm), "warm_digest": start.warm_digest}
    return (
        {
            "n": options.num_epochs,
            "until": vae.until if vae else "epochs",
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
            "log_interval": options.particles_between_lines,
            "checkpoint": options.checkpoint,
            "checkpoint_minutes": options.checkpoint_minutes,
            "outdir": str(options.outdir),
            "load": options.load,
            "init": _text(start.linear),
            "init_digest": start.linear_digest,
        }
        | poses
        | warm
    )


def linear_content(settings: LinearSettings, fit: LinearFit, asked: Mapping[str, Any], source: str) -> dict:
    """Return the content of config.pkl of a linear model.

    asked : options of the fit
    source : file of the particles
    """
    return {
        "starfile_args": {"sourcefile": source},
        "dataset_args": {"norm": [0.0, settings.scale]},
        "lattice_args": _lattice(settings, 0.5),
        "model_args": {"kind": "linear", "zdim": settings.n_basis},
        "training_args": dict(asked),
        "seed": settings.seed,
        "angpix": settings.pixel_size_A,
        "scale": settings.scale,
        "pose_deviation": fit.pose_deviation,
        "tilt_shift_A": fit.tilt_shift_A,
        **_particles(settings),
        "tomograms": fit.tomograms,
    }


def deciding_entries(settings: NetworkSettings, options: TrainVaeOptions | TrainNnOptions) -> dict:
    """Return the sections of a training without the entries that do not change its results.

    Checkpoints hold a digest of them, so that a change of these names would end the continuation of trainings
    that were started before it.
    """
    content = network_content(settings, options)
    return {
        section: {key: value for key, value in content[section].items() if key not in _WITHOUT_EFFECT}
        for section in ("dataset_args", "lattice_args", "model_args", "training_args")
    }


def write_config(folder: Path, content: dict) -> None:
    """Write config.pkl, and the same content as a readable config.yaml (without the list of particles)."""
    with sealed(folder / "config.pkl"):
        write_pickle(folder / "config.pkl", content)
    particles = f"{len(content['particles'])} store ordinals, listed in config.pkl"
    write_yaml(folder / "config.yaml", content | {"particles": particles})


def _lattice(settings: ModelSettings, extent: float) -> dict:
    return {"boxsize": settings.box + MIRRORED, "extent": extent, "ignore_DC": True}


def _particles(settings: ModelSettings) -> dict:
    particles = settings.particles
    return {"store": particles.store, **particles.origin.entries(), "particles": particles.numbers}


def _text(path: object) -> str | None:
    return None if path is None else str(path)
