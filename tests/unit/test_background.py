"""Background around particles: it is measured, subtracted before windowing, and leaves no trace in maps."""

import shutil

import mrcfile
import numpy as np
import pytest
import torch
import yaml

from tomohet.errors import InputError
from tomohet.particles.dialects import read_particles
from tomohet.particles.store_writing import write_store
from tomohet.physics.background import (
    INNER,
    LEAST_READ,
    _means,
    _sectors,
    background_planes,
    padding,
    subtract_planes,
    take_off_background,
)
from tomohet.preflight.sample import draw_sample
from tomohet.reconstruction.half_maps import half_maps

BOX = 32
FILES = {"raw": "particles.star", "premultiplied": "warptools/particles_optimisation_set.star"}
POSITION = torch.arange(BOX) - BOX // 2
Y, X = torch.meshgrid(POSITION, POSITION, indexing="ij")


def noise(n=400, seed=0):
    return torch.randn(n, BOX, BOX, generator=torch.Generator().manual_seed(seed))


def changed(data, folder, change):
    """A copy of a simulated dataset, `change(images, rng)` for each of its stacks."""
    shutil.copytree(data, folder)
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.mrcs")):
        with mrcfile.open(path, mode="r+") as stack:
            stack.set_data(change(stack.data, rng).astype(np.float32))
    return folder


def offset(deviations):
    return lambda images, rng: images + deviations * images.std()


def own_offsets(images, rng):
    return images + 2 * images.std() * rng.standard_normal((len(images), 1, 1))


def ramp(images, rng):
    position = np.linspace(-1, 1, images.shape[-1])
    return images + 5 * images.std() * (position - 0.5 * position[:, None])


def mean_map(star, folder):
    store = write_store(folder, read_particles(star))
    return half_maps(store, np.arange(len(store.particles)))


def test_a_plane_is_found_and_taken_off():
    images = noise()
    level, along_x, along_y = 7.0, 0.2, -0.1
    tilted = images + level + along_x * X + along_y * Y
    found = background_planes(tilted)
    around = torch.hypot(X.float(), Y.float()) >= INNER * BOX / 2
    # Error of a mean over so many pixels of unit noise; Huber's estimate loses a few per cent.
    assert float((found[0] - level).std()) == pytest.approx(float(around.sum()) ** -0.5, rel=0.15)
    assert found.mean(1).tolist() == pytest.approx([level, along_x, along_y], rel=0.02)
    flat = subtract_planes(tilted.clone(), found)
    assert (flat - images).abs().max() < 0.6 and abs(float((flat - images).mean())) < 0.01


def test_noise_alone_has_no_slope():
    """A slope within chance is left in, because subtracting it would only add noise."""
    slopes = background_planes(noise())[1:]
    assert ((slopes == 0).all(0)).float().mean() > 0.98


def test_a_constant_changes_nothing_but_the_level():
    images = noise(50)
    before, after = background_planes(images), background_planes(images + 1000)
    torch.testing.assert_close(after[0] - 1000, before[0], rtol=0, atol=2e-4)
    torch.testing.assert_close(after[1:], before[1:], rtol=0, atol=1e-4)


def test_a_gold_bead_beside_the_particle_moves_the_level_little():
    images = noise()
    before = background_planes(images)[0]
    images[:, 24:28, 24:28] -= 30
    mean = images[:, torch.hypot(X.float(), Y.float()) >= INNER * BOX / 2].mean(1)
    assert mean.mean() < -0.7
    assert (background_planes(images)[0] - before).abs().mean() < 0.15


def test_images_cropped_to_a_circle_are_read_within_it():
    images = (noise() + 5) * (torch.hypot(X.float(), Y.float()) < BOX / 2)
    assert background_planes(images)[0].mean() == pytest.approx(5, abs=0.2)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("change", [offset(0.1), offset(1), offset(5), own_offsets, ramp])
def test_backgrounds_leave_no_trace_in_the_map(tiny, tmp_path, kind, change):
    right = mean_map(tiny / FILES[kind], tmp_path / "right")
    data = changed(tiny, tmp_path / "data", change)
    found = mean_map(data / FILES[kind], tmp_path / "found")
    assert np.corrcoef(found.map.ravel(), right.map.ravel())[0, 1] > 0.999
    assert found.resolution_A == pytest.approx(right.resolution_A, rel=0.01)


@pytest.mark.parametrize("kind", FILES)
def test_images_without_a_background_keep_their_map(tiny, tmp_path, kind, monkeypatch):
    found = mean_map(tiny / FILES[kind], tmp_path / "found")
    monkeypatch.setattr("tomohet.particles.preparation.Preparation.flat", False)
    untouched = mean_map(tiny / FILES[kind], tmp_path / "untouched")
    assert np.corrcoef(found.map.ravel(), untouched.map.ravel())[0, 1] > 0.999


def test_resampled_images_lose_their_background_too(tiny, tmp_path):
    data = changed(tiny, tmp_path / "data", offset(3))
    stores = [
        write_store(tmp_path / name, read_particles(folder / "particles.star"), rescale=18.0, box=16)
        for name, folder in (("right", tiny), ("found", data))
    ]
    np.testing.assert_allclose(stores[1].data, stores[0].data, atol=2e-3)


