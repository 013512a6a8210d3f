"""The order of rows in the input file permutes the results and changes nothing else."""

import numpy as np
import pandas as pd
import pytest

from tomohet.files.pickles import load_latents
from tomohet.files.star import read_star, write_star

VAE = (
    "--zdim 2 -n 2 -b 4 --dec-dim 16 --dec-layers 1 --enc-dim-A 16 --out-dim-A 8 --enc-dim-B 16 --pe-dim 3"
).split()


@pytest.fixture(scope="module")
def stores(tiny, tiny_store, tmp_path_factory, run_script):
    """The store of the tiny dataset, and that of the same file with all its rows shuffled."""
    shuffled = tmp_path_factory.mktemp("shuffled") / "particles.star"
    ((block, table),) = read_star(tiny / "particles.star").items()
    write_star(shuffled, {block: table.sample(frac=1, random_state=0)})
    store = shuffled.parent / "prepared"
    run_script("prepare", shuffled, "--datadir", tiny, "-o", store)
    return tiny_store, store


def latents_by_name(run_script, command, store, folder, options):
    run_script(command, store, "-o", folder, *options)
    names = pd.read_parquet(store / "particles.parquet")["source_id"]
    mu, logvar = load_latents(folder / "z.train.pkl")
    return pd.DataFrame(np.hstack([mu, logvar]), index=names)


@pytest.mark.parametrize(
    ("command", "options"), [("train_vae", VAE), ("train_linear", ["--zdim", "2", "-n", "2"])]
)
def test_shuffled_rows_permute_the_latents(stores, tmp_path, run_script, command, options):
    plain, shuffled = (
        latents_by_name(run_script, command, store, tmp_path / str(number), options)
        for number, store in enumerate(stores)
    )
    assert list(plain.index) != list(shuffled.index)
    np.testing.assert_allclose(
        shuffled.loc[plain.index], plain, rtol=1e-3, atol=1e-3 * plain.abs().max().max()
    )
