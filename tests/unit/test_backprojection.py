"""Slices, their adjoint and maps from slices: against loops, exact transforms and the truth."""

import math

import numpy as np
import pytest
import torch

from tomohet.physics.backprojection import (
    PADDING,
    Accumulator,
    _insert,
    insert_slices,
    wiener_map,
)
from tomohet.physics.fourier import transform3
from tomohet.physics.fsc import fsc
from tomohet.physics.geometry import random_rotations
from tomohet.physics.insertion import add_rows
from tomohet.physics.lattice import half_plane, half_planes_to_images, images_to_half_planes
from tomohet.physics.masks import sphere_mask
from tomohet.physics.shells import full_shell_sums, shell_grid
from tomohet.physics.slicing import project, transform


def rotations(n, seed=0):
    return torch.tensor(random_rotations(n, np.random.default_rng(seed)), dtype=torch.float32)


def blobs(box, seed=0, n=12):
    """A map of Gaussian blobs well inside the box."""
    rng = np.random.default_rng(seed)
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((box,) * 3)
    for centre in rng.uniform(-box / 5, box / 5, (n, 3)):
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        volume += rng.uniform(0.5, 1) * np.exp(-squared / (2 * 0.9**2))
    return torch.tensor(volume, dtype=torch.float32)


def slices_of(volume, rotation, hp):
    return project(volume[None], rotation, hp.k)[..., 0]


def exact_slices(volume, rotation, hp):
    """Fourier slices of a volume summed voxel by voxel, without any grid: (m, n) complex."""
    axis = torch.arange(hp.box, dtype=torch.float64) - hp.box // 2
    slices = []
    for matrix in rotation.double():
        k3 = hp.k.double() @ matrix[:2]
        ex, ey, ez = (torch.exp(-2j * math.pi / hp.box * k3[:, [i]] * axis) for i in range(3))
        partial = torch.einsum("zyx,nx->nzy", volume.to(torch.complex128), ex)
        slices.append((torch.einsum("nzy,ny->nz", partial, ey) * ez).sum(1))
    return torch.stack(slices).to(torch.complex64)


def insert_by_loop(values, weights, rotation, hp):
    """Trilinear scatter in full space of every sample and of its Friedel mate, one at a time, in double."""
    size = PADDING * hp.box
    numerator, denominator = np.zeros((size,) * 3, complex), np.zeros((size,) * 3)
    for image, matrix in enumerate(rotation.double().numpy()):
        for point, k in enumerate(hp.k.numpy().astype(float)):
            for sign in (1, -1):
                x, y, z = sign * PADDING * (k @ matrix[:2])
                value = complex(values[image, point])
                value = value if sign == 1 else value.conjugate()
                for cz in (math.floor(z), math.floor(z) + 1):
                    for cy in (math.floor(y), math.floor(y) + 1):
                        for cx in (math.floor(x), math.floor(x) + 1):
                            share = (1 - abs(x - cx)) * (1 - abs(y - cy)) * (1 - abs(z - cz))
                            place = (cz % size, cy % size, cx % size)
                            numerator[place] += share * value
                            denominator[place] += share * float(weights[image, point])
    return numerator, denominator


