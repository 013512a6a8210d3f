"""The models of a round: ranges of their latents, and the map at any latent point."""

import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from tomohet.analysis.run_folder import FINAL, RunFolder
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume
from tomohet.model.config_file.reading import read_settings
from tomohet.model.load import load_model
from tomohet.model.volumes import TrainedVolumes, VolumeForm
from tomohet.rounds import layout

FOLDERS = {"linear": layout.LINEAR.folder, "network": layout.TRAIN_VAE.folder}
RANGE = (1, 50, 99)  # percentiles of the latents: the ends and the start of a slider
FORM = ("downsample", "lowpass", "flip", "invert")


def sources(round_folder: Path) -> dict[str, dict]:
    """Describe the latents of each model that a round has.

    Returns
    -------
    dict
        by source: `zdim`; `low`, `start`, `high`, each (zdim,): the 1st, 50th and 99th percentile; `box`, px;
        `epoch`. Of a model whose files cannot be used: `problem`, a sentence.

    """
    found = {}
    for source, name in FOLDERS.items():
        if (round_folder / name / "config.pkl").is_file():
            try:
                found[source] = _described(round_folder, source)
            except InputError as error:
                found[source] = {"problem": str(error)}
    return found


def _described(round_folder: Path, source: str) -> dict:
    run, epoch = RunFolder(round_folder / FOLDERS[source]), epoch_of(round_folder, source)
    mu, _ = run.latents(epoch)
    if not np.isfinite(mu).all():
        raise InputError(f"{run.latents_path(epoch)}: latents are not finite: the training diverged.")
    low, start, high = np.percentile(mu, RANGE, axis=0).round(4).tolist()
    box = read_settings(run.config_path).box
    return {"zdim": mu.shape[1], "low": low, "start": start, "high": high, "box": box, "epoch": epoch}


def epoch_of(round_folder: Path, source: str) -> int:
    """Return the epoch that the round's volumes are of: the one that convergence chose, else the latest."""
    if source == "linear":
        return FINAL
    run = RunFolder(round_folder / FOLDERS[source])
    chosen = layout.CONVERGENCE.path(round_folder, layout.CONVERGENCE.last)
    return run.epoch(str(chosen) if chosen.is_file() else "latest")


def volume_file(round_folder: Path, source: str, z: list[float], form: dict, device: torch.device) -> bytes:
    """Return the MRC file of the map at latent `z` (zdim,), as `tomohet eval_vol` writes it.

    form : `downsample` (px), `lowpass` (Å), `flip` and `invert`, as in the section `volumes`

    Raises InputError when the round has no such model, `z` or the box does not fit it, or the map is not
    finite.
    """
    run = RunFolder(round_folder / FOLDERS[source])
    if not run.config_path.is_file():
        raise InputError(f"Round {round_folder.name} has no {source} model ({FOLDERS[source]}/config.pkl).")
    weights = run.weights_path(epoch_of(round_folder, source))
    decoder = _loaded(weights, _changed(weights), run.config_path, _changed(run.config_path), device)
    if len(z) != decoder.zdim:
        raise InputError(f"z has {len(z)} numbers, but the {source} model has {decoder.zdim} latents.")
    box, lowpass_A, flip, invert = (form.get(name) for name in FORM)
    shape = VolumeForm.of(decoder, box, lowpass_A, bool(flip), bool(invert))
    latents = torch.tensor([z], dtype=torch.float32, device=device)
    with torch.no_grad():
        maps = shape(next(iter(decoder.decode(latents, shape.box, batch=1, radius=shape.radius))))
    volume = maps[0].cpu().numpy()
    if not np.isfinite(volume).all():
        raise InputError("The map is not finite: the training diverged, or z is far from all particles.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.mrc"
        write_volume(path, volume, shape.pixel_size_A)
        return path.read_bytes()


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(maxsize=4)
def _loaded(
    weights: Path, weights_changed: int, config: Path, config_changed: int, device: torch.device
) -> TrainedVolumes:
    """Load a model; one that was trained again has other times of change and is loaded again."""
    return load_model(weights, config, device)
