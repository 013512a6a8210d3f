"""Import of tomoDRGN 1.0 runs: their folder is read without running any of its code.

config.pkl of such a run refers to classes of tomoDRGN's own package; only the names of these classes are
kept.
"""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path, write_pickle, write_yaml
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.digests import sealed
from tomohet.files.pickles import Foreign, as_array, load_indices, load_latents, load_pickles, save_latents
from tomohet.files.star import parse_table, read_text_blocks
from tomohet.files.values import MAPPING, hold_to, whole
from tomohet.model.config_rules import LARGEST_BOX, check_config
from tomohet.model.load import load_model
from tomohet.model.published import from_published
from tomohet.physics.fourier import half_plane

SECTIONS = ("dataset_args", "lattice_args", "model_args", "training_args", "starfile_args")
ORIGINAL_NUMBER = "UnfilteredParticleInds"  # the particle's number in the file before filtering

log = logging.getLogger(__name__)


def import_run(folder: Path, outdir: Path) -> dict:
    """Write config.pkl, weights*.pkl and z*.pkl of a tomoDRGN run into `outdir`; return the configuration.

    Raises InputError when a file is missing, holds code, or describes a network that cannot be rebuilt.
    """
    if folder.resolve() == outdir.resolve():
        raise InputError(f"-o {outdir}: this is the folder of the run itself; give another folder")
    published = _published_config(folder / "config.pkl")
    latents = {path.name: load_latents(path) for path in sorted(folder.glob("z*.pkl")) if _is_of_run(path)}
    n_particles = {len(mu) for name, (mu, _) in latents.items() if "train" in name}
    if len(n_particles) > 1:
        raise InputError(
            f"{folder}: its latents are of {sorted(n_particles)} particles, expected the same number in "
            "all files"
        )
    try:
        config = _translated(published, folder / "config.pkl")
    except UNREADABLE as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
        raise InputError(
            f"{folder / 'config.pkl'}: not as tomoDRGN 1.0 writes it ({what}); copy the run again"
        ) from error
    check_config(config, folder / "config.pkl")
    if n_particles:
        config["particles"] = original_particles(published["starfile_args"], folder, n_particles.pop())

    weights = [path for path in sorted(folder.glob("weights*.pkl")) if _is_of_run(path)]
    if not weights:
        raise InputError(f"{folder}: no weights*.pkl, expected the output folder of a tomoDRGN training")
    names = [*(path.name for path in weights), *latents, "config.pkl"]
    with sealed(*(outdir / name for name in names)):
        for path in weights:
            with atomic_path(outdir / path.name) as temporary:
                torch.save(_translated_weights(path, config), temporary)
        for name, (mu, logvar) in latents.items():
            save_latents(outdir / name, mu, np.zeros_like(mu) if logvar is None else logvar)
        write_yaml(outdir / "config.yaml", config)
        write_pickle(outdir / "config.pkl", config)
    for path in weights:
        load_model(outdir / path.name, outdir / "config.pkl")
    log.info("%s: %d files of weights, %d of latents", outdir, len(weights), len(latents))
    return config


def _is_of_run(path: Path) -> bool:
    return re.fullmatch(r"(weights(\.\d+)?|z(\.\d+)?(\.(train|test))?)\.pkl", path.name) is not None


def _published_config(path: Path) -> dict:
    config = load_pickles(path)[0]
    missing = [name for name in SECTIONS if not isinstance(config, dict) or name not in config]
    if missing:
        raise InputError(
            f"{path}: {', '.join(missing)} is missing, expected a configuration of tomoDRGN 1.0 "
            "(older versions and cryoDRGN are not read)"
        )
    hold_to(config, dict.fromkeys(SECTIONS, MAPPING), path)
    return config


def _translated(published: dict, path: Path) -> dict:
    """Translate a published configuration into ours, in plain builtin values."""
    model, dataset, lattice = (published[name] for name in ("model_args", "dataset_args", "lattice_args"))
    hold_to(lattice, {"boxsize": whole(3, LARGEST_BOX + 1)}, f"{path}: lattice_args")
    box = int(lattice["boxsize"]) - 1
    shift, scale = (float(value) for value in dataset["norm"])
    if shift != 0:
        raise InputError(
            f"{path}: norm is [{shift:g}, {scale:g}]; runs with a shift other than 0 are not read"
        )
    is_vae = bool(model.get("zdim"))
    arguments: dict[str, Any] = {
        "kind": "vae" if is_vae else "nn",
        "zdim": int(model["zdim"]) if is_vae else 0,
        # train_nn has other names for the size of its decoder.
        "players": int(model["players" if is_vae else "hidden_layers"]),
        "pdim": int(model["pdim" if is_vae else "hidden_dim"]),
        "activation": str(model["activation"]),
        "pe_type": str(model["pe_type"] or "none"),
        "pe_dim": None if model["pe_dim"] is None else int(model["pe_dim"]),
        "feat_sigma": float(model["feat_sigma"]),
        "l_extent": float(lattice["extent"]),
        "hermitian": False,
    }
    if is_vae:
        names = ("qlayersA", "qdimA", "out_dimA", "ntilts", "qlayersB", "qdimB", "num_seeds", "num_heads")
        arguments |= {name: int(model[name]) for name in names}
        arguments |= {
            "enc_mask": mask_diameter(model["enc_mask"], box, path),
            "pooling_function": str(model["pooling_function"]),
            "layer_norm": bool(model["layer_norm"]),
            "n_basis": 0,
        }
    sections = {name: _plain(published[name]) for name in SECTIONS}
    sections["dataset_args"] |= {"physical_transfer": False, "max_frequency": 0.5, "rows_per_image": 1.0}
    sections["training_args"] |= {"init": None, "init_digest": None}
    return sections | {
        "model_args": arguments,
        "seed": _plain(published.get("seed")),
        "angpix": float(published["angpix"]),
        "scale": scale,
        "store": None,
        "imported": {"program": "tomoDRGN", **_plain(published.get("meta", {}))},
    }


