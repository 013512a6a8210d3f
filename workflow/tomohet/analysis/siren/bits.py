"""Binary states of voxels, one bit per voxel and volume: 64 volumes in a word."""

import numba
import numpy as np
from numba.extending import intrinsic

from tomohet.analysis.ensemble import Ensemble

WORD = 64
VOXELS_PER_CHUNK = 20_000


@intrinsic
def _ones_of_word(typing_context, word):
    """Count the ones of a 64-bit word by the processor's population count."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), generate


@numba.njit(cache=True, nogil=True)
def common_ones(first, second):
    """Count the volumes in which both voxels are on, from the words (W,) uint64 of each."""
    total = 0
    for word in range(first.size):
        total += numba.int64(_ones_of_word(first[word] & second[word]))
    return total


def pack(on: np.ndarray) -> np.ndarray:
    """Pack bool (V, N) into words (N, ceil(V/64)) uint64: volume v is bit v % 64 of word v // 64."""
    volumes, voxels = on.shape
    padded = np.zeros((voxels, -(-volumes // WORD) * WORD), dtype=bool)
    padded[:, :volumes] = on.T
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def unpack(bits: np.ndarray, volumes: int) -> np.ndarray:
    """Unpack words (N, W) uint64 to bool (N, V)."""
    octets = np.ascontiguousarray(bits).astype("<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, count=volumes, bitorder="little").astype(bool)


def repeat(bits: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Repeat volume v copies[v] times in the words of the voxels: (N, ceil(sum(copies) / 64)) uint64."""
    chunks = range(0, len(bits), VOXELS_PER_CHUNK)
    volumes = len(copies)
    parts = [
        pack(np.repeat(unpack(bits[start : start + VOXELS_PER_CHUNK], volumes), copies, axis=1).T)
        for start in chunks
    ]
    return np.concatenate(parts)


def binarise(ensemble: Ensemble, levels: np.ndarray) -> np.ndarray:
    """Mark the voxels of each volume that exceed the volume's level.

    Returns a view of shape (D^3, W) uint64: the words of neighbouring voxels lie side by side.
    """
    words = -(-len(ensemble) // WORD)
    bits = np.zeros((words, ensemble.grid.box**3), dtype=np.uint64)
    for rows, volumes in ensemble.batches("binarise"):
        for number, volume in enumerate(volumes, start=rows.start):
            on = volume.reshape(-1) > levels[number]
            bits[number // WORD] |= on.astype(np.uint64) << np.uint64(number % WORD)
    return bits.T


def totals(bits: np.ndarray) -> np.ndarray:
    """Count the volumes in which each voxel is on, (N,) int64."""
    return np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
