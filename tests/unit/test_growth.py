"""Memory grows with the number of particles by no more than one copy of their tables, ten times grown."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow
import pytest

from tomohet.analysis import chunks, latent, volume_space
from tomohet.analysis.latent_drift import shifts
from tomohet.files import atomic, star, tables
from tomohet.files.atomic import write_parquet
from tomohet.files.mrc import write_stack, write_volume
from tomohet.particles import table
from tomohet.particles.dialects import read_particles, series_columns
from tomohet.particles.store_files import CHECKSUM, IMAGES, read_images
from tomohet.particles.table import IMAGE_COLUMNS

TILTS, AT_ONCE = 40, 2_000
PARTICLES = (100, 1_000)


def growth(work, sizes: tuple[int, int]) -> float:
    """Bytes that the peak of `work(size)` grows by for each row: memory of Python, numpy and Arrow."""
    peaks = []
    usual = pyarrow.default_memory_pool()
    for size in sizes:
        counted = pyarrow.proxy_memory_pool(pyarrow.system_memory_pool())
        pyarrow.set_memory_pool(counted)
        tracemalloc.start()
        try:
            kept = work(size)
            peaks.append(tracemalloc.get_traced_memory()[1] + counted.max_memory())
            del kept
        finally:
            tracemalloc.stop()
            pyarrow.set_memory_pool(usual)
    return (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])


def series(folder, particles: int):
    """An image series of so many particles in one stack; returns its STAR file."""
    n = particles * TILTS
    particle, tilt = np.divmod(np.arange(n), TILTS)
    rng = np.random.default_rng(0)
    columns = {
        "rlnImageName": [f"{i + 1:07d}@all_images_of_the_dataset.mrcs" for i in range(n)],
        "rlnGroupName": [f"TS_001_{p:07d}" for p in particle],
        "rlnMicrographName": "TS_001.tomostar",
        "rlnCtfBfactor": -12.0 * tilt,
        "rlnCtfScalefactor": np.cos(np.radians(1.5 * tilt)).round(4),
    }
    for name in ("AngleRot", "AngleTilt", "AnglePsi", "DefocusU", "DefocusV", "DefocusAngle"):
        columns[f"rln{name}"] = rng.uniform(100, 170, n).round(4)
    columns |= {"rlnVoltage": 300.0, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.07}
    rows = pd.DataFrame(columns | {"rlnImagePixelSize": 8.0})
    path = folder / f"{particles}.star"
    head = "data_\n\nloop_\n" + "".join(f"_{name}\n" for name in rows)
    path.write_text(head + rows.to_csv(sep=" ", header=False, index=False))
    return path


def test_a_particle_file_is_held_once(tmp_path, monkeypatch):
    monkeypatch.setattr(star, "AT_ONCE", 100_000)
    monkeypatch.setattr(star, "ROWS_OF_A_PIECE", AT_ONCE)
    monkeypatch.setattr(series_columns, "NAMES_AT_ONCE", AT_ONCE)
    monkeypatch.setattr(table, "ROTATIONS_AT_ONCE", AT_ONCE)
    write_stack(
        tmp_path / "all_images_of_the_dataset.mrcs", np.zeros((TILTS * PARTICLES[1], 2, 2), np.float32), 8.0
    )
    files = {count * TILTS: series(tmp_path, count) for count in PARTICLES}
    per_image = growth(lambda images: read_particles(files[images]), tuple(files))
    assert per_image < 650, per_image  # text and table of the file, or this table and that of the images


def test_pieces_of_a_particle_file_are_the_whole(tmp_path, monkeypatch):
    path = series(tmp_path, 20)
    text = path.read_text().splitlines()
    mixed = [f"{row} {i if i < 500 else i / 2} {i if i % 700 else 'x'}" for i, row in enumerate(text[18:])]
    path.write_text("\n".join([*text[:18], "_rlnWholeThenNot", "_rlnMostlyNumbers", *mixed]))
    whole = star.read_star(path)[""]
    assert whole["rlnMostlyNumbers"].dtype == "str" and whole["rlnWholeThenNot"].dtype == np.float64
    monkeypatch.setattr(star, "AT_ONCE", 0)
    monkeypatch.setattr(star, "ROWS_OF_A_PIECE", 100)
    pd.testing.assert_frame_equal(star.read_star(path)[""], whole)
    path.write_text(path.read_text() + " 3 4")
    with pytest.raises(star.InputError, match="has 19 values, expected 17"):
        star.read_star(path)


def images_table(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=n) for name in (*IMAGE_COLUMNS, "noise_scale")}
    columns |= dict.fromkeys(("ctf_premultiplied", "dose_weighted"), np.zeros(n, bool))
    columns |= {name: np.arange(n) for name in ("image", "particle", "tilt", "section", "row")}
    columns["stack"] = pd.Categorical.from_codes(np.arange(n) // 1000, [f"stack {i}" for i in range(100)])
    return pd.DataFrame(columns | {CHECKSUM: np.arange(n, dtype=np.uint32)})


def test_a_store_s_table_of_images_is_held_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", AT_ONCE)
    sizes = (8_000, 80_000)
    for n in sizes:
        write_parquet(tmp_path / str(n) / IMAGES, images_table(n))
    own = images_table(sizes[1]).memory_usage().sum() / sizes[1]
    per_image = growth(lambda n: read_images(tmp_path / str(n), n), sizes)
    assert own - 10 < per_image < own + 80, (per_image, own)
    read = read_images(tmp_path / str(sizes[0]), sizes[0])
    written = images_table(sizes[0])
    np.testing.assert_array_equal(read.checksums, written.pop(CHECKSUM))
    pd.testing.assert_frame_equal(read.table, written, check_categorical=False)


def test_images_of_some_particles_take_their_own_memory_alone(tmp_path, monkeypatch):
    """A hundred particles of a store that grows tenfold: only a number and a checksum of each image grow."""
    monkeypatch.setattr(atomic, "ROWS_OF_A_GROUP", AT_ONCE)
    sizes, wanted = (8_000, 80_000), np.arange(100) * 70
    for n in sizes:
        write_parquet(tmp_path / str(n) / IMAGES, images_table(n))
    per_image = growth(lambda n: read_images(tmp_path / str(n), n, wanted), sizes)
    assert per_image < 40, per_image
    read = read_images(tmp_path / str(sizes[0]), sizes[0], wanted)
    written = images_table(sizes[0])
    np.testing.assert_array_equal(read.checksums, written.pop(CHECKSUM))
    np.testing.assert_array_equal(read.rows, wanted)
    expected = written.iloc[wanted].reset_index(drop=True).assign(image=np.arange(100))
    pd.testing.assert_frame_equal(read.table, expected, check_categorical=False)


def test_latents_of_many_particles_are_held_in_single_precision(monkeypatch):
    dims, sizes = 8, (4_000, 40_000)
    for module in (chunks, latent):
        monkeypatch.setattr(module, "ROWS", 2_000)

    def latents(n, epoch):
        return np.random.default_rng(epoch).standard_normal((n, dims), np.float32)

    z = latents(sizes[1], 0)
    latent.principal_components(z[:100])  # loads its library
    per_particle = growth(lambda n: latent.principal_components(z[:n]), sizes)
    assert per_particle < 1.5 * 4 * dims, per_particle  # the scores
    run = [SimpleNamespace(latents=lambda epoch, n=n: (latents(n, epoch), None)) for n in sizes]
    of = dict(zip(sizes, run, strict=True))
    per_particle = growth(lambda n: shifts(of[n], [0, 1, 2]), sizes)
    assert per_particle < 3 * 4 * dims + 16 * 8, per_particle  # latents of three epochs, some numbers


def test_components_of_many_particles_are_those_of_few(monkeypatch):
    z = np.random.default_rng(0).normal(size=(900, 5)).astype(np.float32) @ np.diag([5, 3, 2, 1, 0.5])
    whole = latent.principal_components(z)
    monkeypatch.setattr(latent, "ROWS", 100)
    parts = latent.principal_components(z)
    for name in ("scores", "axes", "mean", "explained"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-4)


def test_umap_is_fitted_to_landmarks_only(monkeypatch):
    import umap

    rng = np.random.default_rng(2)
    kind = rng.integers(0, 3, 900)
    z = (6 * np.eye(3, 4)[kind] + rng.normal(0, 0.4, (900, 4))).astype(np.float32)
    fitted, fit = [], umap.UMAP.fit_transform
    monkeypatch.setattr(umap.UMAP, "fit_transform", lambda self, x: fitted.append(len(x)) or fit(self, x))
    monkeypatch.setattr(latent, "LANDMARKS", 300)
    monkeypatch.setattr(latent, "PLACED_TOGETHER", 250)
    found = latent.umap_embedding(z, 0)
    assert fitted == [300] and np.isfinite(found).all()
    landmark = np.zeros(len(z), bool)
    landmark[np.random.default_rng(0).choice(len(z), 300, replace=False)] = True
    distance = np.linalg.norm(found[:, None] - found[None, landmark], axis=2)
    assert (kind[landmark][distance.argmin(1)] == kind).mean() > 0.99
    np.testing.assert_array_equal(latent.umap_embedding(z, 0), found)


def test_many_volumes_are_compared_by_some_of_them(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    mean, first, second = rng.normal(size=(3, 8, 8, 8))
    amounts = rng.normal(size=(40, 2)) * (5, 3)
    for number, (one, two) in enumerate(amounts):
        volume = (mean + one * first + two * second).astype(np.float32)
        write_volume(tmp_path / f"vol_{number:03d}.mrc", volume, 4.0)
    volumes = volume_space.find_volumes(tmp_path)
    centre, _ = volume_space.mean_and_highest(volumes)
    monkeypatch.setattr(volume_space, "MOST_COMPARED", 15)
    found = volume_space.components(volumes, centre, np.ones_like(centre), 6, 1)
    assert found.scores.shape == (40, 6) and len(found.axes) == 1
    apart = np.linalg.norm(found.scores[:, None] - found.scores[None], axis=2)
    shift = (amounts[:, None] - amounts[None]) @ np.stack([first, second]).reshape(2, -1)
    np.testing.assert_allclose(apart, np.linalg.norm(shift, axis=2), atol=1e-3 * apart.max())
