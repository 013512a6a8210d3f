"""The prepared store: golden Hartley images, normalisation, order without meaning, reuse, memory."""

import time

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from particle_files import BOX, N_PARTICLES, N_TILTS, write_image_series, write_stack, write_text_star

from tomohet.errors import InputError
from tomohet.files import atomic
from tomohet.files.atomic import write_pickle
from tomohet.options import TrainVaeOptions
from tomohet.particles import preparation
from tomohet.particles.dialects import read_particles
from tomohet.particles.source import open_particles
from tomohet.particles.store import open_store
from tomohet.particles.store_writing import write_store
from tomohet.physics.fourier import cosine_window
from tomohet.physics.lattice import shift_half_planes

TOY = "data/tomodrgn-tests/10076_both_32_sim.star"


@pytest.fixture
def series(tmp_path):
    star, _ = write_image_series(tmp_path)
    return star


def unshifted_hartley(store, rows):
    """Hartley values at +k and -k before the shift was applied."""
    shift = torch.tensor(store.images[["shift_x_px", "shift_y_px"]].to_numpy(np.float32)[rows])
    values = shift_half_planes(store.half_planes(rows), -shift, store.half_plane).numpy()
    return values.real - values.imag, values.real + values.imag


@pytest.mark.parametrize(("normalise", "name"), [((0.0, 1.0), "unnormalised"), (None, "normalised")])
def test_golden_hartley_images(shared, tmp_path, normalise, name):
    golden = np.load(shared / "golden/10076_data.npz")
    normalise = normalise or tuple(map(float, golden["norm_seed42"]))
    store = write_store(tmp_path, read_particles(shared / TOY), invert=False, normalise=normalise)
    k = store.half_plane.k.numpy().astype(int)
    for number, source_row in enumerate(golden["idx5"]):
        rows = np.flatnonzero(store.images["row"] == source_row)
        plus, minus = unshifted_hartley(store, rows)
        expected = golden[f"hartley5_{name}"][number]
        assert np.abs(plus[0] - expected[16 + k[:, 1], 16 + k[:, 0]]).max() < 1e-4 * np.abs(expected).max()
        assert np.abs(minus[0] - expected[16 - k[:, 1], 16 - k[:, 0]]).max() < 1e-4 * np.abs(expected).max()


def test_golden_shifted_and_phase_flipped_images(shared, tmp_path):
    """The reference's encoder input, before its mask, of the first particle's first images."""
    from tomohet.physics.imaging import encoder_view, image_parameters

    golden = np.load(shared / "golden/10076_data.npz")
    norm = tuple(map(float, golden["norm_seed42"]))
    store = write_store(tmp_path, read_particles(shared / TOY), invert=False, normalise=norm)
    expected = golden["p0_images_translated_phaseflipped"].reshape(-1, 33, 33)
    rows = np.arange(len(expected))
    values = encoder_view(
        store.half_planes(rows), image_parameters(store.images.iloc[rows]), store.half_plane
    )
    k = store.half_plane.k.numpy().astype(int)
    found = (values.real - values.imag).numpy()
    assert np.abs(found - expected[:, 16 + k[:, 1], 16 + k[:, 0]]).max() < 1e-4 * np.abs(expected).max()


def test_global_scale_is_that_of_all_hartley_pixels(shared, tmp_path):
    store = write_store(tmp_path, read_particles(shared / TOY), invert=False, normalise="global")
    assert store.scale == pytest.approx(176.408, abs=0.001)


def test_noise_normalisation_makes_noise_power_one(series, tmp_path):
    """White noise of any amplitude comes out with unit variance of real and imaginary parts."""
    for number, amplitude in ((0, 5.0), (1, 0.01)):
        images = np.random.default_rng(number).normal(100.0, amplitude, (15, BOX, BOX)).astype(np.float32)
        write_stack(tmp_path / f"stacks/TS_{number}.mrcs", images)
    store = write_store(tmp_path / "store", read_particles(series), window=False)
    values = store.half_planes(np.arange(30))
    high = values[:, store.half_plane.prefix(0.75 * BOX / 2) :]
    np.testing.assert_allclose(high.abs().square().mean(1) / 2, 1, rtol=1e-4)
    low = store.images["stack"].str.endswith("TS_1.mrcs").to_numpy()
    assert np.median(store.images["noise_scale"][~low]) / np.median(store.images["noise_scale"][low]) == (
        pytest.approx(500, rel=0.2)
    )
    assert store.scale == pytest.approx(float(store.images["noise_scale"].median()))