def test_published_rules_keep_the_background(tiny, tmp_path):
    """Networks of tomoDRGN were trained on such images."""
    data = changed(tiny, tmp_path / "data", offset(3))
    for normalise, background in (((0.0, 1.0), None), ("global", None), ("noise", "plane")):
        store = write_store(
            tmp_path / str(normalise), read_particles(data / "particles.star"), normalise=normalise
        )
        recorded = yaml.safe_load((store.folder / "store.yaml").read_text())["preparation"]
        assert recorded["background"] == background
        lowest = np.linalg.norm(store.data[:, 0], axis=-1).mean() * store.images["noise_scale"].mean()
        assert (lowest > 200) == (background is None)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("value", [0.0, 7.5, -1e4])
def test_blank_images_are_refused_whatever_their_grey_value(tiny, tmp_path, kind, value):
    def blank(images, rng):
        images = images.copy()
        images[5] = value
        return images

    data = changed(tiny, tmp_path / "data", blank)
    with pytest.raises(InputError, match=r"\.mrcs: section 6 is constant in the window"):
        write_store(tmp_path / "store", read_particles(data / FILES[kind]))


def test_an_image_far_from_0_is_not_blank(tiny, tmp_path):
    data = changed(tiny, tmp_path / "data", lambda images, rng: images / images.std() + 1e4)
    store = write_store(tmp_path / "store", read_particles(data / "particles.star"))
    power = store.half_planes(np.arange(len(store.images))).abs().square().mean(1)
    assert torch.isfinite(power).all() and (power > 0).all()


@pytest.mark.parametrize("kind", FILES)
def test_the_check_looks_at_the_images_that_are_prepared(tiny, tmp_path, kind):
    """The check sees the prepared images up to the sign and the divisor of a tomogram."""
    particle_set = read_particles(changed(tiny, tmp_path / "data", own_offsets) / FILES[kind])
    store = write_store(tmp_path / "store", particle_set)
    sample = draw_sample(particle_set, max_images=10**6, seed=0)
    own = torch.as_tensor(store.images["noise_scale"].to_numpy())[:, None]
    prepared = store.half_planes(np.arange(len(store.images))) * own
    for name in np.unique(sample.tomogram):
        here = torch.as_tensor(sample.tomogram == name)
        ratio = prepared[here] / sample.data[here]
        torch.testing.assert_close(ratio / ratio.flatten()[0], torch.ones_like(ratio), rtol=1e-2, atol=1e-2)
    assert sample.premultiplied == (kind == "premultiplied")


@pytest.mark.parametrize("kind", ["edge", "circle"])
@pytest.mark.parametrize("level", [0.0, 3.0, 1000.0])
def test_padding_of_another_grey_level_leaves_no_trace(kind, level):
    """Images at a tomogram's edge, or cropped to a circle, are padded with 0 whatever their level."""
    flat = noise()
    box = flat.shape[-1]
    position = torch.arange(box) - box // 2
    circle = torch.hypot(position[:, None].float(), position[None].float()) > 0.42 * box
    edge = (position[:, None] < position[0] + box // 8).expand(box, box)
    padded = {"edge": edge, "circle": circle}[kind]
    images = (flat + level).masked_fill(padded, 0.0)
    take_off_background(images)
    assert (images[:, padded] == 0).all()
    error = (images - flat)[:, ~padded].abs()
    assert error.mean() < 0.15  # the level's own error; an edge of 3 or 1000 would be seen


def test_a_common_value_of_whole_numbers_is_no_padding():
    images = (20 * noise()).round()
    images[:, :2, :2] = 20.0
    rows, padded = padding(images)
    assert len(rows) == len(images)
    assert padded[:, 4:, 4:].float().mean() < 1e-3


def test_a_sector_needs_a_tenth_of_its_pixels():
    """With exactly a tenth it has its own mean, with fewer the image's; without any, all values count."""
    n = 20
    assert LEAST_READ * n == 2
    values = torch.arange(3.0 * n).reshape(1, n, 3).square()
    read = torch.zeros(1, n, 3, dtype=torch.bool)
    read[0, :, 0], read[0, 3:5, 1], read[0, 7, 2] = True, True, True
    own = values[0, :, 0].mean(), values[0, 3:5, 1].mean(), values[read].mean()
    torch.testing.assert_close(_means(values, read)[0], torch.stack(own))
    torch.testing.assert_close(_means(values, read & False), values.mean(1))


@pytest.mark.parametrize("corners", [True, False])
def test_pixels_on_the_circles_are_used(corners):
    pixels, design, inverse = _sectors(8, 1.0, corners)
    position = torch.arange(8.0) - 4
    radius = torch.hypot(position[:, None], position).flatten()
    assert radius[pixels].min() == INNER * 4
    assert radius[pixels].max() == (32**0.5 if corners else 4)
    means = torch.stack([position.repeat(8)[pixels].mean(0), position.repeat_interleave(8)[pixels].mean(0)])
    torch.testing.assert_close(design[:, 1:].T, means)
    torch.testing.assert_close(inverse @ design, torch.eye(3), rtol=0, atol=1e-6)
