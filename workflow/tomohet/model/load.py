"""Open trained models from their weights and configuration; no code in either file is run."""

from pathlib import Path

import torch

from tomohet.errors import InputError
from tomohet.files.pickles import load_pickles
from tomohet.model.linear_decoder import LinearDecoder
from tomohet.model.published import PublishedVolumes
from tomohet.model.vae import HeterogeneityVAE, build_decoder, build_vae
from tomohet.model.volumes import TrainedVolumes


def load_config(path: str | Path) -> dict:
    """The parameters of a training, from config.pkl.

    Raises InputError when the file is not one.
    """
    config = load_pickles(path)[0]
    needed = ("model_args", "lattice_args", "angpix", "scale")
    missing = [key for key in needed if not isinstance(config, dict) or key not in config]
    if missing or "kind" not in config["model_args"]:
        raise InputError(
            f"{path}: not a configuration of tomohet ({', '.join(missing) or 'model_args.kind'} is missing); "
            "runs of tomoDRGN are opened after `tomohet import_tomodrgn`"
        )
    return config


def load_model(weights: str | Path, config: str | Path, device: torch.device | str = "cpu") -> TrainedVolumes:
    """The volumes of a trained model: of train_vae, train_nn or train_linear.

    Raises InputError when the files are missing or do not belong together.
    """
    parameters = load_config(config)
    box, arguments = box_of(parameters), parameters["model_args"]
    if arguments["kind"] == "linear":
        model = whole = LinearDecoder(box, arguments["zdim"])
    elif arguments["kind"] == "nn":
        model = whole = build_decoder(box, arguments, seed=0)
    else:
        whole = build_vae(box, arguments, seed=0)
        model = whole.decoder
    _fill(whole, weights, device)
    if not arguments.get("hermitian", True):
        model = PublishedVolumes(model)
    return TrainedVolumes(model, parameters["angpix"], parameters["scale"], torch.device(device))


def load_vae(weights: str | Path, config: dict, device: torch.device | str = "cpu") -> HeterogeneityVAE:
    """The network of train_vae with its encoder, ready to infer latents."""
    if config["model_args"]["kind"] != "vae":
        raise InputError(f"{weights}: a model of kind {config['model_args']['kind']} has no encoder")
    model = build_vae(box_of(config), config["model_args"], seed=0)
    _fill(model, weights, device)
    return model


def box_of(config: dict) -> int:
    """Side of the images, px; `lattice_args.boxsize` counts the mirrored Nyquist line as well."""
    return config["lattice_args"]["boxsize"] - 1


def read_weights(path: str | Path, device: torch.device | str = "cpu") -> dict:
    """The content of a weights file or checkpoint; no code in the file is run.

    Raises InputError when the file is missing or is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not a weights file of plain tensors ({reason})") from error
    if not isinstance(content, dict) or "model_state_dict" not in content:
        raise InputError(f"{path}: no model_state_dict in it; expected the weights of a training")
    return content


def _fill(model: torch.nn.Module, weights: str | Path, device: torch.device | str) -> None:
    state = read_weights(weights, device)["model_state_dict"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{weights}: does not belong to this configuration ({reason})") from error
    model.to(device).eval()
