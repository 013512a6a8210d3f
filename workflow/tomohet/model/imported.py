"""Import of tomoDRGN 1.0 runs: their folder is read without running any of its code.

config.pkl of such a run refers to classes of tomoDRGN's own package; only the names of these classes are
kept.
"""

import logging
import re
from pathlib import Path

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle, write_yaml
from tomohet.files.damage import reason
from tomohet.files.digests import sealed
from tomohet.files.pickles import load_latents, save_latents
from tomohet.model.config_file.reading import settings_of
from tomohet.model.config_file.tomodrgn import translated_config
from tomohet.model.load import load_model
from tomohet.model.published import from_published
from tomohet.model.saving import save_weights
from tomohet.physics.lattice import half_plane

log = logging.getLogger(__name__)


def import_run(folder: Path, outdir: Path) -> dict:
    """Write config.pkl, weights*.pkl and z*.pkl of a tomoDRGN run into `outdir`; return config.pkl's content.

    Raises InputError when a file is missing, holds code, or describes a network that cannot be rebuilt.
    """
    if folder.resolve() == outdir.resolve():
        raise InputError(f"-o {outdir}: this is the folder of the run itself; give another folder")
    latents = {path.name: load_latents(path) for path in sorted(folder.glob("z*.pkl")) if _is_of_run(path)}
    n_particles = {len(mu) for name, (mu, _) in latents.items() if "train" in name}
    if len(n_particles) > 1:
        raise InputError(
            f"{folder}: its latents are of {sorted(n_particles)} particles, expected the same number in "
            "all files"
        )
    content = translated_config(folder, n_particles.pop() if n_particles else None)
    settings = settings_of(content, folder / "config.pkl")
    weights = [path for path in sorted(folder.glob("weights*.pkl")) if _is_of_run(path)]
    if not weights:
        raise InputError(f"{folder}: no weights*.pkl, expected the output folder of a tomoDRGN training")
    names = [*(path.name for path in weights), *latents, "config.pkl"]
    with sealed(*(outdir / name for name in names)):
        for path in weights:
            save_weights(outdir / path.name, _translated_weights(path, settings.box))
        for name, (mu, logvar) in latents.items():
            save_latents(outdir / name, mu, np.zeros_like(mu) if logvar is None else logvar)
        write_yaml(outdir / "config.yaml", content)
        write_pickle(outdir / "config.pkl", content)
    for path in weights:
        load_model(outdir / path.name, outdir / "config.pkl")
    log.info("%s: %d files of weights, %d of latents", outdir, len(weights), len(latents))
    return content


def _is_of_run(path: Path) -> bool:
    return re.fullmatch(r"(weights(\.\d+)?|z(\.\d+)?(\.(train|test))?)\.pkl", path.name) is not None


def _translated_weights(path: Path, box: int) -> dict:
    """Read weights, with the encoder's columns in our order; the state of the optimiser is not kept."""
    try:
        # train_nn stores its normalisation together with the weights, as numpy numbers.
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: refused as a file of plain tensors ({reason(error)})") from error
    if not isinstance(content, dict) or "model_state_dict" not in content:
        raise InputError(f"{path}: it holds no model_state_dict, expected a weights file of tomoDRGN")
    state = {name.removeprefix("module."): tensor for name, tensor in content["model_state_dict"].items()}
    hp = half_plane(box)
    return {"epoch": int(content.get("epoch", -1)), "model_state_dict": from_published(state, hp)}


def _numpy_globals() -> list:
    """Return numpy's constructors of plain numbers, under their old and new names."""
    scalar = np.float64(0).__reduce__()[0]
    types = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *types]
