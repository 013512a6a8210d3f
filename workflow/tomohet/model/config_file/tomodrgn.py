"""config.pkl of a run of tomoDRGN 1.0, translated into the content of ours."""

from pathlib import Path
from typing import Any

import numpy as np

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.pickles import Foreign, as_array, load_indices, load_pickles
from tomohet.files.star import parse_table, read_text_blocks
from tomohet.files.values import MAPPING, hold_to, whole
from tomohet.model.config_file.rules import LARGEST_BOX, check_content
from tomohet.model.config_file.words import MIRRORED

SECTIONS = ("dataset_args", "lattice_args", "model_args", "training_args", "starfile_args")
ORIGINAL_NUMBER = "UnfilteredParticleInds"  # the particle's number in the file before filtering


def translated_config(folder: Path, n_particles: int | None) -> dict:
    """Read config.pkl of the output folder of a tomoDRGN training; return the content of our config.pkl.

    n_particles : number of particles of the latents in the folder, None where there are no latents

    Raises InputError when the file is not as tomoDRGN 1.0 writes it, describes a network that cannot be
    rebuilt, or does not tell which particles the latents belong to.
    """
    path = folder / "config.pkl"
    published = _published_config(path)
    try:
        content = _translated(published, path)
    except UNREADABLE as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
        raise InputError(f"{path}: not as tomoDRGN 1.0 writes it ({what}); copy the run again") from error
    check_content(content, path)
    if n_particles is None:
        return content
    return content | {"particles": original_particles(published["starfile_args"], folder, n_particles)}


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
    box = int(lattice["boxsize"]) - MIRRORED
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
