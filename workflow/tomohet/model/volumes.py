"""Volumes of a trained model in real units, and as MRC files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import load_pickles
from tomohet.physics.fourier import lowpass
from tomohet.progress import track


class VolumeModel(Protocol):
    """What a model must offer: latents (m, zdim) to maps (m, d, d, d) in the units of the prepared images."""

    box: int
    zdim: int

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor: ...  # noqa: D102


class TrainedVolumes:
    """A trained model with the units of its data.

    box : side, px. pixel_size_A : Å. scale : real units per stored unit. zdim : latent size, 0 if homogeneous
    """

    def __init__(self, model: VolumeModel, pixel_size_A: float, scale: float, device: torch.device) -> None:
        self.model, self.pixel_size_A, self.scale, self.device = model, pixel_size_A, scale, device
        self.box, self.zdim = model.box, model.zdim

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Real maps (m, d, d, d) [z, y, x] of latents (m, zdim), in real units and with mean 0.

        d is `box` if given: the same map on fewer, larger voxels.
        """
        with torch.no_grad():
            return self.model.volumes(z, box) * self.scale


def write_volumes(
    decoder: TrainedVolumes,
    z: np.ndarray,
    outdir: str | Path,
    *,
    box: int | None = None,
    lowpass_A: float | None = None,
    flip: bool = False,
    invert: bool = False,
    batch: int = 32,
    prefix: str = "vol_",
) -> None:
    """Write the maps of latents `z` (m, zdim) as `vol_000.mrc`, ..., and the latents as `z_values.txt`.

    box : side of the written maps, px, even and at most the model's
    lowpass_A : sharp low-pass, Å
    flip : reverse the z axis; invert : change the sign
    batch : maps decoded at once

    Raises InputError when `z` or `box` do not fit the model.
    """
    outdir = Path(outdir)
    if z.ndim != 2 or z.shape[1] != decoder.zdim:
        raise InputError(
            f"the latents have shape {z.shape}, but the model has zdim {decoder.zdim}: expected "
            f"(points, {decoder.zdim})"
        )
    finish = _Finish.of(decoder, box, lowpass_A, flip, invert)
    with atomic_path(outdir / "z_values.txt") as temporary:
        np.savetxt(temporary, z)
    latents = torch.as_tensor(z, dtype=torch.float32, device=decoder.device)
    number = 0
    with track(total=len(z), unit="volumes", description="decoding") as progress:
        for part in latents.split(batch):
            for volume in finish(decoder.volumes(part, finish.box)):
                write_volume(outdir / f"{prefix}{number:03d}.mrc", volume, finish.pixel_size_A)
                number += 1
            progress.update(len(part))


def write_homogeneous(
    decoder: TrainedVolumes,
    outdir: str | Path,
    *,
    box: int | None = None,
    lowpass_A: float | None = None,
    flip: bool = False,
    invert: bool = False,
) -> None:
    """Write the one map of a model without latents as `vol.mrc`; options as in `write_volumes`."""
    finish = _Finish.of(decoder, box, lowpass_A, flip, invert)
    no_latent = torch.zeros(1, 0, device=decoder.device)
    volume = finish(decoder.volumes(no_latent, finish.box))[0]
    write_volume(Path(outdir) / "vol.mrc", volume, finish.pixel_size_A)


@dataclass(frozen=True)
class _Finish:
    """What is done to decoded maps before they are written."""

    box: int
    pixel_size_A: float
    lowpass_A: float | None
    flip: bool
    invert: bool

    @classmethod
    def of(cls, decoder: TrainedVolumes, box: int | None, lowpass_A, flip: bool, invert: bool) -> "_Finish":
        box = checked_box(decoder, box)
        if lowpass_A is not None and lowpass_A <= 0:
            raise InputError(f"--lowpass {lowpass_A}: expected a resolution in Å, more than 0")
        return cls(box, decoder.pixel_size_A * decoder.box / box, lowpass_A, flip, invert)

    def __call__(self, maps: Tensor) -> np.ndarray:
        if self.lowpass_A is not None:
            maps = lowpass(maps, self.pixel_size_A, self.lowpass_A, edge_shells=0)
        if self.flip:
            maps = maps.flip(1).roll(1, 1)  # about voxel D//2, which stays in place
        return (-maps if self.invert else maps).cpu().numpy()


def checked_box(decoder: TrainedVolumes, box: int | None) -> int:
    """The side of the maps to write; raises InputError unless even, at least 4 and at most the model's."""
    if box is None:
        return decoder.box
    if box % 2 or not 4 <= box <= decoder.box:
        raise InputError(f"--downsample {box}: expected an even box from 4 to {decoder.box} px")
    return box


def read_latent_points(path: Path, zdim: int) -> np.ndarray:
    """Latents (m, zdim) from a pickle (its first array) or a text file with one row per point.

    A one-dimensional list is one point, or with zdim 1 a list of points.
    Raises InputError when the file is missing or holds no numbers.
    """
    if path.suffix == ".pkl":
        z = np.asarray(load_pickles(path)[0])
    else:
        if not path.is_file():
            raise InputError(f"{path}: no such file of latents")
        try:
            z = np.loadtxt(path, ndmin=1)
        except ValueError as error:
            raise InputError(f"{path}: expected rows of numbers ({error})") from error
    if z.dtype.kind not in "fiu" or z.size == 0:
        raise InputError(f"{path}: expected latents, found an array of {z.dtype} of shape {z.shape}")
    return z.reshape(-1, zdim) if z.ndim == 1 and z.size % zdim == 0 else z