def mask_diameter(mask: np.ndarray | int | None, box: int, path: Path) -> int:
    """Find the diameter in px of the encoder's circular mask.

    mask : the mask as (B * B,) bool of the mirrored Hartley image
    """
    if mask is None or np.ndim(mask) == 0:
        return -1 if mask is None else int(mask)
    inside = np.asarray(mask, bool).reshape(box + 1, box + 1)
    k = np.arange(box + 1) - box // 2
    radius = np.hypot(*np.meshgrid(k, k))
    largest = radius[inside].max()
    if not np.array_equal(inside, (radius <= largest) & (radius > 0)):
        raise InputError(f"{path}: enc_mask is not a disc; encoders with another mask are not supported")
    return int(np.ceil(2 * largest)) + 1


def _translated_weights(path: Path, config: dict) -> dict:
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
    hp = half_plane(config["lattice_args"]["boxsize"] - 1)
    return {"epoch": int(content.get("epoch", -1)), "model_state_dict": from_published(state, hp)}


def _numpy_globals() -> list:
    """Return numpy's constructors of plain numbers, under their old and new names."""
    scalar = np.float64(0).__reduce__()[0]
    types = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *types]


def original_particles(starfile: dict, folder: Path, n: int) -> list[int]:
    """Return the numbers, in the unfiltered STAR file, of the n particles that the latents belong to.

    They come from the filtered image series beside the weights, where that file exists; else from the options
    of filtering.

    Raises InputError when they cannot be determined.
    """
    filtered = folder / Path(str(starfile.get("sourcefile_filtered") or "none")).name
    if filtered.is_file() and (numbers := _numbers_in(filtered)) is not None:
        if len(numbers) != n:
            raise InputError(f"{filtered}: {len(numbers)} particles, but the latents are of {n} particles")
        return numbers
    dropped = [
        name
        for name in ("ind_imgs", "use_first_ntilts")
        if starfile.get(name) is not None and str(starfile[name]) != "-1"
    ]
    if dropped:
        raise InputError(
            f"{folder}: the run selected tilts ({', '.join(dropped)}), which may remove particles, and its "
            f"filtered STAR file {filtered.name} is missing; copy it beside the weights"
        )
    chosen, first = starfile.get("ind_ptcls"), starfile.get("use_first_nptcls", -1)
    hold_to({"use_first_nptcls": first}, {"use_first_nptcls": whole(-1, 2**31)}, f"{folder}: starfile_args")
    if chosen is None:
        return list(range(n))
    if isinstance(chosen, str | Path):
        path = Path(chosen)
        chosen = load_indices(path if path.is_file() else folder / path.name)
    try:
        particles = np.sort(as_array(chosen))[: first if first >= 0 else None]
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: ind_ptcls is not a list of particles ({error})") from error
    if particles.ndim != 1 or particles.dtype.kind not in "iu":
        raise InputError(f"{folder}: ind_ptcls is not a list of particles, but {particles.dtype}")
    if len(particles) != n:
        raise InputError(
            f"{folder}: ind_ptcls names {len(particles)} particles, but the latents are of {n} particles"
        )
    return [int(particle) for particle in particles]


def _numbers_in(star: Path) -> list[int] | None:
    """Read the original numbers of the particles of a filtered image series, in its order, or return None."""
    for block in read_text_blocks(star)[1]:
        if ORIGINAL_NUMBER in block.columns:
            column = parse_table(block, star, [ORIGINAL_NUMBER])[ORIGINAL_NUMBER]
            return [int(number) for number in column.drop_duplicates()]
    return None


def _plain(value: object) -> Any:
    """Convert to builtin values only; classes of the other program become their names."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in np.asarray(value, dtype=object).tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type) and issubclass(value, Foreign):
        return f"{value.__module__}.{value.__name__}"
    return value if isinstance(value, bool | int | float | str | None) else str(value)