def test_sign_follows_the_premultiplied_flag(tmp_path, tiny):
    raw = write_store(tmp_path / "a", read_particles(tiny / "particles.star"), normalise=(0.0, 1.0))
    kept = write_store(
        tmp_path / "b", read_particles(tiny / "particles.star"), normalise=(0.0, 1.0), invert=False
    )
    np.testing.assert_array_equal(raw.data, -kept.data)
    twin = read_particles(tiny / "warptools/particles_optimisation_set.star")
    default = write_store(tmp_path / "c", twin, normalise=(0.0, 1.0))
    inverted = write_store(tmp_path / "d", twin, normalise=(0.0, 1.0), invert=True)
    np.testing.assert_array_equal(default.data, -inverted.data)
    assert raw.description["inverted"] == [True] and default.description["inverted"] == [False]


@pytest.mark.parametrize("normalise", ["noise", (1.0, 3.0)])
def test_shuffled_rows_store_identical_images(tmp_path, normalise):
    """Bit for bit: the images of a particle do not depend on where they stand in the file."""
    star, table = write_image_series(tmp_path)
    shuffled = write_text_star(tmp_path / "shuffled.star", {"": table.sample(frac=1, random_state=7)})
    stores = [
        write_store(tmp_path / name, read_particles(path), normalise=normalise)
        for name, path in (("a", star), ("b", shuffled))
    ]
    order = []
    for store in stores:
        images = store.images.merge(store.particles[["particle", "source_id"]], on="particle")
        order.append(images.sort_values(["source_id", "section"])["image"].to_numpy())
    assert not np.array_equal(*order)
    np.testing.assert_array_equal(stores[0].data[order[0]], stores[1].data[order[1]])


def test_images_equal_a_plain_computation(series, tmp_path):
    """Window, transform, sign, scale and shift of one image by a direct sum over pixels."""
    store = write_store(tmp_path / "store", read_particles(series), normalise=(0.0, 2.0))
    image = store.images.iloc[7]
    pixels = mrcfile.read(image["stack"])[image["section"] - 1] * cosine_window(BOX, 0.8, 0.9).numpy()
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    for number in (0, 5, 60):
        kx, ky = store.half_plane.k[number].tolist()
        wave = np.exp(-2j * np.pi * (kx * (x + image["shift_x_px"]) + ky * (y + image["shift_y_px"])) / BOX)
        expected = -(pixels * wave).sum() / 2
        assert store.half_planes([7])[0, number].item() == pytest.approx(expected, abs=1e-4)


def test_a_common_signal_is_read_back_whatever_the_noise_of_its_images(tmp_path):
    """One wave at low frequency beside one at high frequency, the noise, as strong as each image has it.

    Divided by their own noise the images hold the wave with the size 1 / noise. Stored values over `gain`,
    times `scale`, are the wave's transform: its amplitude times half the number of pixels.
    """
    star, _ = write_image_series(tmp_path)
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    signal, noise = 3 * np.cos(2 * np.pi * (2 * x + y) / BOX), np.cos(2 * np.pi * (3 * x - 6 * y) / BOX)
    strength = np.array([1.0, 1.5, 2, 3, 5] * 3)
    stack = (signal + strength[:, None, None] * noise).astype(np.float32)
    for number in (0, 1):
        write_stack(tmp_path / f"stacks/TS_{number}.mrcs", stack)
    store = write_store(tmp_path / "store", read_particles(star), window=False)
    point = next(i for i, k in enumerate(store.half_plane.k.tolist()) if k == [2, 1])
    stored = store.half_planes(np.arange(30)).abs().numpy()[:, point]
    np.testing.assert_allclose(stored / store.gain * store.scale, 3 * BOX**2 / 2, rtol=0.05)
    by_image = strength[store.images["section"] - 1]
    np.testing.assert_allclose(stored * by_image, stored[0] * by_image[0], rtol=0.05)