@pytest.fixture(scope="module")
def random_slices():
    hp = half_plane(8)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, hp.n, dtype=torch.complex64, generator=generator)
    weights = torch.rand(4, hp.n, generator=generator)
    rotation = rotations(4)
    rotation[0] = torch.eye(3)  # every sample falls on a grid point
    rotation[1] = torch.tensor(
        [[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    )  # the slice kx = 0: samples are own mates
    return hp, values, weights, rotation


def test_insertion_equals_a_plain_loop_over_samples(random_slices):
    hp, values, weights, rotation = random_slices
    sums = Accumulator.zeros(8)
    insert_slices(values, weights, rotation, hp, sums)
    numerator, denominator = insert_by_loop(values, weights, rotation, hp)
    half = slice(0, hp.box + 1)
    inner = slice(1, hp.box)  # the planes kx = 0 and kx = D are completed with their mates in the map
    assert np.abs(sums.numerator[..., inner].numpy() - numerator[..., half][..., inner]).max() < 1e-5
    assert np.abs(sums.denominator[..., inner].numpy() - denominator[..., half][..., inner]).max() < 1e-5


def test_insertion_by_tensor_operations_equals_the_loop_too(random_slices):
    """As on a GPU. Among the samples are some of kx < 0, for which their mates are inserted."""
    hp, values, weights, rotation = random_slices
    sums = Accumulator.zeros(8)
    points = PADDING * (hp.k.float() @ rotation[:, :2, :]).reshape(-1, 3)
    assert (points[:, 0] < -0.1).sum() > 10
    _insert(values.flatten(), weights.flatten(), points, sums)
    numerator, denominator = insert_by_loop(values, weights, rotation, hp)
    inner = slice(1, hp.box)
    assert np.abs(sums.numerator[..., inner].numpy() - numerator[..., inner]).max() < 1e-5
    assert np.abs(sums.denominator[..., inner].numpy() - denominator[..., inner]).max() < 1e-5


def test_map_equals_the_map_of_the_loop(random_slices):
    hp, values, weights, rotation = random_slices
    sums = Accumulator.zeros(8)
    insert_slices(values, weights, rotation, hp, sums)
    numerator, denominator = insert_by_loop(values, weights, rotation, hp)
    size = PADDING * hp.box
    axis = np.fft.fftfreq(size, 1 / size)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / PADDING
    shell = np.ceil(radius - 1e-6).astype(int)
    mean = np.bincount(shell.ravel(), denominator.ravel()) / np.bincount(shell.ravel())
    with np.errstate(invalid="ignore"):
        spectrum = np.nan_to_num(numerator / (denominator + 0.05 * mean[shell]))
    spectrum[0, 0, 0] = 0
    volume = np.fft.fftshift(np.fft.ifftn(spectrum)).real[4:12, 4:12, 4:12]
    footprint = np.sinc((np.arange(8) - 4) / 16) ** 2
    volume = volume / (footprint[:, None, None] * footprint[:, None] * footprint)
    found = wiener_map(sums, 0.05).numpy()
    assert np.abs(found - (volume - volume.mean())).max() < 1e-5 * np.abs(volume).max()


def test_all_weight_arrives(random_slices):
    hp, values, weights, rotation = random_slices
    sums = Accumulator.zeros(8)
    insert_slices(values, weights, rotation, hp, sums)
    assert float(sums.denominator.sum()) == pytest.approx(float(weights.sum()), rel=1e-5)


@pytest.mark.parametrize("box", [8, 16, 22])
def test_insertion_is_the_adjoint_of_slicing(box):
    """<S v, y> = <v, S* y> over real and imaginary parts."""
    hp = half_plane(box)
    generator = torch.Generator().manual_seed(1)
    volume = torch.randn(1, box, box, box, generator=generator)
    grid = transform(volume).reshape((2 * box,) * 3)[..., : box + 1]
    data = torch.randn(6, hp.n, dtype=torch.complex64, generator=generator)
    rotation = rotations(6, seed=2)
    sums = Accumulator.zeros(box)
    insert_slices(data, torch.ones(6, hp.n), rotation, hp, sums)
    left = (slices_of(volume[0], rotation, hp).to(torch.complex128) * data.conj()).real.sum()
    right = (grid.to(torch.complex128) * sums.numerator.conj()).real.sum()
    scale = grid.norm() * sums.numerator.norm()
    assert abs(float(left - right)) < 1e-5 * float(scale)


def test_insertion_is_additive_and_order_does_not_matter(random_slices):
    hp, values, weights, rotation = random_slices
    whole, forwards, backwards = (Accumulator.zeros(8) for _ in range(3))
    insert_slices(values, weights, rotation, hp, whole)
    insert_slices(values[:1], weights[:1], rotation[:1], hp, forwards)
    insert_slices(values[1:].flip(0), weights[1:].flip(0), rotation[1:].flip(0), hp, backwards)
    total = forwards + backwards
    assert torch.allclose(total.numerator, whole.numerator, atol=1e-5)
    assert torch.allclose(total.denominator, whole.denominator, atol=1e-5)


def test_slices_agree_with_the_exact_transform():
    volume, hp, rotation = blobs(32), half_plane(32), rotations(8)
    exact = exact_slices(volume, rotation, hp)
    found = slices_of(volume, rotation, hp)
    for shell in (2, 6, 10, 14):
        ring = hp.shell == shell
        assert (found - exact)[:, ring].norm() < 0.03 * exact[:, ring].norm()


def test_the_slice_at_identity_is_the_projection_along_z():
    volume, hp = blobs(32), half_plane(32)
    image = half_planes_to_images(slices_of(volume, torch.eye(3)[None], hp), hp)[0]
    expected = half_planes_to_images(images_to_half_planes(volume.sum(0)[None]), hp)[0]
    # On grid points nothing is interpolated, so the gridding correction itself is the error: its worst case.
    assert (image - expected).norm() < 0.05 * expected.norm()


def test_a_quarter_turn_of_the_volume_is_a_quarter_turn_of_the_pose():
    """Rotating the map by Q (x -> Q x) and the poses by R Q^T leaves the images as they are."""
    volume, hp, rotation = blobs(33)[:32, :32, :32], half_plane(32), rotations(5)
    # Q takes (x, y, z) to (-y, x, z); on the lattice about voxel 16 this is exact away from the first planes.
    turned = torch.rot90(torch.nn.functional.pad(volume, (0, 1, 0, 1, 0, 1)), -1, (1, 2))[:32, :32, :32]
    q = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    before = slices_of(volume, rotation, hp)
    after = slices_of(turned, rotation @ q.T, hp)
    assert (after - before).norm() < 1e-4 * before.norm()


def test_an_in_plane_rotation_rotates_the_image():
    volume, hp, rotation = blobs(32), half_plane(32), rotations(3)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # image axes (x, y) <- (-y, x)
    plain = half_planes_to_images(slices_of(volume, rotation, hp), hp)
    turned = half_planes_to_images(slices_of(volume, quarter @ rotation, hp), hp)
    expected = torch.rot90(plain[:, 1:, 1:], -1, (1, 2))
    assert (turned[:, 1:, 1:] - expected).norm() < 1e-4 * expected.norm()


def test_noiseless_slices_give_the_map_back_up_to_nyquist():
    box, hp = 24, half_plane(24)
    volume, rotation = blobs(box), rotations(400)
    data = exact_slices(volume, rotation, hp)
    sums = Accumulator.zeros(box)
    insert_slices(data, torch.ones(data.shape), rotation, hp, sums)
    found = wiener_map(sums, 1e-3)
    curve = fsc(found, volume)
    assert curve[1:12].min() > 0.998
    assert curve[12] > 0.99
    one, two = transform3(found), transform3(volume)
    cross, power = (
        full_shell_sums(values, shell_grid(box), box // 2 + 1)
        for values in ((one * two.conj()).real, two.abs().square())
    )
    gain = cross / power
    assert (gain[2:12] > 0.93).all()
    assert (gain[2:12] < 1.03).all()


def test_ctf_weighted_slices_give_the_map_back():
    """Data C V with weights C^2: zeros of one image are filled by others, amplitudes come out right."""
    box, hp = 24, half_plane(24)
    volume, rotation = blobs(box), rotations(400)
    generator = torch.Generator().manual_seed(0)
    period = 3 + 3 * torch.rand(400, 1, generator=generator)
    ctf = torch.sin(hp.radius[None] * (2 * math.pi / period))
    data = ctf * exact_slices(volume, rotation, hp)
    sums = Accumulator.zeros(box)
    insert_slices(ctf * data, ctf * ctf, rotation, hp, sums)
    found = wiener_map(sums, 1e-3)
    assert fsc(found, volume)[1:12].min() > 0.99
    inside = torch.tensor(sphere_mask(box, edge_px=2)).bool()
    centred = volume - volume[inside].mean()
    slope = (found * centred)[inside].sum() / centred[inside].square().sum()
    assert float(slope) == pytest.approx(1, abs=0.1)


def test_regulariser_shrinks_what_is_little_sampled():
    box, hp = 16, half_plane(16)
    volume, rotation = blobs(box), rotations(30)
    data = exact_slices(volume, rotation, hp)
    sums = Accumulator.zeros(box)
    insert_slices(data, torch.ones(data.shape), rotation, hp, sums)
    power = [float(wiener_map(sums, fraction).square().sum()) for fraction in (1e-3, 0.1, 1.0)]
    assert power[0] > power[1] > power[2]
    ssnr = torch.full((9,), 1e6)
    ssnr[5:] = 1e-6
    filtered = fsc_power(wiener_map(sums, ssnr=ssnr))
    whole = fsc_power(wiener_map(sums))
    assert np.allclose(filtered[1:4], whole[1:4], rtol=0.05)
    assert (filtered[6:] < 0.15 * whole[6:]).all()


def fsc_power(volume):
    box = volume.shape[-1]
    return full_shell_sums(transform3(volume).abs().square(), shell_grid(box), box // 2 + 1).numpy()


def test_nothing_inserted_gives_an_empty_map():
    assert wiener_map(Accumulator.zeros(8)).abs().max() == 0


def test_rows_are_added_with_the_weights_of_their_corners():
    rng = np.random.default_rng(0)
    index, weight, values = rng.integers(5, size=(7, 3)), rng.random((7, 3)), rng.normal(size=(7, 2))
    table = rng.normal(size=(5, 2))
    expected = table.copy()
    np.add.at(expected, index, weight[:, :, None] * values[:, None])
    add_rows(table, index, weight, values)
    np.testing.assert_allclose(table, expected)
