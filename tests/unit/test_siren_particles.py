"""How much of a block is on in every particle, beside its own volume."""

import json

import numpy as np
import pandas as pd
import pytest

from tomohet.analysis.ensemble import open_ensemble
from tomohet.files.atomic import write_pickle
from tomohet.files.grids import write_on_grid
from tomohet.files.pickles import load_latents

VOLUMES = 40


@pytest.fixture(scope="module")
def decoded(tiny_linear, tmp_path_factory, run_script):
    """Volumes of the first particles and of latents spread as theirs are; how many of either."""
    folder = tmp_path_factory.mktemp("decoded")
    z, _ = load_latents(tiny_linear / "z.train.pkl")
    drawn = np.random.default_rng(1).permutation(VOLUMES) / VOLUMES
    spread = np.quantile(z, drawn, axis=0)
    own = min(10, len(z))
    write_pickle(folder / "z.pkl", np.concatenate([z[:own], spread]).astype(np.float32))
    run_script(
        "eval_vol",
        "--workdir",
        tiny_linear,
        "--epoch",
        -1,
        "--zfile",
        folder / "z.pkl",
        "-o",
        folder / "maps",
    )
    return folder / "maps", own, len(z)


def with_block(volumes, folder):
    """A block drawn where the volumes differ most, and the level that half of the volumes reach there."""
    ensemble = open_ensemble(volumes)
    maps = np.concatenate([batch for _, batch in ensemble.batches("test")])
    place = np.unravel_index(maps.std(axis=0).argmax(), ensemble.grid.shape)
    away = np.indices(ensemble.grid.shape) - np.reshape(place, (3, 1, 1, 1))
    ball = np.linalg.norm(away, axis=0) < 2.5
    write_on_grid(folder / "block_3.mrc", ball.astype(np.float32), ensemble.grid)
    return float(np.median(maps[:, ball].mean(axis=1)))


def test_a_particle_has_the_state_of_its_own_volume(decoded, tiny_linear, tmp_path, run_script):
    volumes, own, n = decoded
    level = with_block(volumes, tmp_path / "drawn")
    run_script(
        "siren", "--volumes", volumes, "--blocks", tmp_path / "drawn", "--level", level, "--weights", "equal",
        "--workdir", tiny_linear, "--epoch", -1, "-o", tmp_path / "out",
    )  # fmt: skip
    of_each = pd.read_parquet(tmp_path / "out" / "particles.parquet")
    of_volumes = pd.read_parquet(tmp_path / "out" / "volumes.parquet")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(of_each) == ["particle", "siren_3"]
    assert len(of_each) == n and of_each.particle.is_monotonic_increasing
    assert of_each.siren_3.between(0, 1).all() and of_each.siren_3.max() - of_each.siren_3.min() > 0.2
    misfit = summary["particles"]["rms_misfit_of_volumes"]["siren_3"]
    assert misfit < 0.15
    difference = of_each.siren_3[:own] - of_volumes.siren_3[:own]
    assert np.sqrt((difference**2).mean()) < 2 * misfit + 0.02


def test_without_blocks_the_table_of_particles_has_no_columns(decoded, tiny_linear, tmp_path, run_script):
    volumes, _, n = decoded
    run_script(
        "siren", "--volumes", volumes, "--level", 1e6, "--workdir", tiny_linear, "--epoch", -1,
        "-o", tmp_path / "out",
    )  # fmt: skip
    of_each = pd.read_parquet(tmp_path / "out" / "particles.parquet")
    assert list(of_each) == ["particle"] and len(of_each) == n
    # A run without a model leaves no table of another run's particles.
    run_script("siren", "--volumes", volumes, "--level", 1e6, "-o", tmp_path / "out")
    assert not (tmp_path / "out" / "particles.parquet").exists()


def test_volumes_of_another_form_are_refused(decoded, tiny_linear, tmp_path, run_script):
    volumes, _, _ = decoded
    level = with_block(volumes, tmp_path / "drawn")
    done = run_script(
        "siren", "--volumes", volumes, "--blocks", tmp_path / "drawn", "--level", level,
        "--workdir", tiny_linear, "--epoch", -1, "--flip", "-o", tmp_path / "out", check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "--flip" in done.stderr and "Traceback" not in done.stderr
