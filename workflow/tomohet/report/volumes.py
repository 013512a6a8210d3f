"""Volumes made small enough for a page: Fourier-cropped, in 8 bits on a grey scale common to the set."""

from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from tomohet import plots
from tomohet.analysis.siren.levels import AUTHORS_FRACTION
from tomohet.errors import InputError
from tomohet.files.volume_list import read_listed
from tomohet.physics.fourier_grids import crop_fourier
from tomohet.report.blobs import Blobs
from tomohet.report.reading import Reader

MOST_VOLUMES = 24
MASK_BLUR = 0.8  # voxels


def volume_set(
    reader: Reader, blobs: Blobs, paths: list[Path], box: int, captions: list[dict] | None = None
) -> dict | None:
    """Put up to `MOST_VOLUMES` maps of equal box into the page.

    Parameters
    ----------
    paths
        MRC files; of more than `MOST_VOLUMES`, an evenly spaced selection is used.
    box
        largest edge in the page, in voxels; larger maps are cropped in Fourier space.
    captions
        one mapping per path, passed on to the page (`label` is shown above the panel).

    Returns
    -------
    dict or None
        data of the page's viewer: blob, count, box, pixel size (Å), grey levels, the first contour level
        (0-255), `rms`, the standard deviation over the box of the volumes' mean (map units), captions. None
        when no map can be read.

    """
    captions = captions or [{"label": path.stem} for path in paths]
    chosen = even_choice(len(paths), MOST_VOLUMES)
    maps, kept, pixel_size_A, original = [], [], 1.0, 0
    for index in chosen:
        loaded = _load(reader, paths[index], box)
        if loaded is not None and (not maps or loaded[0].shape == maps[0].shape):
            maps.append(loaded[0])
            kept.append({**captions[index], "file": reader.relative(paths[index])})
            pixel_size_A, original = loaded[1], loaded[2]
    if not maps:
        return None
    stack = np.stack(maps)
    low, high = grey_range(stack)
    level = contour_level(stack)
    return {
        "blob": blobs.add(to_bytes(stack, low, high)),
        "count": len(maps),
        "total": len(paths),
        "box": int(stack.shape[-1]),
        "original_box": original,
        "pixel_size_A": round(float(pixel_size_A), 4),
        "low": low,
        "high": high,
        "rms": float(stack.mean(axis=0).std()),
        "level": int(np.clip(np.rint((level - low) / (high - low) * 255), 1, 254)),
        "captions": kept,
    }


def piece_set(
    reader: Reader, blobs: Blobs, map_path: Path | None, mask_paths: list[Path], box: int
) -> dict | None:
    """Put a map and masks of its pieces on the same grid into the page, to show the pieces inside the map.

    A piece has the colour of its number in the stages' figures. Masks are scaled to 0-255 each; the map keeps
    its own grey range. Without a map, or with one on another grid, the sum of the masks replaces it.
    """
    colours = plots.label_hex(len(mask_paths))
    masks = [
        (path, loaded, colour)
        for path, colour in list(zip(mask_paths, colours, strict=True))[:MOST_VOLUMES]
        if (loaded := _load(reader, path, box)) is not None
    ]
    if not masks:
        return None
    pixel_size_A = masks[0][1][1]
    pieces = np.stack([softened(loaded[0]) for _, loaded, _ in masks])
    loaded = _load(reader, map_path, box) if map_path else None
    whole = loaded[0] if loaded is not None and loaded[0].shape == pieces.shape[1:] else pieces.sum(axis=0)
    low, high = grey_range(whole[None])
    level = contour_level(whole[None])
    stack = np.concatenate([to_bytes(whole[None], low, high), to_bytes(pieces, 0.0, 1.0)])
    captions = [{"label": "All blocks", "note": "inside the reconstruction"}]
    for path, _, colour in masks:
        captions.append(
            {
                "label": path.stem.replace("block_", "Block "),
                "note": "",
                "colour": colour,
                "file": reader.relative(path),
            }
        )
    return {
        "kind": "pieces",
        "blob": blobs.add(stack),
        "count": len(stack),
        "total": len(mask_paths) + 1,
        "box": int(stack.shape[-1]),
        "original_box": masks[0][1][2],
        "pixel_size_A": round(float(pixel_size_A), 4),
        "low": low,
        "high": high,
        "rms": float(whole.std()),
        "level": int(np.clip(np.rint((level - low) / (high - low) * 255), 1, 254)),
        "captions": captions,
    }


def softened(mask: np.ndarray) -> np.ndarray:
    """Blur a mask slightly, to 0..1: a sharp one would have a stepped surface.

    The half-height contour of a large mask stays in place. A small mask is scaled to 1 again: it would
    otherwise have no contour.
    """
    blurred = gaussian_filter(mask.astype(np.float32), MASK_BLUR)
    return blurred / (blurred.max() or 1)


def even_choice(n: int, most: int) -> list[int]:
    """Choose at most `most` of `n` indices, evenly spaced."""
    return sorted(set(np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist())) if n else []


def grey_range(stack: np.ndarray) -> tuple[float, float]:
    """Return grey levels that keep nearly all voxels: 0.05th and 99.98th percentiles, never equal."""
    low, high = (float(v) for v in np.percentile(stack, [0.05, 99.98]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def contour_level(stack: np.ndarray) -> float:
    """Choose a first isosurface level, in map units.

    It is the larger of `AUTHORS_FRACTION` times the robust maximum (the usual choice of depositors) and three
    standard deviations of the corners beyond the inscribed sphere (solvent), so that noise does not hide the
    particle.
    """
    box = stack.shape[-1]
    axis = np.arange(box) - box // 2
    outside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) > (box / 2) ** 2
    solvent = stack[:, outside]
    return max(
        AUTHORS_FRACTION * float(np.percentile(stack, 99.9)), float(solvent.mean() + 3 * solvent.std())
    )


def to_bytes(stack: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] to 0-255."""
    return np.clip(np.rint((stack - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8)


def _load(reader: Reader, path: Path, box: int) -> tuple[np.ndarray, float, int] | None:
    try:
        volume, pixel_size_A = read_listed(path)
    except (OSError, ValueError, InputError) as error:
        reader.problem(path, error)
        return None
    full = volume.shape[-1]
    if volume.shape != (full,) * 3:
        reader.problem(path, InputError(f"expected a cube, found {volume.shape} voxels"))
        return None
    if full <= box:
        return volume, pixel_size_A, full
    return crop_fourier(torch.from_numpy(volume), box).numpy(), pixel_size_A * full / box, full
