"""Backprojection the plain way, to measure ours against: a Python loop over particles and their tilts."""

import numpy as np
import torch
from textbook_images import (
    Particles,
    contrast_transfer,
    critical_dose,
    lattice,
    translated,
    within_nyquist,
)
from torch import Tensor

PADDING = 2


def backproject(
    particles: Particles, box: int, part: np.ndarray, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Sums of weighted Hartley data and of weights, (2D, 2D, 2D) each [z, y, x], zero frequency at [0, 0, 0].

    Two such sums: particles go to the first or the second as `part` (particles,) says. Every point of every
    slice is shared among its eight neighbours on the grid.
    """
    size = PADDING * box
    sums = [tuple(torch.zeros(size**3, device=device) for _ in range(2)) for _ in range(2)]
    k = lattice(box, device)
    inside = within_nyquist(k)
    for number in range(len(particles)):
        particle = {name: values.to(device) for name, values in particles[number].items()}
        data, weight = sums[part[number]]
        for tilt in range(particles.tilts):
            image = {name: values[tilt] for name, values in particle.items()}
            transfer = contrast_transfer(k, image["optics"]) * image["gain"]
            critical = critical_dose(k, image["optics"])
            transfer = transfer * torch.exp(-0.5 * image["dose"] / critical)
            transfer = transfer * torch.cos(torch.deg2rad(image["tilt"]))
            hartley = translated(image["hartley"], k, image["shift"])
            points = size * (k @ image["rotation"])[inside]
            values, weights = (transfer * hartley)[inside], transfer.square()[inside]
            low = torch.floor(points)
            upper = points - low
            for corner in np.ndindex(2, 2, 2):
                offset = torch.tensor(corner, device=device)
                index = (low.long() + offset) % size
                flat = (index[:, 2] * size + index[:, 1]) * size + index[:, 0]
                share = torch.where(offset == 1, upper, 1 - upper).prod(1)
                data.index_add_(0, flat, values * share)
                weight.index_add_(0, flat, weights * share)
    return [(data.view(size, size, size), weight.view(size, size, size)) for data, weight in sums]
