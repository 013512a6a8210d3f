"""Properties of half-planes, half-balls, shifts and filters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tomohet.physics.fourier import cosine_window, transform2, transform3
from tomohet.physics.fourier_grids import (
    crop_fourier,
    lowpass,
    mirror_z,
    multiply_shells,
    on_grid,
    pad_fourier,
    smooth,
)
from tomohet.physics.hartley import hartley2, hartley_values, ihartley3, symmetrise
from tomohet.physics.lattice import (
    half_ball,
    half_plane,
    half_planes_to_images,
    images_to_half_planes,
    shift_half_planes,
)
from tomohet.physics.shells import shell_grid

boxes = pytest.mark.parametrize("box", [4, 6, 8, 10, 32])


def images(box, n=3, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, box, box)), dtype=torch.float32)


def dft(image, k):
    """The transform at integer frequencies k (n, 2), summed term by term."""
    box = image.shape[-1]
    axis = np.arange(box) - box // 2
    phase = (k[:, 0, None, None] * axis[None, None, :] + k[:, 1, None, None] * axis[None, :, None]) / box
    return (np.asarray(image)[None] * np.exp(-2j * np.pi * phase)).sum((1, 2))


@boxes
def test_half_plane_holds_one_of_each_pair_within_nyquist(box):
    hp = half_plane(box)
    axis = np.arange(-(box // 2), box // 2 + 1)
    disc = {(x, y) for x in axis for y in axis if 0 < x * x + y * y <= (box / 2) ** 2}
    points = [tuple(point) for point in hp.k.tolist()]
    assert len(set(points)) == len(points)
    assert set(points) | {(-x, -y) for x, y in points} == disc
    assert 2 * hp.n == len(disc)
    assert points == sorted(points, key=lambda p: (p[0] ** 2 + p[1] ** 2, *p))
    assert np.allclose(hp.radius, np.linalg.norm(hp.k.numpy().astype(float), axis=1))
    for radius in (1, 1.5, box / 2):
        assert hp.prefix(radius) == sum(x * x + y * y <= radius**2 for x, y in points)


@boxes
def test_half_ball_holds_one_of_each_pair_within_nyquist(box):
    ball = half_ball(min(box, 10))
    k = ball.k.numpy().astype(int)
    everything = np.concatenate([k, -k])
    assert len(np.unique(everything, axis=0)) == len(everything)
    half = ball.box // 2
    axis = np.arange(-half, half + 1) ** 2
    squared = axis[:, None, None] + axis[:, None] + axis
    assert len(everything) == ((squared > 0) & (squared <= half**2)).sum()
    assert (np.diff((k**2).sum(1)) >= 0).all()


def test_odd_boxes_are_refused():
    for lattice in (half_plane, half_ball):
        with pytest.raises(ValueError, match="33"):
            lattice(33)


@boxes
def test_half_planes_are_the_discrete_fourier_transform(box):
    image = images(box, 1)
    expected = dft(image[0], half_plane(box).k.numpy().astype(float))
    found = images_to_half_planes(image)[0].numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@boxes
def test_friedel_and_the_way_back(box):
    hp = half_plane(box)
    values = images_to_half_planes(images(box))
    again = images_to_half_planes(half_planes_to_images(values, hp))
    assert torch.allclose(again, values, atol=1e-4)
    spectrum = hp.scatter(values)
    column = spectrum[..., 0]
    assert torch.allclose(column, column.flip(-1).roll(1, -1).conj())


def test_parseval():
    """Power of a band-limited image in real space = power over +-k, over D^2."""
    hp = half_plane(16)
    inside = hp.radius < 8  # on the Nyquist circle +k and -k are one point of the transform
    values = images_to_half_planes(images(16)) * inside
    power = half_planes_to_images(values, hp).square().sum((1, 2))
    assert torch.allclose(power, 2 * values.abs().square().sum(1) / 16**2, rtol=1e-5)


def test_half_ball_volume_keeps_what_it_holds():
    ball = half_ball(12)
    volumes = torch.stack([torch.tensor(np.random.default_rng(i).normal(size=(12,) * 3)) for i in range(2)])
    values = ball.gather(transform3(volumes.float()))
    rebuilt = ball.volume(values)
    assert torch.allclose(ball.gather(transform3(rebuilt)), values, atol=1e-4)
    assert rebuilt.mean((1, 2, 3)).abs().max() < 1e-6


def test_half_ball_volume_at_a_smaller_box_keeps_density():
    axis = torch.arange(24) - 12
    blob = torch.exp(-(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / (2 * 3.0**2)).float()
    large, small = half_ball(24), half_ball(12)
    values = large.gather(transform3(blob))
    index = {tuple(k): i for i, k in enumerate(large.k.tolist())}
    cropped = values[[index[tuple(k)] for k in small.k.tolist()]]
    found = small.volume(cropped[None], box=24)[0]
    expected = blob[::2, ::2, ::2]
    assert torch.allclose(found - found[0, 0, 0], expected - expected[0, 0, 0], atol=2e-3)


def test_hartley_values_are_real_minus_and_plus_imaginary():
    values = torch.tensor([[1 + 2j, -3 + 0.5j]])
    plus, minus = hartley_values(values)
    assert plus.tolist() == [[-1, -3.5]]
    assert minus.tolist() == [[3, -2.5]]


def cas_sum(values):
    """The Hartley transform of a square or a cube, summed term by term: sum f cas(2 pi k.x / D)."""
    box, axes = len(values), values.ndim
    place = np.indices(values.shape).reshape(axes, -1) - box // 2
    angle = 2 * np.pi * (place.T @ place) / box
    return ((np.cos(angle) + np.sin(angle)) @ values.ravel()).reshape(values.shape)


def test_hartley_transforms_are_sums_of_cosines_and_sines():
    image = np.random.default_rng(0).normal(size=(6, 6))
    found = hartley2(torch.tensor(image).expand(2, 3, 6, 6))
    np.testing.assert_allclose(found[1, 2], cas_sum(image), atol=1e-9)
    volumes = np.random.default_rng(1).normal(size=(2, 3, 4, 4, 4))
    transforms = torch.tensor(np.array([[cas_sum(one) for one in some] for some in volumes]))
    np.testing.assert_allclose(ihartley3(transforms), volumes, atol=1e-9)


def test_symmetrised_transforms_have_both_ends():
    found = symmetrise(torch.arange(16.0).reshape(1, 4, 4))[0]
    assert found.shape == (5, 5)
    assert torch.equal(found[4], found[0]) and torch.equal(found[:, 4], found[:, 0])


def test_shift_moves_content_by_plus_x_and_y():
    image = torch.zeros(1, 32, 32)
    image[0, 16, 16] = 1
    hp = half_plane(32)
    moved = half_planes_to_images(
        shift_half_planes(images_to_half_planes(image), torch.tensor([[3.0, -2.0]]), hp), hp
    )
    assert divmod(int(moved.argmax()), 32) == (14, 19)


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(*[st.floats(-20, 20, width=32)] * 2),
    st.tuples(*[st.floats(-20, 20, width=32)] * 2),
)
def test_shifts_compose_and_keep_power(first, second):
    hp = half_plane(16)
    values = images_to_half_planes(images(16, 1))
    a, b = torch.tensor([first]), torch.tensor([second])
    twice = shift_half_planes(shift_half_planes(values, a, hp), b, hp)
    once = shift_half_planes(values, a + b, hp)
    assert (twice - once).abs().max() < 1e-4 * values.abs().max()
    assert torch.allclose(once.abs(), values.abs(), rtol=1e-4, atol=1e-4)


def test_whole_pixel_shift_is_a_roll():
    image = images(16, 1)
    hp = half_plane(16)
    smooth = half_planes_to_images(images_to_half_planes(image) * (hp.radius < 8), hp)
    values = images_to_half_planes(smooth)
    moved = half_planes_to_images(shift_half_planes(values, torch.tensor([[5.0, -3.0]]), hp), hp)
    assert torch.allclose(moved, smooth.roll((-3, 5), (1, 2)), atol=1e-4)


def test_window_is_flat_inside_and_zero_outside():
    window = cosine_window(64, 0.5, 0.75)
    axis = torch.arange(64) - 32
    radius = torch.hypot(axis[:, None].float(), axis[None].float()) / 32
    assert (window[radius <= 0.5] == 1).all()
    assert window[radius >= 0.75].abs().max() < 1e-7
    assert ((window >= 0) & (window <= 1)).all()
    with pytest.raises(ValueError, match="0.9"):
        cosine_window(64, 0.9, 0.9)


def test_sharp_lowpass_keeps_and_removes_exactly():
    volume = torch.tensor(np.random.default_rng(0).normal(size=(16,) * 3)).float()
    filtered = transform3(lowpass(volume, 2.0, 8.0, edge_shells=0))  # 16 * 2 / 8 = radius 4
    spectrum = transform3(volume)
    inside = shell_grid(16) <= 4
    assert torch.allclose(filtered[inside], spectrum[inside], atol=1e-3)
    assert filtered[~inside].abs().max() < 1e-3


def test_soft_lowpass_is_half_at_the_resolution():
    delta = np.zeros((32,) * 3, np.float32)
    delta[16, 16, 16] = 1
    filtered = lowpass(delta, 1.0, 4.0, edge_shells=4.0)
    assert isinstance(filtered, np.ndarray)
    amplitude = transform3(torch.tensor(filtered))[0, 0, :].real
    assert float(amplitude[8]) == pytest.approx(0.5, abs=1e-5)
    assert float(amplitude[6]) == pytest.approx(1, abs=1e-5)
    assert float(amplitude[10]) == pytest.approx(0, abs=1e-5)


def test_maps_are_filtered_one_by_one():
    maps = torch.randn(2, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lowpass(maps, 1.0, 4.0)[1, 2], lowpass(maps[1, 2], 1.0, 4.0))


def test_multiply_shells_scales_power_per_shell():
    """A point on the rim of a shell has the mean of the weights of this shell and the next."""
    volume = np.random.default_rng(0).normal(size=(16,) * 3).astype(np.float32)
    weighted = transform3(torch.tensor(multiply_shells(volume, np.linspace(1, 0, 9))))
    expected = transform3(torch.tensor(volume))[0, 0, 1:8] * torch.linspace(1, 0, 9)[1:8].sub(1 / 16)
    assert torch.allclose(weighted[0, 0, 1:8], expected, atol=1e-3)
    assert weighted[4, 4, 7].abs() < 1e-3 < transform3(torch.tensor(volume))[4, 4, 7].abs()


@pytest.mark.parametrize("box", [8, 10, 14])
def test_crop_fourier_keeps_density_and_coefficients(box):
    volume = torch.tensor(np.random.default_rng(0).normal(size=(2, 16, 16, 16))).float()
    cropped = crop_fourier(volume, box)
    assert cropped.shape == (2, box, box, box)
    ball = half_ball(box)
    inside = ball.radius < box / 2
    index = ball.k[inside].long()
    kx, ky, kz = index.unbind(-1)
    expected = transform3(volume)[:, kz % 16, ky % 16, kx]
    found = ball.gather(transform3(cropped))[:, inside] * (16 / box) ** 3
    assert torch.allclose(found, expected, atol=1e-3)
    assert torch.allclose(cropped.mean((1, 2, 3)), volume.mean((1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("box", [12, 14])
def test_padding_is_undone_by_cropping(box):
    """But for the Nyquist frequency, where cropping takes the mean of both ends and padding halves."""
    maps = pad_fourier(torch.randn(2, 6, 6, 6, generator=torch.Generator().manual_seed(0)), 8)
    padded = pad_fourier(maps, box)
    assert padded.shape == (2, box, box, box)
    torch.testing.assert_close(crop_fourier(padded, 8), maps, rtol=0, atol=1e-5)
    torch.testing.assert_close(padded.mean((1, 2, 3)), maps.mean((1, 2, 3)))
    # Twice as fine: every second voxel is one of the coarse ones, the centre at D//2 among them.
    torch.testing.assert_close(pad_fourier(maps, 16)[:, ::2, ::2, ::2], maps, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="smaller"):
        pad_fourier(maps, 6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_padding_shares_the_wave_at_nyquist_between_both_ends(axis):
    """The alternating map is cos(pi u), u in voxels from the centre; on a grid three times as fine too."""
    fine = (torch.arange(24) - 12) / 3
    wave = torch.cos(torch.pi * fine)
    coarse = wave[::3]
    assert coarse.tolist() == pytest.approx([1, -1] * 4, abs=1e-6)
    shape = [-1 if a == axis else 1 for a in range(3)]
    found = pad_fourier(coarse.reshape(shape).expand(8, 8, 8), 24)
    torch.testing.assert_close(found, wave.reshape(shape).expand(24, 24, 24), rtol=0, atol=1e-5)


@pytest.mark.parametrize("box", [12, 16, 20])
def test_other_grids_have_the_same_coefficients(box):
    """Below the Nyquist frequency of the smaller grid, also of several maps at once."""
    maps = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    half = min(box, 16) // 2
    low = [slice(0, half), slice(-half + 1, None)]
    found, expected = transform3(on_grid(maps, box)), transform3(maps)
    for along_z in low:
        for along_y in low:
            part = (..., along_z, along_y, slice(0, half))
            torch.testing.assert_close(found[part], expected[part], rtol=1e-4, atol=1e-3)


def test_smoothing_is_a_convolution_with_a_gaussian():
    """A point becomes a Gaussian of that standard deviation; the sum stays."""
    point = torch.zeros(24, 24, 24)
    point[12, 12, 12] = 1.0
    found = smooth(point, 2.0)
    axis = torch.arange(24.0) - 12
    gaussian = torch.exp(-axis.square() / 8) / (8 * torch.pi) ** 0.5
    expected = gaussian[:, None, None] * gaussian[:, None] * gaussian
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)


def test_crop_fourier_treats_both_ends_of_nyquist_alike():
    volume = torch.tensor(np.random.default_rng(0).normal(size=(16, 16, 16))).float()
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        turned = crop_fourier(volume.permute(axes), 8)
        assert torch.allclose(turned, crop_fourier(volume, 8).permute(axes), atol=1e-5)
    with pytest.raises(ValueError, match="larger"):
        crop_fourier(volume, 18)


def test_mirror_keeps_the_origin_and_undoes_itself():
    volume = np.random.default_rng(0).normal(size=(8, 8, 8))
    mirrored = mirror_z(volume)
    assert np.array_equal(mirrored[4], volume[4])
    assert np.array_equal(mirrored[5], volume[3])
    assert np.array_equal(mirror_z(mirrored), volume)


def test_transform_of_a_centred_delta_is_flat():
    image = torch.zeros(1, 8, 8)
    image[0, 4, 4] = 1
    assert torch.allclose(transform2(image), torch.ones(1, 8, 5, dtype=torch.complex64))
