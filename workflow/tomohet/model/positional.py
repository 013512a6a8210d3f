"""Positional encodings of Fourier coordinates, all as sines and cosines of one frequency matrix.

Every encoding is `[sin(F k), cos(F k)]` for a matrix F (m, 3) of frequencies, with k in cycles per pixel. The
published network interleaves sines and cosines per axis in its geometric encodings. `reference_columns` gives
the position of each feature there, so that published weights can be used unchanged.
"""

import math

import torch
from torch import Tensor


def frequency_matrix(
    encoding: str, half_box: int, per_axis: int, feat_sigma: float, generator: torch.Generator
) -> Tensor:
    """Return the frequencies F (m, 3) of an encoding.

    `none` gives an empty matrix: the coordinates themselves are the features. The other encodings have
    `per_axis` frequencies n along each axis. `gaussian` has 3n random vectors of standard deviation
    `feat_sigma * half_box` in each component. The rest are axis-aligned: geometric series between the
    wavelengths of the published network (DD = 2 `half_box`), or for `linear_lowf` n values from 1 to
    `half_box`.
    """
    if encoding == "none":
        return torch.zeros(0, 3)
    if encoding == "gaussian":
        return torch.randn(3 * per_axis, 3, generator=generator) * (feat_sigma * half_box)
    along_axis = _axis_frequencies(encoding, half_box, per_axis)
    return torch.kron(torch.eye(3), along_axis[:, None]).contiguous()


def _axis_frequencies(encoding: str, half_box: int, per_axis: int) -> Tensor:
    step = torch.arange(per_axis, dtype=torch.float64) / max(per_axis - 1, 1)
    box = 2.0 * half_box
    first, last = {
        "geom_ft": (box * math.pi, 2 * math.pi),
        "geom_full": (box * math.pi, 1.0),
        "geom_lowf": (half_box, 1.0),
        "geom_nohighf": (half_box, 2 * math.pi),
        "linear_lowf": (1.0, half_box),
    }[encoding]
    values = first + (last - first) * step if encoding == "linear_lowf" else first * (last / first) ** step
    return values.float()


def feature_count(encoding: str, per_axis: int) -> int:
    """Return the number of features of one coordinate."""
    return 3 if encoding == "none" else 6 * per_axis


def reference_columns(encoding: str, per_axis: int) -> Tensor:
    """Return for each of our features [sines, cosines] its column in the published network's input.

    gaussian: the same order. Axis-aligned encodings: per axis n sines, then n cosines.
    """
    count = feature_count(encoding, per_axis)
    if encoding in ("gaussian", "none"):
        return torch.arange(count)
    return torch.arange(count).reshape(3, 2, per_axis).transpose(0, 1).reshape(-1)


def encode_into(out: Tensor, k: Tensor, frequencies: Tensor) -> None:
    """Write the features of `k` (rows, 3), cycles/px, into `out` (rows, features).

    Coordinates and phases stay float32 whatever the type of `out`, because half precision would move the
    points.
    """
    half = len(frequencies)
    if half == 0:
        out.copy_(k)
        return
    phase = k @ frequencies.T
    torch.sin(phase, out=out[:, :half])
    torch.cos(phase, out=out[:, half:])
