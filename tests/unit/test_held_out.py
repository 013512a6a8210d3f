"""The verdict on a network from held-out tilt images, as a training writes it."""

import json

import numpy as np
import pandas as pd
import pytest

from tomohet.files.pickles import load_latents, load_pickles
from tomohet.training.held_out import judged, verdict, write_held_out_figure

SMALL = "-n 3 -b 8 --dec-dim 16 --dec-layers 1 --pe-dim 3 --lr 0.001 --march 0.4".split()


def row(gain=1194.0, error=76.0, share=1.0, **latents) -> dict:
    return {
        "epoch": 0,
        "share_of_network": share,
        "gain_of_decoder": gain,
        "error_of_decoder": error,
    } | latents


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (row(), "better than the linear model's (by 1194 ± 76 nats); latents are the linear model's, "),
        (row(40.0, 30.0, 0.3), "not significantly better than the linear model's (40 ± 30 nats)"),
        (row(40.0, 30.0, 0.3), "nats); the network's contribution was scaled by 0.3;"),
        (row(gain_of_latents=12.4, error_of_latents=3.0), "; latents are the network's, which predict"),
        (row(gain_of_latents=2.0, error_of_latents=3.0), "latents are the linear model's, because"),
        (
            row(gain_of_latents=-5.0, error_of_latents=3.0),
            "because the network's predict these images not significantly better (-5 ± 3",
        ),
    ],
)
def test_verdict_in_words(last, expected):
    assert expected in verdict(pd.DataFrame([row(-1.0, 9.0), last]))


def test_latents_count_as_they_were_judged_last():
    history = [
        row(gain_of_latents=-5.0, error_of_latents=3.0),
        row(gain_of_latents=8.0, error_of_latents=3.0),
    ]
    table = pd.DataFrame([*history, row()])
    assert judged(table, "latents")["gain"].tolist() == [-5.0, 8.0]
    assert "latents are the network's" in verdict(table)


def test_figure_of_a_training_whose_latents_were_never_judged(tmp_path):
    write_held_out_figure(tmp_path, [row()], "png")
    assert (tmp_path / "held_out.png").stat().st_size > 1000


@pytest.fixture(scope="module")
def taught(tiny_store, tmp_path_factory, run_script):
    folder = tmp_path_factory.mktemp("taught")
    run_script("train_linear", tiny_store, "-o", folder / "linear", "--zdim", 3, "-n", 2)
    run_script("train_vae", tiny_store, "-o", folder / "vae", "--init", folder / "linear", *SMALL)
    return folder / "vae"


def test_a_taught_network_has_as_many_latents_as_basis_maps_and_no_encoder(taught):
    config = load_pickles(taught / "config.pkl")[0]
    assert (config["model_args"]["zdim"], config["model_args"]["encoder"]) == (3, "free")
    assert load_latents(taught / "z.train.pkl")[0].shape[1] == 3


def test_a_taught_training_leaves_table_figure_and_verdict(taught):
    table = pd.read_csv(taught / "held_out.csv")
    np.testing.assert_array_equal(table["epoch"], [0, 1, 2])
    said = json.loads((taught / "summary.json").read_text())["verdict"]
    assert said == verdict(table)
    assert f"verdict: {said}" in (taught / "run.log").read_text()
    assert (taught / "held_out.png").is_file()
