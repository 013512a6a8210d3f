"""Resampling of images of different pixel sizes and boxes to one grid."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.particles.paths import read_any_headers
from tomohet.particles.table import (
    PIXEL_SIZE_TOLERANCE,
    ParticleSet,
    refuse_bad_pixel_sizes,
    refuse_mixed_pixel_sizes,
)


@dataclass(frozen=True, eq=False)
class Grids:
    """Box (px) and pixel size (Å) common to all images, and the original ones of every image (n,).

    Without resampling the original ones are None, because all are equal to the common ones.
    """

    box: int
    pixel_size_A: float
    own_box: np.ndarray | None = None
    own_pixel_size_A: np.ndarray | None = None

    @property
    def resampled(self) -> bool:
        return self.own_box is not None

    def groups(self, rows: np.ndarray) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield (original box, original pixel size, ascending rows of this grid)."""
        if self.own_box is None or self.own_pixel_size_A is None:
            yield self.box, self.pixel_size_A, rows
            return
        own = np.stack([self.own_box[rows], self.own_pixel_size_A[rows]], axis=1)
        for grid in np.unique(own, axis=0):
            yield int(grid[0]), float(grid[1]), rows[(own == grid).all(axis=1)]


def common_grid(particle_set: ParticleSet, pixel_size_A: float | None, box: int | None) -> Grids:
    """Find the grid of all images at `pixel_size_A`, or of the images as they are (None).

    Without a `box` the even box nearest to the smallest field of view is used.

    Raises InputError for mixed pixel sizes without `pixel_size_A`; for a pixel size finer than the coarsest
    of the images, because nothing is known beyond their Nyquist frequency; and for a box that is odd or
    larger than the images.
    """
    own_A = particle_set.images["pixel_size_A"].to_numpy(np.float64)
    refuse_bad_pixel_sizes(own_A, str(particle_set.source))
    if pixel_size_A is None:
        refuse_mixed_pixel_sizes(own_A, str(particle_set.source))
        return Grids(particle_set.box, particle_set.pixel_size_A)
    coarsest = own_A.max()
    if pixel_size_A < coarsest * (1 - PIXEL_SIZE_TOLERANCE):
        raise InputError(
            f"--rescale {pixel_size_A:g}: finer than the images of {coarsest:g} Å in {particle_set.source}; "
            f"give --rescale {coarsest:g} or more"
        )
    codes, stacks = pd.factorize(particle_set.images["stack"])
    own_box = read_any_headers([Path(stack) for stack in stacks])["box"].to_numpy()[codes]
    # Pixel sizes that differ only by rounding are made equal, because each one needs a separate pass.
    own_A = np.where(np.abs(own_A / pixel_size_A - 1) < PIXEL_SIZE_TOLERANCE, pixel_size_A, own_A.round(5))
    smallest_A = float((own_box * own_A).min())
    box = 2 * round(smallest_A / pixel_size_A / 2) if box is None else box
    if box % 2 or box < 4:
        raise InputError(f"--box {box}: expected an even number of at least 4 px")
    if box * pixel_size_A > smallest_A + 2 * pixel_size_A:
        raise InputError(
            f"--box {box} at {pixel_size_A:g} Å is {box * pixel_size_A:g} Å wide, but the smallest images of "
            f"{particle_set.source} are {smallest_A:g} Å; give --box "
            f"{2 * int(smallest_A / pixel_size_A / 2)} or less"
        )
    return Grids(box, float(pixel_size_A), own_box, own_A)


def rescaled(particle_set: ParticleSet, grids: Grids) -> ParticleSet:
    """Return the table on the common grid: shifts in its pixels, one pixel size, one box."""
    images = particle_set.images.copy()
    factor = images["pixel_size_A"] / grids.pixel_size_A
    images["shift_x_px"] *= factor
    images["shift_y_px"] *= factor
    images["pixel_size_A"] = grids.pixel_size_A
    return replace(particle_set, images=images, box=grids.box)