def test_integer_and_half_precision_stacks_do_not_overflow(series, tmp_path):
    """Sums over float16 images with a mean of 1,000 exceed float16's range; they are taken in float32."""
    base = np.random.default_rng(0).normal(0, 8, (15, BOX, BOX)).round()
    stores = []
    for mode, offset in ((np.float32, 0), (np.float16, 1000), (np.int16, 1000), (np.uint16, 1000)):
        for number in (0, 1):
            write_stack(tmp_path / f"stacks/TS_{number}.mrcs", (base + offset).astype(mode))
        stores.append(write_store(tmp_path / mode.__name__, read_particles(series), window=False))
    for store in stores[1:]:
        np.testing.assert_allclose(store.data, stores[0].data, atol=2e-4)


def test_float16_store_and_its_limits(series, tmp_path):
    particle_set = read_particles(series)
    full = write_store(tmp_path / "a", particle_set)
    half = write_store(tmp_path / "b", particle_set, dtype="float16")
    assert half.data.dtype == np.float16
    rows = np.arange(5)
    assert (half.half_planes(rows) - full.half_planes(rows)).abs().max() < 2e-3 * full.half_planes(
        rows
    ).abs().max()
    with pytest.raises(InputError, match="float16"):
        write_store(tmp_path / "c", particle_set, dtype="float16", normalise=(0.0, 1e-6))


def test_store_is_reused_only_for_the_same_inputs_and_options(series, tmp_path):
    folder = tmp_path / "store"
    first = write_store(folder, read_particles(series))
    written = (folder / "images.npy").stat().st_mtime_ns
    again = write_store(folder, read_particles(series))
    assert (folder / "images.npy").stat().st_mtime_ns == written and again.digest == first.digest
    other = write_store(folder, read_particles(series), window=False)
    assert other.digest != first.digest and not np.array_equal(other.data, again.data)
    before = write_store(folder, read_particles(series)).digest
    images = np.random.default_rng(9).normal(size=(15, BOX, BOX)).astype(np.float32)
    time.sleep(0.01)
    write_stack(tmp_path / "stacks/TS_0.mrcs", images)
    assert write_store(folder, read_particles(series)).digest != before


def test_interrupted_preparation_leaves_no_store(series, tmp_path, monkeypatch):
    folder = tmp_path / "store"
    write_store(folder, read_particles(series))

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tomohet.particles.store_writing.shift_half_planes", fail)
    with pytest.raises(KeyboardInterrupt):
        write_store(folder, read_particles(series), window=False)
    with pytest.raises(InputError, match="no prepared store"):
        open_store(folder)
    assert not [path for path in folder.iterdir() if ".tmp" in path.name]


def test_image_rows_of_particles(series, tmp_path):
    store = write_store(tmp_path / "store", read_particles(series))
    expected = [row for p in (4, 0, 5) for row in np.flatnonzero(store.images["particle"] == p)]
    np.testing.assert_array_equal(store.images_of([4, 0, 5]), expected)
    assert store.images_of([]).tolist() == []
    assert store.offsets.tolist() == list(range(0, N_PARTICLES * N_TILTS + 1, N_TILTS))


def test_restricted_store_keeps_particle_numbers(series, tmp_path):
    store = write_store(tmp_path / "store", read_particles(series))
    keep = (store.images["particle"] % 2 == 1).to_numpy() & (store.images["tilt"] < 3).to_numpy()
    part = store.restricted(keep)
    assert part.particles["n_tilts"].tolist() == [0, 3, 0, 3, 0, 3]
    assert part.images_of([0]).size == 0 and len(part.half_planes(part.images_of([0]))) == 0
    rows = part.images_of([3])
    assert torch.equal(part.half_planes(rows), store.half_planes(np.arange(15, 18)))


@pytest.mark.parametrize("rows_of_a_group", [7, 1_000])
def test_a_store_of_some_particles_is_the_restricted_one(series, tmp_path, monkeypatch, rows_of_a_group):
    monkeypatch.setattr(atomic, "ROWS_OF_A_GROUP", rows_of_a_group)
    write_store(tmp_path / "store", read_particles(series))
    whole = open_store(tmp_path / "store")
    for chosen in ([3], [5, 1, 2], range(len(whole.particles))):
        part = open_store(tmp_path / "store", np.array(chosen))
        expected = whole.restricted(np.isin(whole.images["particle"], chosen))
        for table in ("images", "particles"):
            both = (getattr(one, table) for one in (part, expected))
            pd.testing.assert_frame_equal(*both, check_categorical=False)
        np.testing.assert_array_equal(part.data_rows, expected.data_rows)
        for name in ("gain", "noise_factor", "offsets"):
            np.testing.assert_array_equal(getattr(part, name), getattr(expected, name))
        rows = np.arange(len(part.images))
        np.testing.assert_array_equal(part.read(rows), expected.read(rows))
    for wrong, words in (([0, 99], "99 is out of range"), ([1, 1], "1 appears more than once")):
        with pytest.raises(InputError, match=f"--ind-ptcls: index {words}"):
            open_store(tmp_path / "store", np.array(wrong))


