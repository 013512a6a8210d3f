"""The order in which an epoch sees the particles: random, yet read from disk at the disk's full speed.

The half planes of randomly chosen particles are scattered over a store's file, and reading them one by one is
slow. The epoch is therefore divided into windows of half a gigabyte. Each window takes many short blocks of
consecutive particles from random places of the file, and is shuffled internally. Reading one window ahead
thus reads whole blocks, and a batch still holds particles from all parts of the data set.

The order follows only from the seed, the epoch, the batch size and the size of the images. It does not depend
on where the images are held, on free memory, or on the number of processes, so a training repeats itself on
any machine. Data that fit in one window are shuffled as a whole, starting from the order of the particles'
names, so the order of rows in the input file has no effect. For larger data that order decides which
particles make a block.
"""

import numpy as np

WINDOW_BYTES = 512 * 2**20
BLOCK_BYTES = 4 * 2**20  # disks and network file systems reach their speed with reads of this size


def in_groups(positions: np.ndarray, size: int) -> list[np.ndarray]:
    """Split positions into consecutive groups of `size`; the last group may be smaller."""
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def groups_per_window(n_groups: int, bytes_per_group: float) -> int:
    """Return how many of n_groups consecutive batches make a window.

    All windows but the last have the same size.
    """
    windows = -(-n_groups // max(1, int(WINDOW_BYTES / max(bytes_per_group, 1))))
    return -(-n_groups // max(windows, 1))


def shuffled(
    by_name: np.ndarray, bytes_per_particle: float, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw a random order of the positions 0 ... P-1 in the file; `by_name` (P,) sorts the particles' names.

    bytes_per_particle : mean size of a particle's images in the file
    """
    n = len(by_name)
    n_batches = -(-n // batch_size)
    per_window = groups_per_window(n_batches, batch_size * bytes_per_particle)
    if per_window >= n_batches:
        return by_name[rng.permutation(n)]
    blocks = in_groups(np.arange(n), max(1, int(BLOCK_BYTES / bytes_per_particle)))
    scattered = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
    windows = in_groups(scattered, per_window * batch_size)
    return np.concatenate([rng.permutation(window) for window in windows])
