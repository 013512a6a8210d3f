"""Volumes of a trained model in real units, and as MRC files."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tomohet.device import fast_bfloat16
from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.files.mrc import HEADER_BYTES, create_volume_stack, write_volume
from tomohet.files.parts import PartedFile, content_digest
from tomohet.files.pickles import load_array
from tomohet.files.volume_list import VolumeList, checksum, file_name, latents_digest
from tomohet.model.volume_writer import VolumeWriter
from tomohet.physics.fourier_grids import lowpass
from tomohet.progress import track

log = logging.getLogger(__name__)


class VolumeModel(Protocol):
    """Interface of a model: latents (m, zdim) to maps (m, d, d, d) in the units of the prepared images.

    `decode` gives the maps of `volumes` a few at a time; its options are those of `Decoder.decode`.
    """

    box: int
    zdim: int

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor: ...

    def decode(
        self,
        z: Tensor,
        box: int | None = None,
        *,
        batch: int = 32,
        radius: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[Tensor]: ...


class TrainedVolumes:
    """A trained model with the units of its data.

    box : side, px
    pixel_size_A : Å
    scale : real units per stored unit
    zdim : latent size, 0 if homogeneous
    """

    def __init__(self, model: VolumeModel, pixel_size_A: float, scale: float, device: torch.device) -> None:
        self.model, self.pixel_size_A, self.scale, self.device = model, pixel_size_A, scale, device
        self.box, self.zdim = model.box, model.zdim

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Decode real maps (m, d, d, d) [z, y, x] of latents (m, zdim), in real units and with mean 0.

        d is `box` if given: the same map on fewer, larger voxels.
        """
        with torch.no_grad():
            return self.model.volumes(z, box) * self.scale

    def decode(self, z: Tensor, box: int | None = None, **how) -> Iterator[Tensor]:
        """Yield the maps of `volumes` a few at a time; `how` as for `Decoder.decode`."""
        for maps in self.model.decode(z, box, **how):
            yield maps * self.scale


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type in which `device` multiplies faster than in float32; None if there is none.

    On a GPU this is float16: it is as fast as bfloat16 and eight times finer, and the activations of a
    decoder stay far below its largest number.
    """
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if fast_bfloat16(device) else None


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
    dtype: torch.dtype = torch.float32,
    prefix: str = "vol_",
    part: slice = slice(None),
    stack: bool = False,
    model_digest: str = "",
) -> None:
    """Write the maps of latents `z` (m, zdim) as `vol_000.mrc`, ..., and the latents as `z_values.txt`.

    The volumes are listed in `volumes.json` (`files.volume_list`). Volumes that an earlier run with other
    latents, weights or options has listed are removed.

    box : side of the written maps, px, even and at most the model's
    lowpass_A : sharp low-pass, Å
    flip : reverse the z axis
    invert : change the sign
    batch : latents decoded together, fewer where they would take too much memory
    dtype : of the network's products
    part : the slice of the maps that this process writes
    stack : write one MRC stack of volumes, `vol.mrcs`; several processes may each write their part, at the
        same time or not, and the stack gets its name when all parts are written
    model_digest : identifies the model, so that a set never mixes maps of two models

    Raises InputError when `z` or `box` do not fit the model, or a map is not finite.
    """
    outdir = Path(outdir)
    if z.ndim != 2 or z.shape[1] != decoder.zdim:
        raise InputError(
            f"the latents have shape {z.shape}, but the model has zdim {decoder.zdim}: expected "
            f"(points, {decoder.zdim})"
        )
    if "/" in prefix:
        raise InputError(f"--prefix {prefix}: expected the start of a file name, without a folder")
    form = VolumeForm.of(decoder, box, lowpass_A, flip, invert)
    numbers = range(len(z))[part]
    content = content_digest(model_digest, z, form, str(dtype))
    path = outdir / f"{stem(prefix)}.mrcs"
    listed = VolumeList(
        outdir, prefix, content, len(z), path.name if stack else None, latents=latents_digest(z)
    )
    listed.start(numbers)
    with atomic_path(outdir / "z_values.txt") as temporary:
        np.savetxt(temporary, z)
    if stack:
        with _volume_stack(path, len(z), numbers, form, content) as write:
            checksums = _decode(decoder, z, numbers, form, write, batch, dtype)
    else:

        def write_one(number: int, volume: np.ndarray) -> None:
            write_volume(outdir / file_name(prefix, number), volume, form.pixel_size_A)

        checksums = _decode(decoder, z, numbers, form, write_one, batch, dtype)
    listed.finish(checksums)


def stem(prefix: str) -> str:
    """Return the name of an unnumbered file, where numbered files begin with `prefix`."""
    return prefix.rstrip("_") or "vol"


def write_homogeneous(
    decoder: TrainedVolumes,
    path: str | Path,
    *,
    box: int | None = None,
    lowpass_A: float | None = None,
    flip: bool = False,
    invert: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the single map of a model without latents; options as in `write_volumes`."""
    form = VolumeForm.of(decoder, box, lowpass_A, flip, invert)

    def write(_: int, volume: np.ndarray) -> None:
        write_volume(path, volume, form.pixel_size_A)

    _decode(decoder, np.zeros((1, 0)), range(1), form, write, 1, dtype)


