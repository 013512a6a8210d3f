"""Loading of trained models from weights and configuration; no code in either file is run."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check
from tomohet.files.pickles import load_pickles
from tomohet.model.config_rules import check_config, refuse_larger_than
from tomohet.model.linear_decoder import LinearDecoder
from tomohet.model.published import PublishedVolumes
from tomohet.model.vae import HeterogeneityVAE, build_decoder, build_vae
from tomohet.model.volumes import TrainedVolumes

Network = TypeVar("Network", bound=torch.nn.Module)


def load_config(path: str | Path) -> dict:
    """Read the parameters of a training from config.pkl.

    Raises InputError when the file is not a configuration, or describes an impossible model.
    """
    config = load_pickles(path)[0]
    needed = ("model_args", "lattice_args", "angpix", "scale")
    missing = [key for key in needed if not isinstance(config, dict) or key not in config]
    if missing or not isinstance(config["model_args"], dict) or "kind" not in config["model_args"]:
        raise InputError(
            f"{path}: not a configuration of tomohet ({', '.join(missing) or 'model_args.kind'} is missing); "
            "runs of tomoDRGN are opened after `tomohet import_tomodrgn`"
        )
    check_config(config, path)
    return config


def load_model(weights: str | Path, config: str | Path, device: torch.device | str = "cpu") -> TrainedVolumes:
    """Load the volumes of a trained model of train_vae, train_nn or train_linear.

    Raises InputError when the files are missing or do not belong together.
    """
    parameters = load_config(config)
    box, arguments = box_of(parameters), parameters["model_args"]
    builders = {
        "linear": lambda: LinearDecoder(box, arguments["zdim"]),
        "nn": lambda: build_decoder(box, arguments, seed=0),
        "vae": lambda: build_vae(box, arguments, seed=0),
    }
    whole = _filled(builders[arguments["kind"]], weights, parameters, config, device)
    model = whole.decoder if isinstance(whole, HeterogeneityVAE) else whole
    if not arguments.get("hermitian", True):
        model = PublishedVolumes(model)
    return TrainedVolumes(model, parameters["angpix"], parameters["scale"], torch.device(device))


def load_vae(weights: str | Path, config: dict, device: torch.device | str = "cpu") -> HeterogeneityVAE:
    """Load the network of train_vae with its encoder, ready to infer latents."""
    if config["model_args"]["kind"] != "vae":
        raise InputError(f"{weights}: a model of kind {config['model_args']['kind']} has no encoder")
    return _filled(
        lambda: build_vae(box_of(config), config["model_args"], seed=0), weights, config, weights, device
    )


def box_of(config: dict) -> int:
    """Return the side of the images, px; `lattice_args.boxsize` counts the mirrored Nyquist line as well."""
    return config["lattice_args"]["boxsize"] - 1


def read_weights(path: str | Path, device: torch.device | str = "cpu") -> dict:
    """Read a weights file or checkpoint; no code in the file is run.

    Raises InputError when the file is missing, damaged, or not a weights file.
    """
    path = Path(path)
    check(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    refuse_damaged_archive(path)
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a weights file of plain tensors ({reason(error)})") from error
    if not isinstance(content, dict) or "model_state_dict" not in content:
        raise InputError(f"{path}: it holds no model_state_dict; expected the weights of a training")
    return content


def refuse_damaged_archive(path: Path) -> None:
    """Verify the checksums in a weights file, which PyTorch writes but does not check.

    Raises InputError where they differ, and for compressed content.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch never compresses; a compressed entry could unpack to any size.
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type]
            damaged = f"compressed: {packed[0]}" if packed else archive.testzip()
    except UNREADABLE as error:
        damaged = error
    if damaged is not None:
        raise InputError(f"{path}: damaged ({damaged}); run the command that wrote it again")


def _filled(
    build: Callable[[], Network],
    weights: str | Path,
    config: dict,
    where: str | Path,
    device: torch.device | str,
) -> Network:
    """Build the model of `config` with `build` and load its weights; `where` names the configuration."""
    state = read_weights(weights, device)["model_state_dict"]
    refuse_larger_than(Path(weights), config, where)
    try:
        model = build()
    except (*UNREADABLE, AssertionError) as error:
        raise InputError(f"{where}: no network can be built from it ({reason(error)})") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{weights}: does not belong to this configuration ({reason(error)})") from error
    return model.to(device).eval()
