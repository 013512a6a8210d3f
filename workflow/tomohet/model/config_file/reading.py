"""Reading of config.pkl, of this version and of earlier ones."""

from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.pickles import load_pickles
from tomohet.files.values import LIST, TEXT, hold_to, maybe
from tomohet.model.config_file.rules import check_content
from tomohet.model.config_file.words import MIRRORED, network_of
from tomohet.model.settings import (
    DataSet,
    LinearFit,
    LinearSettings,
    ModelSettings,
    NetworkSettings,
    Start,
    TrainedParticles,
    TrainedSettings,
)
from tomohet.particles.same_input import Origin


def read_settings(path: str | Path) -> TrainedSettings:
    """Read the settings of a trained model from its config.pkl.

    Raises InputError when the file is not a configuration, or describes an impossible model.
    """
    content = load_pickles(path)[0]
    needed = ("model_args", "lattice_args", "angpix", "scale")
    missing = [key for key in needed if not isinstance(content, dict) or key not in content]
    if missing or not isinstance(content["model_args"], dict) or "kind" not in content["model_args"]:
        raise InputError(
            f"{path}: not a configuration of tomohet ({', '.join(missing) or 'model_args.kind'} is missing); "
            "runs of tomoDRGN are opened after `tomohet import_tomodrgn`"
        )
    return settings_of(content, path)


def read_vae_settings(path: str | Path) -> NetworkSettings:
    """Read the settings of a network with an encoder from the config.pkl of train_vae.

    Raises InputError as `read_settings` does, and when the model has no encoder.
    """
    settings = read_settings(path)
    if isinstance(settings, LinearSettings) or settings.network.encoder is None:
        raise InputError(f"{path}: this model has no encoder; give the config.pkl of train_vae")
    return settings


def settings_of(content: dict, path: str | Path) -> TrainedSettings:
    """Return the settings in the content of a config.pkl; `path` names it in errors.

    Raises InputError when a value is missing or impossible.
    """
    check_content(content, path)
    common = ModelSettings(
        box=content["lattice_args"]["boxsize"] - MIRRORED,
        pixel_size_A=content["angpix"],
        scale=content["scale"],
        seed=content.get("seed"),
        particles=_particles(content),
    )
    if content["model_args"]["kind"] == "linear":
        return LinearSettings(**vars(common), n_basis=content["model_args"]["zdim"], fit=_fit(content))
    data_set, training = content.get("dataset_args", {}), content.get("training_args", {})
    poses, warm = training.get("poses"), training.get("warm_start")
    return NetworkSettings(
        **vars(common),
        network=network_of(content["model_args"]),
        data_set=DataSet(
            inverted=bool(data_set.get("invert_data", False)),
            window=data_set.get("window"),
            dose_mask=bool(data_set.get("l_dose_mask", False)),
            max_frequency=data_set.get("max_frequency", 0.5),
            fraction_train=data_set.get("fraction_train", 1.0),
        ),
        start=Start(
            linear=None if training.get("init") is None else Path(training["init"]),
            linear_digest=training.get("init_digest"),
            poses=None if poses is None else Path(poses),
            poses_digest=training.get("poses_digest"),
            warm=None if warm is None else Path(warm),
            warm_digest=training.get("warm_digest"),
        ),
        imported="imported" in content,
    )


def read_particles_of(path: str | Path) -> TrainedParticles:
    """Read which particles a training had from its config.pkl; everything else may be missing.

    Raises InputError when the file is not a configuration.
    """
    content = load_pickles(path)[0]
    rules = {"particles": maybe(LIST), "store": maybe(TEXT)}
    hold_to(content, rules, path, optional=rules)
    return _particles(content)


def _particles(content: dict) -> TrainedParticles:
    return TrainedParticles(content.get("particles"), content.get("store"), Origin.recorded(content))


def _fit(content: dict) -> LinearFit | None:
    """Return what posteriors of other particles need; None in a file of an earlier version."""
    if "pose_deviation" not in content:
        return None
    return LinearFit(
        max_frequency=content["training_args"]["max_frequency"],
        pose_deviation=content["pose_deviation"],
        tilt_shift_A=content.get("tilt_shift_A", 0.0),
        tomograms=content["tomograms"],
    )