@dataclass(frozen=True)
class VolumeForm:
    """The form of written maps: box, px; pixel size, Å; low-pass, Å; flipped; inverted."""

    box: int
    pixel_size_A: float
    lowpass_A: float | None
    flip: bool
    invert: bool

    @classmethod
    def of(
        cls, decoder: TrainedVolumes, box: int | None, lowpass_A, flip: bool, invert: bool
    ) -> "VolumeForm":
        box = checked_box(decoder, box)
        if lowpass_A is not None and lowpass_A <= 0:
            raise InputError(f"--lowpass {lowpass_A}: expected a resolution in Å, more than 0")
        return cls(box, decoder.pixel_size_A * decoder.box / box, lowpass_A, flip, invert)

    @property
    def radius(self) -> float | None:
        """The highest |k| that the low-pass keeps, in Fourier pixels of the box."""
        return None if self.lowpass_A is None else self.box * self.pixel_size_A / self.lowpass_A

    def __call__(self, maps: Tensor) -> Tensor:
        if self.lowpass_A is not None:
            maps = torch.as_tensor(lowpass(maps, self.pixel_size_A, self.lowpass_A, edge_shells=0))
        if self.flip:
            maps = maps.flip(1).roll(1, 1)  # about voxel D//2, which stays in place
        return -maps if self.invert else maps


def _decode(
    decoder: TrainedVolumes,
    z: np.ndarray,
    numbers: range,
    form: VolumeForm,
    write: Callable[[int, np.ndarray], None],
    batch: int,
    dtype: torch.dtype,
) -> dict[int, int]:
    """Decode the maps of `z` with these numbers and write each; return their checksums by number."""
    checksums: dict[int, int] = {}
    if not numbers:
        return checksums

    def write_finite(number: int, volume: np.ndarray) -> None:
        if not np.isfinite(volume).all():
            hint = "" if dtype is torch.float32 else f", or values exceed {dtype}: leave out --amp"
            raise InputError(
                f"volume {number} is not finite: the training diverged (take earlier weights){hint}"
            )
        write(number, volume)
        checksums[number] = checksum(volume)

    latents = torch.as_tensor(z[numbers.start : numbers.stop], dtype=torch.float32, device=decoder.device)
    number = numbers.start
    with (
        track(total=len(numbers), unit="volumes", description="decoding") as progress,
        VolumeWriter(write_finite) as writer,
    ):
        for maps in decoder.decode(latents, form.box, batch=batch, radius=form.radius, dtype=dtype):
            writer.put(number, form(maps))
            number += len(maps)
            progress.update(len(maps))
    return dict(sorted(checksums.items()))


@contextmanager
def _volume_stack(
    path: Path, n: int, numbers: range, form: VolumeForm, digest: str
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Provide a function that writes one of the listed volumes of a stack of `n`, by its number."""
    file = PartedFile(
        path,
        n,
        4 * form.box**3,
        digest,
        lambda temporary: create_volume_stack(temporary, n, form.box, form.pixel_size_A),
        offset=HEADER_BYTES,
    )
    try:
        yield file.write
    except BaseException:
        if len(numbers) == n:  # no other process writes a part of the stack
            file.discard()
        raise
    if file.finish(numbers):
        log.info("%s: %d volumes of %d px, %.4g Å/px", path, n, form.box, form.pixel_size_A)


def checked_box(decoder: TrainedVolumes, box: int | None) -> int:
    """Return the side of the maps to write.

    Raises InputError unless it is even, at least 4 and at most the model's.
    """
    if box is None:
        return decoder.box
    if box % 2 or not 4 <= box <= decoder.box:
        raise InputError(f"--downsample {box}: expected an even box from 4 to {decoder.box} px")
    return box


def read_latent_points(path: Path, zdim: int) -> np.ndarray:
    """Read latents (m, zdim) from a pickle (its first array) or a text file with one row per point.

    A one-dimensional list is one point, or with zdim 1 a list of points.

    Raises InputError when the file is missing or holds no numbers.
    """
    if path.suffix == ".pkl":
        z = load_array(path)
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
