"""Volumes in the report's page: small integers keep what the maps show, and means are the model's own."""

import base64
import re
import zlib

import numpy as np
import pytest
import torch

from fake_results import BOX, PRESENT, assembly, make_results
from tomohet import plots
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import load_array, save_latents
from tomohet.model.load import load_model
from tomohet.physics.fourier_grids import crop_fourier
from tomohet.report import codec
from tomohet.report.blobs import Blobs
from tomohet.report.collect import collect
from tomohet.report.compare import _most_voxels, comparison
from tomohet.report.reading import Reader
from tomohet.report.space import ALL_VOLUMES, TABLE_BYTES, volume_characters

KINDS = {"f4": "<f4", "u1": "u1", "i2": "<i2", "i4": "<i4"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results") / "fake", n=120, rounds=("all",))


def compared(folder) -> tuple[dict, Blobs, Reader]:
    found, blobs = collect(folder), Blobs()
    reader = Reader(found.folder)
    return comparison(found.rounds[0], volume_characters([600]), reader, blobs), blobs, reader


def array(blobs: Blobs, name: str) -> np.ndarray:
    """Read an array of the page as its script does."""
    element = blobs.elements[int(name.removeprefix("blob-"))]
    kind, coded = re.search(r'data-kind="(\w+)">(.*)</script>', element).groups()
    return np.frombuffer(zlib.decompress(base64.b64decode(coded)), KINDS[kind])


def rows(blobs: Blobs, entry: dict) -> np.ndarray:
    integers = array(blobs, entry["blob"]).astype(float).reshape(len(entry["scales"]), -1)
    return (integers - entry["zero"]) * np.array(entry["scales"])[:, None]


def correlation(a, b) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def random_volumes(rng, n=40, voxels=500, rank=3) -> np.ndarray:
    return rng.normal(size=voxels) + rng.normal(size=(n, rank)) @ rng.normal(size=(rank, voxels))


def test_mean_of_any_selection_is_the_models_mean_of_the_same_particles(folder):
    spec, blobs, _ = compared(folder)
    model = spec["models"][0]
    mean = rows(blobs, model["mean"])[0]
    components, particles = rows(blobs, model["components"]), rows(blobs, model["particles"])
    trained = load_model(folder / "all/linear/weights.pkl", folder / "all/linear/config.pkl")
    latents = torch.from_numpy(load_array(folder / "all/linear/z.train.pkl"))
    mask = array(blobs, spec["grid"]["mask"]).reshape((spec["grid"]["edge"],) * 3) > 0
    z, y, x = spec["grid"]["corner"]
    e = len(mask)
    rng = np.random.default_rng(0)
    for size in (1, 7, 60):
        chosen = rng.choice(len(latents), size, replace=False)
        page = mean + particles[:, chosen].mean(axis=1) @ components
        truth = trained.volumes(latents[chosen]).mean(0).numpy()[z : z + e, y : y + e, x : x + e][mask]
        assert correlation(page, truth) > 0.9999
        everyone = trained.volumes(latents.mean(0, keepdim=True))[0].numpy()
        other = everyone[z : z + e, y : y + e, x : x + e][mask]
        assert correlation(page - other, truth - other) > 0.995
    assert model["fit"]["worst"] > 0.9999 and model["fit"]["worst_difference"] > 0.99


def test_groups_have_the_mean_coefficients_of_their_particles(folder):
    spec, blobs, _ = compared(folder)
    particles = rows(blobs, spec["models"][0]["particles"])
    kmeans = collect(folder).rounds[0].particles["kmeans"].to_numpy()
    found = [g for g in spec["groups"] if g["column"] == "kmeans"]
    assert [g["n"] for g in found] == np.bincount(kmeans).tolist()
    for group in found:
        expected = particles[:, kmeans == group["value"]].mean(axis=1)
        np.testing.assert_allclose(group["coefficients"][0], expected, atol=1e-3)


def test_noise_is_that_of_the_mean_of_the_half_maps(folder):
    spec, _, _ = compared(folder)
    assert spec["sigma"] == pytest.approx(0.014 / np.sqrt(2), rel=0.05)
    for name in ("half1.mrc", "half2.mrc"):
        (folder / "all/subset" / name).rename(folder / name)
    spec, _, _ = compared(folder)
    assert "no half maps" in spec["sigma_source"]
    for name in ("half1.mrc", "half2.mrc"):
        (folder / name).rename(folder / "all/subset" / name)


def test_maps_of_states_and_half_maps_are_there(folder):
    spec, blobs, _ = compared(folder)
    assert [m["label"] for m in spec["maps"]] == [
        "Reconstruction",
        "Half map 1",
        "Half map 2",
        "State 0",
        "State 1",
    ]
    assert [m["kind"] for m in spec["maps"]].count("state") == 2
    assert [m["n"] for m in spec["maps"][:3]] == [120, 60, 60]
    state = spec["maps"][3]
    grid = spec["grid"]
    mask = array(blobs, grid["mask"]).reshape((grid["edge"],) * 3) > 0
    (z, y, x), e = grid["corner"], grid["edge"]
    expected = assembly(PRESENT[0])[z : z + e, y : y + e, x : x + e][mask]
    np.testing.assert_allclose(rows(blobs, state)[0], expected, atol=0.51 * state["scales"][0])
    assert state["scales"][0] < 1.01 * expected.max() / 127


def test_volumes_take_what_the_tables_leave():
    assert volume_characters([400]) > 16_000_000
    assert volume_characters([400, None]) == volume_characters([400]) / 2
    rounds = [400_000, 50_000]
    assert 2 * volume_characters(rounds) + TABLE_BYTES <= ALL_VOLUMES == 17_000_000


def test_a_box_of_128_keeps_its_voxels():
    z, y, x = np.mgrid[:128, :128, :128] - 64
    mask = (z**2 + y**2 + x**2 < 38**2).astype(np.float32)  # of a particle that fills its box
    whole = codec.grid_in(mask, 3.0, _most_voxels(volume_characters([20_000]), 11))
    assert (whole.box, whole.pixel_size_A) == (128, 3.0)
    shared = codec.grid_in(mask, 3.0, _most_voxels(volume_characters([20_000] * 8), 11))
    assert shared.box < 100


def test_blocks_have_the_colours_of_the_stages_figures(folder):
    spec, _, _ = compared(folder)
    assert [b["colour"].upper() for b in spec["blocks"]] == [c.upper() for c in plots.PALETTE[:3]]


def test_decoded_volumes_and_interpolated_particles(folder, tmp_path):
    """Volumes of a network without a linear model: the particles lie between the decoded ones."""
    rng = np.random.default_rng(4)
    results = make_results(tmp_path / "network", n=100, rounds=("all",))
    (results / "all/linear/weights.pkl").unlink()
    latents = rng.uniform(-1, 1, (100, 2)).astype(np.float32)
    save_latents(results / "all/train_vae/z.train.pkl", latents, np.zeros_like(latents))
    (results / "all/volumes").mkdir()
    places = rng.uniform(-1, 1, (30, 2)).astype(np.float32)

    def decode(z):
        return assembly([1, 0.5 + 0.5 * z[0], 0.5 + 0.4 * np.sin(z[1])])

    for number, z in enumerate(places):
        write_volume(results / f"all/volumes/vol_{number:03d}.mrc", decode(z), 8.0)
    save_latents(results / "all/volumes/z.pkl", places, places)
    spec, blobs, reader = compared(results)
    assert reader.problems == []
    (model,) = spec["models"]
    assert model["name"] == "network" and "predicts 100 % of the variance" in model["how"]
    assert model["fit"]["worst"] > 0.999 and len(model["deviations"]) == 2
    mean = rows(blobs, model["mean"])[0]
    components, particles = rows(blobs, model["components"]), rows(blobs, model["particles"])
    grid = codec.grid_in(
        (in_page := array(blobs, spec["grid"]["mask"])).reshape((spec["grid"]["edge"],) * 3), 8, 1e9
    )
    assert in_page.sum() == grid.mask.sum()
    (z0, y0, x0), e = spec["grid"]["corner"], spec["grid"]["edge"]
    mask = in_page.reshape((e,) * 3) > 0
    for row in (3, 50):
        truth = decode(latents[row])[z0 : z0 + e, y0 : y0 + e, x0 : x0 + e][mask]
        assert correlation(mean + particles[:, row] @ components, truth) > 0.995


def test_principal_components_rebuild_volumes_and_weights_move_the_mean():
    rng = np.random.default_rng(2)
    volumes = random_volumes(rng)
    weights = rng.uniform(1, 9, len(volumes))
    space = codec.principal(volumes, weights)
    assert space.components.shape == (3, 500)
    np.testing.assert_allclose(space.components @ space.components.T, np.eye(3), atol=1e-4)
    np.testing.assert_allclose(space.mean, np.average(volumes, axis=0, weights=weights), atol=1e-5)
    np.testing.assert_allclose(space.mean + space.coefficients @ space.components, volumes, atol=1e-3)
    fit = codec.agreement(space, space.coefficients, volumes)
    assert 0.9995 < fit.worst <= fit.median <= 1 and 0.995 < fit.worst_difference <= fit.median_difference
    # Components that are not kept are seen in the agreement.
    poor = codec.Space(space.mean, space.components[:1], space.coefficients[:, :1])
    assert codec.agreement(poor, poor.coefficients, volumes).worst_difference < 0.9


def test_equal_volumes_have_no_component():
    space = codec.principal(np.ones((5, 30), np.float32))
    assert space.components.shape == (0, 30)
    np.testing.assert_allclose(codec.rebuilt(space, space.coefficients), 1, atol=1e-4)


def test_interpolation_tells_how_much_it_predicts():
    rng = np.random.default_rng(3)
    latents = rng.normal(size=(80, 2))
    smooth = np.column_stack([np.sin(latents[:, 0]), latents.sum(axis=1)])
    values, predicted = codec.interpolated(smooth, latents, latents)
    np.testing.assert_allclose(values, smooth, atol=1e-4)
    assert predicted > 0.95
    _, of_noise = codec.interpolated(rng.normal(size=(80, 2)), latents, latents)
    assert of_noise < 0.1


@pytest.mark.parametrize("fine", [True, False])
def test_small_integers(fine):
    rng = np.random.default_rng(1)
    blobs, values = Blobs(), rng.normal(size=(3, 200)) * [[1], [100], [0]]
    found = rows(blobs, codec.add_rows(blobs, values, fine))
    step = np.abs(values).max(axis=1, keepdims=True) / (2**15 - 1 if fine else 127)
    assert (np.abs(found - values) <= 0.5001 * step).all()


def test_large_boxes_are_cropped_until_the_mask_fits():
    z, y, x = np.mgrid[:64, :64, :64] - 32
    ball = (z**2 + y**2 + (x - 6) ** 2 < 14**2).astype(np.float32)
    full = codec.grid_in(ball, 3.0, 1e6)
    assert full.box == 64 and len(full.mask) == 27 + 2 * codec.BORDER and full.mask.sum() == ball.sum()
    small = codec.grid_in(ball, 3.0, ball.sum() / 4)
    assert small.box < 64 and small.mask.sum() < 1.2 * ball.sum() / 4
    assert small.pixel_size_A == pytest.approx(3.0 * 64 / small.box)
    smooth = np.exp(-(z**2 + y**2 + (x - 6) ** 2) / 200)
    cropped = crop_fourier(torch.from_numpy(smooth), small.box).numpy()
    (a, b, c), e = small.corner, len(small.mask)
    np.testing.assert_allclose(
        small.take(smooth), cropped[a : a + e, b : b + e, c : c + e][small.mask], rtol=1e-5
    )


def test_damaged_and_foreign_files_are_named_and_skipped(tmp_path):
    results = make_results(tmp_path / "damaged", n=60, rounds=("all",))
    (results / "all/states/state_1.mrc").write_bytes(b"no map")
    write_volume(results / "all/states/state_0.mrc", np.zeros((BOX + 8,) * 3, np.float32), 8.0)
    spec, _, reader = compared(results)
    assert [m["label"] for m in spec["maps"]] == ["Reconstruction", "Half map 1", "Half map 2"]
    assert len(reader.problems) == 2 and "expected 24 x 24 x 24 voxels" in " ".join(reader.problems)
    save_latents(results / "all/linear/z.train.pkl", np.zeros((7, 2)), np.zeros((7, 2)))
    spec, _, reader = compared(results)
    assert spec is None and "one row for each of 60 particles" in " ".join(reader.problems)


@pytest.mark.parametrize("kind", ["one latent unused", "all latents equal", "volumes of equal latents"])
def test_latents_that_do_not_differ_are_no_obstacle(kind):
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(24, 3))
    if kind == "one latent unused":
        latents[:, 2] = 0.5
    elif kind == "all latents equal":
        latents[:] = 1.0
    else:
        latents[12:] = latents[:12]
    coefficients = latents[:, :2] @ np.array([[1.0, 2.0], [0.5, -1.0]])
    found, _ = codec.interpolated(coefficients, latents, latents)
    np.testing.assert_allclose(found, coefficients, atol=1e-5)
