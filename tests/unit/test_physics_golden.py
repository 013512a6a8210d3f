"""The physics against numbers that tomoDRGN 1.0 computed from the same inputs."""

import numpy as np
import pandas as pd
import pytest
import torch

from tomohet.files.mrc import read_sections
from tomohet.physics.ctf import contrast_transfer
from tomohet.physics.dose import critical_dose, dose_weight, optimal_dose_prefix
from tomohet.physics.fourier import cosine_window
from tomohet.physics.fsc import correlation, fsc
from tomohet.physics.geometry import euler_to_matrix
from tomohet.physics.hartley import hartley2, hartley_values, symmetrise
from tomohet.physics.lattice import half_plane, images_to_half_planes, shift_half_planes
from tomohet.physics.masks import soft_mask, sphere_mask

BOX = 32


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "10076_data.npz") as data:
        return {name: data[name] for name in data.files}


def relative(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    return np.abs(found - expected).max() / np.abs(expected).max()


def on_lattice(hartley, hp, sign=1):
    """Values of a centred, mirror-padded Hartley image at the points +k or -k of a half-plane."""
    kx, ky = (sign * hp.k.long()).unbind(-1)
    return hartley[..., ky + hp.box // 2, kx + hp.box // 2]


def test_rotations(golden, shared):
    star = (shared / "data" / "tomodrgn-tests" / "10076_both_32_sim.star").read_text()
    angles = _columns(star, "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi").astype(float)
    assert np.abs(euler_to_matrix(*angles.T) - golden["rot"]).max() < 1e-6


def _columns(star, *names):
    lines = star.splitlines()
    labels = [line.split()[0].lstrip("_") for line in lines if line.startswith("_")]
    rows = [line.split() for line in lines if len(line.split()) == len(labels) and "@" in line]
    return pd.DataFrame(rows, columns=labels)[list(names)].to_numpy()


def test_contrast_transfer(golden):
    parameters = torch.tensor(golden["ctf_params"][golden["idx5"]])
    frequency = torch.tensor(golden["lattice_coords"][:, :2])
    ctf = contrast_transfer(frequency, *parameters[:, 1:].T)
    assert np.abs(ctf.numpy().reshape(5, BOX + 1, BOX + 1) - golden["ctf5"]).max() < 1e-5


def test_dose_weights_and_their_cut(golden):
    s_invA = torch.tensor(golden["spatial_freq_invA"].ravel())
    centre = len(s_invA) // 2
    dose = torch.tensor(golden["dose"][golden["p0_img_ind"]])
    voltage = torch.full_like(dose, 300.0)
    found_critical = critical_dose(s_invA, voltage[:1])[0].numpy()
    expected = golden["critical_dose"].ravel()
    away = np.arange(len(s_invA)) != centre  # at zero frequency the critical dose is infinite
    assert relative(found_critical[away], expected[away]) < 1e-6
    assert found_critical[centre] == np.inf
    weight = dose_weight(s_invA, dose, voltage).numpy()
    assert np.abs(weight - golden["p0_dose_weights"]).max() < 1e-6
    assert np.array_equal(weight != 0, golden["p0_dose_weights"] != 0)


def test_decoder_mask_is_a_prefix_of_the_half_plane(golden):
    hp = half_plane(BOX)
    dose = torch.tensor(golden["dose"][golden["p0_img_ind"]])
    prefix = optimal_dose_prefix(hp, torch.full_like(dose, 13.1), dose, torch.full_like(dose, 300.0))
    assert np.array_equal(2 * prefix.numpy(), golden["p0_decoder_mask"].sum(1))
    circle = golden["lattice_circular_mask"].reshape(BOX + 1, BOX + 1)
    assert 2 * hp.n == circle.sum() == 796
    assert on_lattice(circle, hp).all()


def test_window_and_hartley_images(golden):
    window = cosine_window(BOX, 0.8, 0.9)
    assert np.abs(window.numpy() - golden["window2d"]).max() < 1e-6
    images = torch.tensor(golden["raw5"])
    hartley = symmetrise(hartley2(images * window))
    assert relative(hartley, golden["hartley5_unnormalised"]) < 1e-6
    shift, scale = golden["norm_seed42"]
    normalised = (hartley - float(shift)) / float(scale)
    assert relative(normalised, golden["hartley5_normalised"]) < 1e-5
    plus, minus = hartley_values(images_to_half_planes(images, window))
    hp = half_plane(BOX)
    assert relative(plus, on_lattice(golden["hartley5_unnormalised"], hp)) < 1e-6
    assert relative(minus, on_lattice(golden["hartley5_unnormalised"], hp, -1)) < 1e-6


def test_normalisation_over_all_images(shared):
    stacks = [f"10076_class{c}_32_sim.mrcs" for c in "DE"]
    images = np.concatenate(
        [
            read_sections(shared / "data" / "tomodrgn-tests" / name, np.arange(n))
            for name, n in zip(stacks, (576, 720), strict=True)
        ]
    )
    hartley = symmetrise(hartley2(torch.tensor(images) * cosine_window(BOX, 0.8, 0.9)))
    assert float(hartley.std()) == pytest.approx(176.408, rel=1e-4)
    assert float(hartley.mean()) == pytest.approx(-4.727, rel=1e-3)


def test_translation_and_phase_flip_of_particle_0(golden):
    hp = half_plane(BOX)
    plus = torch.tensor(on_lattice(golden["p0_images"], hp))
    minus = torch.tensor(on_lattice(golden["p0_images"], hp, -1))
    transform = torch.complex((plus + minus) / 2, (minus - plus) / 2)
    shifted = shift_half_planes(transform, torch.tensor(golden["p0_trans"]), hp)
    sign = torch.sign(contrast_transfer(hp.frequency, *torch.tensor(golden["p0_ctf_params"][:, 1:]).T))
    plus, minus = hartley_values(shifted * sign)
    expected = golden["p0_images_translated_phaseflipped"].reshape(-1, BOX + 1, BOX + 1)
    assert relative(plus, on_lattice(expected, hp)) < 1e-5
    assert relative(minus, on_lattice(expected, hp, -1)) < 1e-5


@pytest.mark.parametrize(
    ("angles", "expected"),
    [
        (
            (10, 20, 30),
            [
                [0.71461, 0.633718, -0.296198],
                [-0.613092, 0.771281, 0.17101],
                [0.336824, 0.059391, 0.939693],
            ],
        ),
        (
            (-45.99741, 128.90811, 104.35388),
            [
                [0.805021, 0.561004, 0.192912],
                [0.244372, -0.609896, 0.753863],
                [0.540577, -0.559733, -0.628073],
            ],
        ),
    ],
)
def test_euler_matrices(angles, expected):
    assert np.abs(euler_to_matrix(*angles) - expected).max() < 1e-6


def test_small_window():
    window = cosine_window(8, 0.5, 0.9)
    assert np.allclose(window[4], [0, 0.308658, 1, 1, 1, 1, 1, 0.308658], atol=1e-6)
    assert float(window.sum()) == pytest.approx(25.089628, abs=1e-5)
    assert float(cosine_window(32, 0.8, 0.9).sum()) == pytest.approx(581.338, abs=1e-3)


def test_small_hartley_transform():
    image = torch.arange(16.0).reshape(4, 4)
    hartley = hartley2(image)
    expected = [[0, 0, -32, 0], [0, 0, 0, 0], [-8, 0, 120, 16], [0, 0, 64, 0]]
    assert np.allclose(hartley, expected, atol=1e-5)
    assert np.allclose(symmetrise(hartley)[-1], [0, 0, -32, 0, 0], atol=1e-5)
    assert np.allclose(hartley2(hartley) / 16, image, atol=1e-5)


def test_small_translation():
    """Expected at +-k of the half-plane: the rows of the specification, centred, y upwards in index."""
    expected = np.array(
        [
            [0, 0, -45.2548, 0, 0],
            [0, 0, 24.4917, 0, 0],
            [8, -11.3137, 120, 11.3137, -8],
            [0, 0, 59.1283, 0, 0],
            [0, 0, 0, 0, 0],
        ]
    )
    hp = half_plane(4)
    transform = images_to_half_planes(torch.arange(16.0).reshape(1, 4, 4))
    plus, minus = hartley_values(shift_half_planes(transform, torch.tensor([[0.5, -0.25]]), hp))
    assert np.allclose(plus[0], on_lattice(expected, hp), atol=1e-4)
    assert np.allclose(minus[0], on_lattice(expected, hp, -1), atol=1e-4)


def test_small_ctf():
    axis = torch.arange(-4, 5) / 8
    row = torch.stack([axis, torch.zeros(9)], dim=-1)
    values = [torch.tensor([v]) for v in (2.0, 12000.0, 10000.0, 30.0, 300.0, 2.7, 0.1, 0.0)]
    expected_row = [0.638586, 0.414516, 0.990358, -0.264818, -0.1, -0.264818, 0.990358, 0.414516, 0.638586]
    expected_column = [-0.988134, 0.513984, 0.67679, -0.487837, -0.1, -0.487837, 0.67679, 0.513984, -0.988135]
    assert np.allclose(contrast_transfer(row, *values)[0], expected_row, atol=2e-5)
    assert np.allclose(contrast_transfer(row.flip(-1), *values)[0], expected_column, atol=2e-5)


@pytest.mark.parametrize(
    ("voltage", "critical", "dose5", "dose40"),
    [
        (
            300.0,
            [27.581916, 10.625032, 6.790852, 5.277404],
            [1, 0.913347, 0.790339, 0.692019, 0.622683],
            [1, 0.48427, 0, 0, 0],
        ),
        (
            200.0,
            [22.065533, 8.500026, 5.432682, 4.221923],
            [1, 0.892884, 0.745189, 0.631171, 0.553138],
            [1, 0.40398, 0, 0, 0],
        ),
    ],
)
def test_small_dose_weights(voltage, critical, dose5, dose40):
    s_invA = torch.arange(5) / 16.0
    voltages = torch.tensor([voltage, voltage])
    assert np.allclose(critical_dose(s_invA, voltages)[0, 1:], critical, rtol=1e-6)
    weight = dose_weight(s_invA, torch.tensor([5.0, 40.0]), voltages)
    assert np.allclose(weight, [dose5, dose40], atol=1e-6)


def test_dose_60_at_16_A():
    s_invA, dose, voltage = torch.tensor([1 / 16]), torch.tensor([60.0]), torch.tensor([300.0])
    assert float(critical_dose(s_invA, voltage)) == pytest.approx(27.5819, abs=1e-4)
    assert float(dose_weight(s_invA, dose, voltage)) == pytest.approx(0.33700, abs=1e-5)


def test_masks_fsc_and_correlation():
    random = np.random.RandomState(0)
    one = random.rand(16, 16, 16).astype(np.float32)
    two = (one + 0.5 * random.rand(16, 16, 16)).astype(np.float32)
    assert soft_mask(one, two).sum() == pytest.approx(473.0)
    assert sphere_mask(16).sum() == 2106
    expected = [1, 0.971435, 0.845657, 0.926267, 0.909542, 0.905563, 0.894915, 0.901516, 0.893761]
    assert np.allclose(fsc(one, two), expected, atol=1e-6)
    assert correlation(one, two) == pytest.approx(0.896036, abs=1e-6)
