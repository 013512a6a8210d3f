"""Loading of trained models from weights and configuration; no code in either file is run."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import check
from tomohet.model.config_file.reading import read_settings
from tomohet.model.decoder import Decoder
from tomohet.model.linear_decoder import LinearDecoder
from tomohet.model.published import PublishedVolumes
from tomohet.model.settings import LinearSettings, NetworkSettings, TrainedSettings
from tomohet.model.vae import HeterogeneityVAE, build_decoder, build_vae
from tomohet.model.volumes import TrainedVolumes

Module = TypeVar("Module", bound=torch.nn.Module)


def load_model(weights: str | Path, config: str | Path, device: torch.device | str = "cpu") -> TrainedVolumes:
    """Load the volumes of a trained model of train_vae, train_nn or train_linear.

    Raises InputError when the files are missing or do not belong together.
    """
    settings = read_settings(config)
    if isinstance(settings, LinearSettings):
        box, n_basis = settings.box, settings.n_basis
        model = _filled(lambda: LinearDecoder(box, n_basis), weights, settings, config, device)
    else:
        model = _decoder(settings, weights, config, device)
    return TrainedVolumes(model, settings.pixel_size_A, settings.scale, torch.device(device))


def _decoder(
    settings: NetworkSettings, weights: str | Path, config: str | Path, device: torch.device | str
) -> Decoder | PublishedVolumes:
    """Load the decoder of train_vae or train_nn."""
    box, network = settings.box, settings.network
    files = weights, settings, config, device
    if network.encoder is None:
        decoder = _filled(lambda: build_decoder(box, network.decoder, seed=0), *files)
    else:
        decoder = _filled(lambda: build_vae(box, network, seed=0), *files).decoder
    return decoder if network.decoder.hermitian else PublishedVolumes(decoder)


def load_vae(
    weights: str | Path, settings: NetworkSettings, device: torch.device | str = "cpu"
) -> HeterogeneityVAE:
    """Load the network of train_vae with its encoder, ready to infer latents.

    settings : as from `read_vae_settings`

    Raises InputError when the weights are missing or do not belong to these settings.
    """
    box, network = settings.box, settings.network
    return _filled(lambda: build_vae(box, network, seed=0), weights, settings, weights, device)


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
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            # PyTorch never compresses; a compressed entry could unpack to any size.
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type]
            damaged = f"compressed: {packed[0]}" if packed else archive.testzip()
    except UNREADABLE as error:
        damaged = reason(error)
    if damaged is not None:
        raise InputError(f"{path}: damaged ({damaged}); run the command that wrote it again")


def _filled(
    build: Callable[[], Module],
    weights: str | Path,
    settings: TrainedSettings,
    where: str | Path,
    device: torch.device | str,
) -> Module:
    """Build the model of `settings` with `build` and load its weights; `where` names the configuration."""
    state = read_weights(weights, device)["model_state_dict"]
    _refuse_larger_than(Path(weights), settings, where)
    try:
        model = build()
    except (*UNREADABLE, AssertionError) as error:
        raise InputError(f"{where}: no network can be built from it ({reason(error)})") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{weights}: does not belong to this configuration ({reason(error)})") from error
    return model.to(device).eval()


def _refuse_larger_than(weights: Path, settings: TrainedSettings, path: str | Path) -> None:
    """Raise InputError when a configuration's model has more parameters than its weights file can hold.

    Only the largest matrices are counted, so that no model is refused that would fit.
    """
    least = _least_parameters(settings)
    size = weights.stat().st_size
    if 2 * least > size + 10**6:  # 16-bit numbers would still be read
        raise InputError(
            f"{path}: describes a model of {least:,} parameters or more, but {weights} has {size:,} bytes; "
            "the two files do not belong together"
        )


def _least_parameters(settings: TrainedSettings) -> int:
    if isinstance(settings, LinearSettings):
        return settings.n_basis * settings.box**3
    decoder, encoder = settings.network.decoder, settings.network.encoder
    least = decoder.n_basis * settings.box**3
    least += decoder.layers * decoder.width**2 + decoder.width * decoder.zdim
    if encoder is not None and encoder.source == "tilts":
        least += max(encoder.layers_a - 1, 0) * encoder.width_a**2 + encoder.width_a * encoder.out_a
    if encoder is not None and encoder.source != "free":
        least += max(encoder.layers_b - 1, 0) * encoder.width_b**2
    return least