def particle_options(**changes):
    return TrainVaeOptions(particles="store", outdir="run", zdim=2, **changes)


def test_star_and_store_give_the_same_selection(series, tmp_path):
    """`open_particles` of a STAR file and of a store: same particles, same images, same numbers."""
    write_pickle(tmp_path / "ind.pkl", np.array([5, 1, 2]))
    options = particle_options(ind_ptcls=tmp_path / "ind.pkl", use_first_ntilts=2)
    from_star, chosen = open_particles(series, options, tmp_path / "run")
    write_store(tmp_path / "store", read_particles(series))
    from_store, chosen_too = open_particles(tmp_path / "store", options, tmp_path)
    assert chosen.tolist() == chosen_too.tolist() == [1, 2, 5]
    # What is usual in a tomogram depends on which of its images were prepared.
    tables = [one.images.drop(columns="grey_scale") for one in (from_star, from_store)]
    pd.testing.assert_frame_equal(*tables, check_categorical=False)
    rows = np.arange(6)
    assert torch.equal(from_star.half_planes(rows), from_store.half_planes(rows))


def test_options_that_a_store_does_not_fulfil_are_refused(series, tmp_path):
    write_store(tmp_path / "store", read_particles(series))
    write_store(tmp_path / "narrow", read_particles(series), window_r=0.5, window_r_outer=0.6)
    with pytest.raises(InputError, match="--window-r"):  # given, be it with the default
        open_particles(tmp_path / "narrow", particle_options(window_r=0.8, window_r_outer=0.9), tmp_path)
    for changes, name in (
        ({"no_window": True}, "--no-window"),
        ({"window_r": 0.5}, "--window-r"),
        ({"uninvert_data": True}, "--uninvert-data"),
        ({"norm": [0.0, 2.0]}, "--norm"),
    ):
        with pytest.raises(InputError, match=name):
            open_particles(tmp_path / "store", particle_options(**changes), tmp_path)


def test_description_tells_how_the_store_was_made(series, tmp_path):
    write_store(tmp_path / "store", read_particles(series), window_r=0.7)
    description = yaml.safe_load((tmp_path / "store/store.yaml").read_text())
    assert description["box"] == BOX and description["pixel_size_A"] == 8.0
    assert description["preparation"]["window"] == [0.7, 0.9]
    assert description["counts"] == {
        "particles": N_PARTICLES,
        "images": N_PARTICLES * N_TILTS,
        "tomograms": 2,
        "in_input": {"particles": N_PARTICLES, "images": N_PARTICLES * N_TILTS, "tomograms": 2},
    }
    assert list(description["inputs"]) == [str(series)]


@pytest.mark.parametrize("images_per_chunk", [2, 7])
def test_chunks_do_not_change_the_store(series, tmp_path, monkeypatch, images_per_chunk):
    """Streaming in small chunks gives the same bytes, so an image does not depend on its neighbours."""
    whole = write_store(tmp_path / "a", read_particles(series))
    monkeypatch.setattr(preparation, "PIXELS_PER_CHUNK", images_per_chunk * BOX**2)
    parts = write_store(tmp_path / "b", read_particles(series))
    np.testing.assert_array_equal(whole.data, parts.data)


def test_memory_is_bounded_by_the_chunk(series, monkeypatch):
    """However many images are asked for, no more than a chunk of them is in memory, and none is lost."""
    monkeypatch.setattr(preparation, "PIXELS_PER_CHUNK", 4 * BOX**2)
    images = read_particles(series).images
    many = pd.concat([images] * 20, ignore_index=True)
    rows, sizes = [], []
    for chunk, pixels in preparation.read_images(many, np.arange(len(many)), BOX):
        assert pixels.shape == (len(chunk), BOX, BOX)
        rows.append(chunk)
        sizes.append(len(chunk))
    assert max(sizes) <= 4 and np.array_equal(np.concatenate(rows), np.arange(len(many)))
