"""Prepare the images of particles into a store (`particles.store`)."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from tomohet import __version__
from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path, write_parquet, write_yaml
from tomohet.files.digests import forget, sealed
from tomohet.files.rows import row_checksums
from tomohet.particles.measured_filter import measured_filter
from tomohet.particles.normalisation import divisors, grey_scales, tomogram_of
from tomohet.particles.preparation import (
    Normalisation,
    Preparation,
    noise_deviation,
    read_half_planes,
)
from tomohet.particles.rescaling import Grids, common_grid, rescaled
from tomohet.particles.same_input import file_digests
from tomohet.particles.store import FORMAT, Store, open_store
from tomohet.particles.store_files import CHECKSUM, DATA, DESCRIPTION, IMAGES, PARTICLES, read_description
from tomohet.particles.table import ParticleSet
from tomohet.physics.lattice import HalfPlane, half_plane, shift_half_planes
from tomohet.progress import track

HEAD_BYTES = 4096  # first bytes of each stack that enter its digest
BYTES_PER_CHECK = 64 * 2**20

log = logging.getLogger(__name__)


def _ready(folder: Path, digest: str) -> Store | None:
    """Return the store in `folder` if it has this digest and every image of it is intact; else None."""
    try:
        description = read_description(folder)
        if description is None or description["digest"] != digest or description["format"] != FORMAT:
            return None
        store = open_store(folder)
        step = max(1, BYTES_PER_CHECK // store.data.strides[0])
        for start in range(0, len(store.images), step):
            store.read(np.arange(start, min(start + step, len(store.images))))
        return store
    except InputError as damage:
        log.warning("prepared again: %s", damage)
        return None


def write_store(
    folder: str | Path,
    particle_set: ParticleSet,
    *,
    window: bool = True,
    window_r: float = 0.8,
    window_r_outer: float = 0.9,
    invert: bool | None = None,
    normalise: Normalisation = "noise",
    dtype: Literal["float32", "float16"] = "float32",
    rescale: float | None = None,
    box: int | None = None,
) -> Store:
    """Prepare all images of `particle_set` into `folder` and open the store; options as in `Preparation`.

    The filter that was multiplied into premultiplied images is first measured in a sample
    (`particles.measured_filter`). Where it differs from the filter that the file states, the image table gets
    the filter that was found: a known filter, or the measured profile of an unknown one. Images are read,
    their background is subtracted, and they are windowed, transformed, given their sign, normalised and
    shifted, in this order. With `rescale`, images of any pixel size and box are resampled to one grid.

    A store of the same inputs and options is reused unchanged; any other is rebuilt. Sections are streamed,
    so memory does not grow with the number of images. `store.yaml` is written last.

    Raises InputError for pixels that are not finite, constant images, values beyond float16, and, without
    `rescale`, mixed pixel sizes.
    """
    folder = Path(folder)
    preparation = Preparation(window, window_r, window_r_outer, invert, normalise, dtype, rescale, box)
    images = particle_set.images
    if images.empty:
        raise InputError(f"{particle_set.source}: no image to prepare")
    grids = common_grid(particle_set, rescale, box)
    digest = _digest(particle_set, preparation)
    if (ready := _ready(folder, digest)) is not None:
        log.info("%s is up to date: %d images", folder, len(images))
        return ready

    folder.mkdir(parents=True, exist_ok=True)
    forget(folder / DESCRIPTION)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    if grids.resampled:
        particle_set = rescaled(particle_set, grids)
        images = particle_set.images
    hp = half_plane(grids.box)
    measured = measured_filter(particle_set, preparation, hp, grids)
    if measured is not None:
        images = measured.corrected(images)
        particle_set = replace(particle_set, images=images)
    shift, divisor = divisors(
        particle_set, preparation, hp, grids, None if measured is None else measured.end_cpp
    )
    with atomic_path(folder / DATA) as temporary:
        of_each = _write_half_planes(temporary, particle_set, preparation, hp, grids, shift, divisor)
    write_parquet(folder / PARTICLES, particle_set.particles)
    grey_scale = grey_scales(of_each["noise_scale"], images, tomogram_of(particle_set))
    write_parquet(folder / IMAGES, images.assign(**of_each, grey_scale=grey_scale))
    description = {
        "format": FORMAT,
        "tomohet": __version__,
        "source": str(particle_set.source),
        "dialect": particle_set.dialect,
        "box": particle_set.box,
        "pixel_size_A": particle_set.pixel_size_A,
        "scale": float(np.median(of_each["noise_scale"])),
        "preparation": preparation.described(),
        "extraction": None if measured is None else measured.described(),
        "inverted": sorted({bool(sign < 0) for sign in preparation.signs(images)}),
        "counts": {
            "particles": len(particle_set.particles),
            "images": len(images),
            "tomograms": int(particle_set.particles["tomogram"].nunique()),
            "in_input": dict(particle_set.n_input),
        },
        "inputs": file_digests(particle_set.inputs),
        "digest": digest,
    }
    with sealed(folder / DESCRIPTION):
        write_yaml(folder / DESCRIPTION, description)
    return open_store(folder)


def _write_half_planes(
    path: Path,
    particle_set: ParticleSet,
    preparation: Preparation,
    hp: HalfPlane,
    grids: Grids,
    shift: float,
    divisor: np.ndarray,
) -> dict[str, np.ndarray]:
    """Stream all images into the .npy file `path`; divisor: from `normalisation.divisors`.

    Returns, as columns of the image table, each image's divisor `noise_scale`, float32 (n,), and the checksum
    of its row of the file, uint32 (n,).
    """
    images = particle_set.images
    shape = (len(images), hp.n, 2)
    data = np.lib.format.open_memmap(path, mode="w+", dtype=preparation.dtype, shape=shape)
    signs = torch.from_numpy(preparation.signs(images))
    shifts = torch.tensor(images[["shift_x_px", "shift_y_px"]].to_numpy(np.float32))
    noise_scale = divisor.copy()
    checksums = np.zeros(len(images), np.uint32)
    with track(total=len(images), unit="images", description="preparing") as progress:
        for rows, transforms in read_half_planes(images, np.arange(len(images)), grids, preparation):
            # Values are scaled as pairs of real numbers, for the same reason as in `shift_half_planes`.
            parts = torch.view_as_real(transforms) * signs[rows, None, None]
            parts[..., 0] -= shift
            own = np.isnan(divisor[rows])
            if own.any():
                noise = noise_deviation(torch.view_as_complex(parts), hp).numpy()
                noise_scale[rows] = np.where(own, noise, divisor[rows])
            parts /= torch.from_numpy(noise_scale[rows])[:, None, None]
            shifted = shift_half_planes(torch.view_as_complex(parts), shifts[rows], hp)
            contiguous = rows[-1] - rows[0] + 1 == len(rows)
            here = slice(rows[0], rows[-1] + 1) if contiguous else rows
            stored = _as_stored(torch.view_as_real(shifted).numpy(), data.dtype)
            data[here], checksums[here] = stored, row_checksums(stored)
            progress.update(len(rows))
    data.flush()
    return {"noise_scale": noise_scale, CHECKSUM: checksums}


def _as_stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype == np.float16 and np.abs(values).max() > np.finfo(np.float16).max:
        raise InputError("an image has values beyond the range of float16; prepare with --dtype float32")
    return values.astype(dtype)


def _digest(particle_set: ParticleSet, preparation: Preparation) -> str:
    """Digest everything that decides the store's content: tables, stacks and options.

    Stacks enter with name, size, time of change and first bytes, because reading them in full would take as
    long as preparing them. Their location does not matter.
    """
    parts = [
        repr(
            (
                FORMAT,
                __version__,
                "filter profile measured",
                particle_set.box,
                sorted(preparation.described().items()),
            )
        )
    ]
    for table in (particle_set.particles, particle_set.images.drop(columns="stack")):
        parts.append(_sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()))
    codes, stacks = pd.factorize(particle_set.images["stack"])
    parts.append(_sha256(codes.tobytes()))
    for stack in stacks:
        status = Path(stack).stat()
        with open(stack, "rb") as file:
            head = _sha256(file.read(HEAD_BYTES))
        parts.append(f"{Path(stack).name} {status.st_size} {status.st_mtime_ns} {head}")
    return _sha256("\n".join(parts).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
