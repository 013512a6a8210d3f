"""Insertion of slices into grids on a CPU, compiled: all channels of a voxel are updated together.

Tensor operations add one channel of one corner at a time, and wait for memory each time. Here a voxel is
fetched once for all its channels, and nothing is stored in between. A GPU uses its own operations.
"""

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def add_rows(table: np.ndarray, index: np.ndarray, weight: np.ndarray, values: np.ndarray) -> None:
    """Add table[index[p, j]] += weight[p, j] values[p] for the corners j of points p.

    table (voxels, c), index and weight (points, corners), values (points, c); all real.
    """
    channels = table.shape[1]
    for point in range(index.shape[0]):
        for corner in range(index.shape[1]):
            voxel, share = index[point, corner], weight[point, corner]
            for channel in range(channels):
                table[voxel, channel] += share * values[point, channel]


@numba.njit(cache=True, nogil=True)
def add_slices(sums: np.ndarray, points: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
    """Insert values and weights trilinearly into a half grid with kx >= 0: sums (S, S, S/2 + 1, 4).

    points : (p, 3), (x, y, z) in steps of the grid, at most S/2 from 0, kx of either sign; for negative kx
        the Friedel mate is inserted
    values : (p, 2), real and imaginary parts
    weights : (p,)
    """
    half, one = sums.shape[2] - 1, np.float32(1)
    for point in range(points.shape[0]):
        x, y, z = points[point, 0], points[point, 1], points[point, 2]
        real, imaginary, weight = values[point, 0], values[point, 1], weights[point]
        if x < 0:
            x, y, z, imaginary = -x, -y, -z, -imaginary
        low_x, low_y, low_z = math.floor(x), math.floor(y), math.floor(z)
        up_x, up_y, up_z = np.float32(x - low_x), np.float32(y - low_y), np.float32(z - low_z)
        # Points past the last plane kx = S/2 have weight 0; negative ky and kz count from the end.
        next_x = min(low_x + 1, half)
        for dz in range(2):
            share_z = up_z if dz else one - up_z
            for dy in range(2):
                share = share_z * (up_y if dy else one - up_y)
                row, near, far = sums[low_z + dz, low_y + dy], share * (one - up_x), share * up_x
                row[low_x, 0] += near * real
                row[low_x, 1] += near * imaginary
                row[low_x, 2] += near * weight
                row[next_x, 0] += far * real
                row[next_x, 1] += far * imaginary
                row[next_x, 2] += far * weight
