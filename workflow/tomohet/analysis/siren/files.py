"""Blocks in mask files, which may have been edited by hand."""

import re
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.grids import MapGrid, read_grid, same_grid
from tomohet.files.masks import read_mask


def read_blocks(folder: Path, grid: MapGrid) -> np.ndarray:
    """Read ids of blocks (D, D, D) int64 from the masks block_<id>.mrc of a folder, ids from 1; 0 for none.

    A voxel is in a block where its mask is above one half. Where several masks are, the smallest id counts.

    Raises InputError when there is no mask, or a mask has no voxel above one half, another grid, the id 0, or
    invalid values.
    """
    masks = {}
    for file in folder.glob("*.mrc"):
        name = re.fullmatch(r"block_(\d+)", file.stem)
        if name:
            masks[int(name[1])] = file
    if not masks:
        raise InputError(f"--blocks {folder}: no files named like block_1.mrc found")
    labels = np.zeros(grid.shape, dtype=np.int64)
    for number, file in sorted(masks.items(), reverse=True):
        if number == 0:
            raise InputError(f"{file}: blocks are numbered from 1; rename the file")
        other = read_grid(file)
        if not same_grid(other, grid):
            raise InputError(
                f"{file}: shape {other.shape}, {other.pixel_size_A:.4g} Å/px, origin {other.origin_A} differ "
                f"from the volumes: {grid.shape}, {grid.pixel_size_A:.4g} Å/px, {grid.origin_A}"
            )
        inside = read_mask(file, grid.box, grid.pixel_size_A) > 0.5
        if not inside.any():
            raise InputError(f"{file}: no voxel is above 0.5; remove the file, or draw the block")
        labels[inside] = number
    return labels
