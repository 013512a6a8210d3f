"""Image stacks written while the images are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import numpy as np

from tomohet.files.atomic import atomic_path

# Values by which MRC2014 marks density statistics in the header as unknown.
UNKNOWN_RANGE = (0.0, -1.0, -2.0, -1.0)


@contextmanager
def growing_stack(path: Path, shape: tuple[int, int, int], pixel_size_A: float) -> Iterator[np.memmap]:
    """Provide a float32 stack of known shape (m, D, D), memory-mapped for writing in pieces."""
    with (
        atomic_path(path) as temporary,
        mrcfile.new_mmap(temporary, shape, mrc_mode=2, overwrite=True) as mrc,
    ):
        _describe(mrc, pixel_size_A)
        yield mrc.data


def write_small_stack(path: Path, images: np.ndarray, pixel_size_A: float) -> None:
    """Write one stack (m, D, D) of the images' own type, float32 or float16.

    It is written without a temporary name: there is one stack per particle, and the STAR file that lists them
    is written last.
    """
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images)
        _describe(mrc, pixel_size_A)


def _describe(mrc: mrcfile.mrcfile.MrcFile, pixel_size_A: float) -> None:
    mrc.set_image_stack()
    mrc.voxel_size = pixel_size_A
    mrc.header.dmin, mrc.header.dmax, mrc.header.dmean, mrc.header.rms = UNKNOWN_RANGE
