"""A bounded random sample of the tilt images, as recorded, for the tests on pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tomohet.errors import InputError
from tomohet.particles.normalisation import expected_noise, grey_levels, tomogram_of
from tomohet.particles.preparation import Preparation, noise_deviation, read_half_planes
from tomohet.particles.rescaling import Grids
from tomohet.particles.table import ParticleSet
from tomohet.physics.imaging import ImageParameters, image_parameters
from tomohet.physics.lattice import HalfPlane, half_plane, shift_half_planes

LARGEST_BOX = 64  # of the sampled transforms: larger images are cropped below Nyquist


@dataclass(frozen=True)
class Sample:
    """m tilt images of n whole particles, cropped in Fourier space to a box d.

    half_plane : of box d
    data : (m, k) complex64, transforms of the images as they are prepared (without background, windowed, on
        one grey scale) but with the sign in the file, centred by their shifts
    params : their parameters, with the pixel size of box d
    particle : (m,) from 0 to n - 1
    half : (m,) 0 or 1, by particle
    depth_A : (m,) mean defocus minus that of all images of the same tomogram and tilt
    tomogram : (m,) its name
    premultiplied : what most images state
    """

    half_plane: HalfPlane
    data: Tensor
    params: ImageParameters
    particle: np.ndarray
    half: np.ndarray
    depth_A: np.ndarray
    tomogram: np.ndarray
    premultiplied: bool

    @property
    def box(self) -> int:
        return self.half_plane.box

    @property
    def pixel_size_A(self) -> float:
        return float(self.params.pixel_size_A[0])

    @property
    def n_particles(self) -> int:
        return int(self.particle.max()) + 1


def draw_sample(particle_set: ParticleSet, *, max_images: int, seed: int) -> Sample:
    """Read whole particles at random, at most `max_images` images but at least two particles.

    Raises InputError for fewer than two particles, and as `read_half_planes` does.
    """
    images = particle_set.images
    rows = _random_particles(images["particle"].to_numpy(), max_images, np.random.default_rng(seed))
    chosen = images.iloc[rows].reset_index(drop=True)
    particle = np.unique(chosen["particle"], return_inverse=True)[1]
    if len(rows) == 0 or particle.max() < 1:
        raise InputError(f"{particle_set.source}: at least two particles are needed to examine the images")
    full, box = particle_set.box, min(particle_set.box, LARGEST_BOX)
    hp = half_plane(box)
    data = torch.empty(len(rows), hp.n, dtype=torch.complex64)
    shifts = torch.as_tensor(chosen[["shift_x_px", "shift_y_px"]].to_numpy(np.float32) * box / full)
    power, expected = np.empty(len(rows)), np.empty(len(rows))
    tomogram = tomogram_of(particle_set)[rows]
    grids = Grids(full, particle_set.pixel_size_A)
    for part, values in read_half_planes(chosen, np.arange(len(chosen)), grids, Preparation()):
        power[part] = noise_deviation(values, half_plane(full)).square().numpy()
        expected[part] = expected_noise(chosen.iloc[part], half_plane(full))
        # Half planes are sorted by |k|: the points of a smaller box come first.
        data[part] = shift_half_planes(values[:, : hp.n], shifts[part], hp)
    level = grey_levels(power, expected, tomogram)[tomogram].to_numpy(np.float32)
    data /= torch.as_tensor(level).clamp(min=1e-20)[:, None]
    scale = data.abs().square().mean().sqrt()
    params = image_parameters(chosen)
    params = params._replace(pixel_size_A=params.pixel_size_A * (full / box))
    half = np.random.default_rng([seed, 1]).permutation(np.arange(particle.max() + 1) % 2)[particle]
    return Sample(
        half_plane=hp,
        data=data / scale.clamp(min=1e-20),
        params=params,
        particle=particle,
        half=half,
        depth_A=depths(particle_set)[rows],
        tomogram=tomogram,
        premultiplied=bool(chosen["ctf_premultiplied"].mean() > 0.5),
    )


def depths(particle_set: ParticleSet) -> np.ndarray:
    """Return each image's mean defocus minus that of all images of its tomogram and tilt, Å, (images,)."""
    images = particle_set.images
    defocus = (images["defocus_u_A"] + images["defocus_v_A"]) / 2
    names = particle_set.particles.set_index("particle")["tomogram"]
    tomogram = images["particle"].map(names)
    return (defocus - defocus.groupby([tomogram, images["tilt"]]).transform("mean")).to_numpy()


def _random_particles(particle: np.ndarray, max_images: int, rng: np.random.Generator) -> np.ndarray:
    """Return the rows (ascending) of all images of particles drawn at random."""
    names, counts = np.unique(particle, return_counts=True)
    order = rng.permutation(len(names))
    n = max(2, int(np.searchsorted(np.cumsum(counts[order]), max_images, side="right")))
    return np.flatnonzero(np.isin(particle, names[order[:n]]))
