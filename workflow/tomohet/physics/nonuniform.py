"""Fourier sums of volumes at arbitrary frequencies, by a non-uniform FFT on the CPU.

The sums run over all voxels, to a stated accuracy. They therefore share no interpolation with
`physics.slicing`, which reconstructions and models use. (FINUFFT: Barnett, Magland & af Klinteberg, SIAM J.
Sci. Comput. 2019.)
"""

import math

import finufft
import numpy as np
import torch
from torch import Tensor

ACCURACY = 1e-5


def fourier_sums(volumes: Tensor, frequency_cpp: Tensor) -> Tensor:
    """Compute F(f) = sum_x v(x) exp(-2 pi i f.x) of real volumes (c, D, D, D) [z, y, x]: (..., c) complex64.

    frequency_cpp : (..., 3) as (x, y, z), cycles per pixel, at most 1/2; the origin is voxel D//2

    Both arguments are on the CPU.
    """
    angle = (2 * math.pi * frequency_cpp).reshape(-1, 3).numpy().astype(np.float32, copy=False)
    x, y, z = np.ascontiguousarray(angle.T)
    sums = finufft.nufft3d2(
        # The first axis of the volumes is z.
        *(z, y, x),
        volumes.numpy().astype(np.complex64),
        eps=ACCURACY,
        isign=-1,
        nthreads=torch.get_num_threads(),
    )
    return torch.from_numpy(sums.reshape(len(volumes), -1).T.copy()).unflatten(0, frequency_cpp.shape[:-1])
