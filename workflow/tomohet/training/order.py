"""The order in which an epoch sees the particles: random, yet read from disk at the disk's full speed.

The half planes of randomly chosen particles are scattered over a store's file, and reading them one by one is
slow. The epoch is therefore divided into windows of half a gigabyte. Each window takes many short blocks of
consecutive particles from random places of the file, and is shuffled internally. Reading one window ahead
thus reads whole blocks, and a batch still holds particles from all parts of the data set.

Every batch of B particles takes one particle from each of B lanes. Lane b is a fixed random set of P / B
particles, and gives the particle at place b of every batch; within its lane the order is new in every epoch.
So a process that computes the places 3 ... 5 of every batch never needs the images of other lanes than these.

The order follows only from the seed, the epoch, the batch size and the size of the images. It does not depend
on where the images are held, on free memory, or on the number of processes, so a training repeats itself on
any machine. Data that fit in one window are shuffled as a whole, starting from the order of the particles'
names, so the order of rows in the input file has no effect. For larger data that order decides which
particles make a block.
"""

from typing import NamedTuple

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


class Blocks(NamedTuple):
    """Which particles are read together.

    listed : (P,) positions 0 ... P-1 in the order that shuffling starts from
    block : (P,) number of the block of each of `listed`
    per_window : number of batches in a window
    """

    listed: np.ndarray
    block: np.ndarray
    per_window: int

    @classmethod
    def of(cls, by_name: np.ndarray, bytes_per_particle: float, batch_size: int) -> "Blocks":
        """Divide P particles; data that fit in one window make blocks of one particle.

        by_name : (P,) positions in the order of the particles' names
        bytes_per_particle : mean size of a particle's images in the file
        """
        n = len(by_name)
        n_batches = -(-n // batch_size)
        per_window = groups_per_window(n_batches, batch_size * bytes_per_particle)
        if per_window >= n_batches:
            return cls(by_name, np.arange(n), max(per_window, 1))
        return cls(np.arange(n), np.arange(n) // max(1, int(BLOCK_BYTES / bytes_per_particle)), per_window)

    def scattered(self, rng: np.random.Generator) -> np.ndarray:
        """Return places in `listed`, with the blocks in a random order."""
        return np.argsort(rng.random(self.block.max(initial=0) + 1)[self.block], kind="stable")


def lanes(blocks: Blocks, batch_size: int) -> np.ndarray:
    """Divide the particles into `batch_size` lanes: return (P,) the lane of each position.

    Lanes have equally many particles, or one more. They consist of whole blocks, but for their first and last
    ones, and are the same for every seed.
    """
    n = len(blocks.listed)
    lane = np.empty(n, np.int64)
    scattered = blocks.scattered(np.random.default_rng(0))
    lane[blocks.listed[scattered]] = np.arange(n) * batch_size // max(n, 1)
    return lane


def shuffled(blocks: Blocks, lane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a random order of the positions 0 ... P-1 for an epoch, batch after batch.

    lane : (P,) of `lanes`; a batch has one particle of each lane, in the order of the lanes
    """
    place = blocks.scattered(rng)
    of = lane[blocks.listed]
    place = place[np.argsort(of[place], kind="stable")]  # lane after lane, each with its blocks scattered
    window = _numbers_within(of[place]) // blocks.per_window
    place = place[np.lexsort((rng.random(len(place)), window, of[place]))]
    batch = _numbers_within(of[place])
    return blocks.listed[place[np.lexsort((of[place], batch))]]


def _numbers_within(ascending: np.ndarray) -> np.ndarray:
    """Return the number of each value among its equals, from 0; the values ascend."""
    return np.arange(len(ascending)) - np.searchsorted(ascending, ascending)
