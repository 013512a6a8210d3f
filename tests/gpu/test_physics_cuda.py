"""The physics gives the same numbers on CUDA as on the CPU."""

import numpy as np
import pandas as pd
import pytest
import torch

from tomohet.physics import imaging
from tomohet.physics.backprojection import (
    Accumulator,
    insert_slices,
    wiener_map,
)
from tomohet.physics.fourier import cosine_window
from tomohet.physics.fsc import fsc
from tomohet.physics.geometry import random_rotations
from tomohet.physics.lattice import half_ball, half_plane, images_to_half_planes, shift_half_planes
from tomohet.physics.slicing import project

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

BOX, N = 32, 200


def parameters(device):
    rng = np.random.default_rng(0)
    rotation = random_rotations(N, rng)
    frame = {f"r{i}{j}": rotation[:, i, j] for i in range(3) for j in range(3)}
    constants = {"pixel_size_A": 5.0, "voltage_kV": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.07}
    frame |= {name: np.full(N, value) for name, value in constants.items()}
    frame |= {
        "defocus_u_A": rng.uniform(15000, 40000, N),
        "defocus_v_A": rng.uniform(15000, 40000, N),
        "defocus_angle_deg": rng.uniform(0, 180, N),
        "phase_shift_deg": np.zeros(N),
        "dose_e_A2": rng.uniform(0, 100, N),
        "tilt_deg": rng.uniform(0, 60, N),
        "ctf_premultiplied": rng.random(N) < 0.5,
        "dose_weighted": rng.random(N) < 0.5,
        "scale_factor": rng.uniform(0.5, 1, N),
        "dose_b_factor_A2": np.where(rng.random(N) < 0.5, 4.0, 0.0),
    }
    return imaging.image_parameters(pd.DataFrame(frame), device)


def everything(device):
    """Forward model, insertion and map on one device; everything returned on the CPU."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(BOX, BOX, BOX, generator=generator).to(device)
    images = torch.randn(N, BOX, BOX, generator=generator).to(device)
    shifts = torch.randn(N, 2, generator=generator).to(device)
    hp, params = half_plane(BOX, device), parameters(device)
    data = images_to_half_planes(images, cosine_window(BOX, 0.8, 0.9, device))
    data = shift_half_planes(data, shifts, hp)
    h, g = imaging.physical_transfer(params, hp, dose=True, tilt=True)
    slices = project(volume[None], params.rotation, hp.k)[..., 0]
    sums = Accumulator.zeros(BOX, device)
    insert_slices(g * data, g * h, params.rotation, hp, sums)
    ball = half_ball(BOX, device)
    results = {
        "data": data,
        "transfer": imaging.transfer(params, hp),
        "weight": imaging.loss_weight(params, hp, True, True),
        "encoder": imaging.encoder_view(data, params, hp),
        "slices": slices,
        "numerator": sums.numerator,
        "denominator": sums.denominator,
        "map": wiener_map(sums, 0.1),
        "ball": ball.volume(torch.ones(1, ball.n, dtype=torch.complex64, device=device)),
    }
    return {name: value.cpu() for name, value in results.items()} | {
        "fsc": fsc(volume, wiener_map(sums, 0.1))
    }


def test_cuda_equals_cpu():
    on_cpu, on_cuda = everything("cpu"), everything("cuda")
    for name, values in on_cpu.items():
        expected, found = np.asarray(values), np.asarray(on_cuda[name])
        assert np.abs(found - expected).max() < 2e-4 * np.abs(expected).max(), name
