"""Runs of tomoDRGN 1.0 opened by our commands, against the numbers that it computed itself."""

import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from tomohet.errors import InputError
from tomohet.files.mrc import read_volume
from tomohet.files.pickles import load_latents, load_pickles, save_latents
from tomohet.model.config_file.tomodrgn import mask_diameter, original_particles
from tomohet.model.imported import import_run

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/vae8_10076_model.npz")


@pytest.fixture(scope="module")
def published(shared, golden, tmp_path_factory):
    """A run's folder as tomoDRGN leaves it."""
    folder = tmp_path_factory.mktemp("published")
    for name in ("config.pkl", "weights.pkl"):
        shutil.copy(shared / "golden/ckpt_vae8_10076" / name, folder)
    shutil.copy(folder / "weights.pkl", folder / "weights.39.pkl")
    for name in ("z.train.pkl", "z.39.train.pkl"):
        save_latents(folder / name, golden["z_mu_all_sequential"], golden["z_logvar_all_sequential"])
    return folder


@pytest.fixture(scope="module")
def imported(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    import_run(published, folder)
    return folder


def test_volumes_are_those_of_the_published_program(imported, golden, tmp_path, run_script):
    points = tmp_path / "z.txt"
    np.savetxt(points, golden["evalvol_z"])
    run_script("eval_vol", "--workdir", imported, "--zfile", points, "-o", tmp_path / "volumes")
    for number, expected in enumerate(golden["evalvol_real32"]):
        volume, pixel_size_A = read_volume(tmp_path / f"volumes/vol_{number:03d}.mrc")
        assert np.abs(volume - expected).max() < 1e-4 * np.abs(expected).max()
        assert pixel_size_A == pytest.approx(13.1)


def test_volumes_on_fewer_voxels_are_the_same_maps(imported, golden):
    from tomohet.model.load import load_model

    model = load_model(imported / "weights.pkl", imported / "config.pkl")
    z = torch.from_numpy(golden["evalvol_z"])
    whole, small = np.fft.fftn(model.volumes(z)[0]), np.fft.fftn(model.volumes(z, 16)[0])
    low = np.fft.fftfreq(16, 1 / 16).astype(int)
    low = low[np.abs(low) < 4]  # well inside both balls
    assert np.allclose(whole[np.ix_(low, low, low)] / 32**3, small[np.ix_(low, low, low)] / 16**3, atol=1e-6)


def test_latents_of_images_are_those_of_the_published_network(shared, imported, golden, tmp_path, run_script):
    star = shared / "data/tomodrgn-tests/10076_both_32_sim.star"
    store = tmp_path / "store"
    run_script("prepare", star, "-o", store, "--norm", "0", "177.13095", "--uninvert-data")
    files = ["--weights", imported / "weights.pkl", "--config", imported / "config.pkl"]
    run_script("eval_images", store, *files, "--out-z", tmp_path / "z.pkl")
    mu, logvar = load_latents(tmp_path / "z.pkl")
    np.testing.assert_allclose(mu, golden["z_mu_all_sequential"], atol=2e-5)
    np.testing.assert_allclose(logvar, golden["z_logvar_all_sequential"], atol=2e-5)


def test_other_normalisation_is_refused(shared, imported, tmp_path, run_script):
    star = shared / "data/tomodrgn-tests/10076_both_32_sim.star"
    run_script("prepare", star, "-o", tmp_path / "store", "--use-first-nptcls", 3)
    files = ["--weights", imported / "weights.pkl", "--config", imported / "config.pkl"]
    done = run_script("eval_images", tmp_path / "store", *files, "--out-z", tmp_path / "z.pkl", check=False)
    assert done.returncode == 1
    assert "--norm 0 177.131 --uninvert-data" in done.stderr.splitlines()[-1]


def test_analysis_and_selection_accept_the_run(imported, tmp_path, run_script):
    outdir = tmp_path / "analyze"
    run_script("analyze", imported, "-o", outdir, "--ksample", 4, "--pc", 1, "--skip-umap", "--skip-vol")
    table = pd.read_parquet(outdir / "particles.parquet")
    assert list(table["particle"]) == list(range(144))
    chosen = tmp_path / "chosen.pkl"
    run_script("select", outdir / "particles.parquet", "--query", "kmeans in [0, 1]", "-o", chosen)
    expected = table.loc[table["kmeans"].isin([0, 1]), "particle"]
    assert list(load_pickles(chosen)[0]) == list(expected)


def test_configuration_holds_plain_values_only(imported):
    def check(value):
        assert type(value) in (dict, list, str, int, float, bool, type(None)), type(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(item)

    with open(imported / "config.pkl", "rb") as file:
        check(pickle.load(file))


class Malicious:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["config.pkl", "weights.pkl", "z.train.pkl"])
def test_code_in_a_run_is_never_executed(published, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(published, run)
    trace = tmp_path / "executed"
    if name == "weights.pkl":
        torch.save({"model_state_dict": Malicious(trace)}, run / name)
    else:
        (run / name).write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        import_run(run, tmp_path / "out")
    assert not trace.exists()
    assert not (tmp_path / "out/config.pkl").exists()


def test_mistakes_are_one_line(published, tmp_path):
    with pytest.raises(InputError, match="no such pickle file"):
        import_run(tmp_path, tmp_path / "out")
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(published / "config.pkl", run)
    with pytest.raises(InputError, match="no weights"):
        import_run(run, tmp_path / "out")
    with pytest.raises(InputError, match="another folder"):
        import_run(published, published)


@pytest.mark.parametrize("diameter", [33, 25, 10])
def test_diameter_of_a_mask_is_found_again(tmp_path, diameter):
    k = np.arange(33) - 16
    radius = np.hypot(*np.meshgrid(k, k))
    mask = (radius <= (diameter - 1) / 2) & (radius > 0)
    from tomohet.model.encoder import encoder_points
    from tomohet.physics.lattice import half_plane

    found = mask_diameter(mask.ravel(), 32, tmp_path)
    assert 2 * encoder_points(half_plane(32), found) == mask.sum()
    mask[16, 18] = False
    with pytest.raises(InputError, match="not a disc"):
        mask_diameter(mask.ravel(), 32, tmp_path)


def test_numbers_of_filtered_particles(tmp_path):
    none = {"ind_ptcls": None, "ind_imgs": None, "use_first_ntilts": -1, "use_first_nptcls": -1}
    assert original_particles(none, tmp_path, 3) == [0, 1, 2]
    assert original_particles(none | {"ind_ptcls": np.array([7, 2, 5])}, tmp_path, 3) == [2, 5, 7]
    with pytest.raises(InputError, match="3 particles"):
        original_particles(none | {"ind_ptcls": [7, 2, 5]}, tmp_path, 4)
    with pytest.raises(InputError, match="copy it"):
        original_particles(none | {"use_first_ntilts": 5}, tmp_path, 3)
    (tmp_path / "p_tomodrgn_preprocessed.star").write_text(
        "data_\n\nloop_\n_rlnGroupName #1\n__UnfilteredParticleInds #2\na 4\na 4\nb 9\nb 9\n".replace(
            "__Unf", "_Unf"
        )
    )
    filtered = none | {"use_first_ntilts": 2, "sourcefile_filtered": "old/p_tomodrgn_preprocessed.star"}
    assert original_particles(filtered, tmp_path, 2) == [4, 9]
