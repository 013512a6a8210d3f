"""config.pkl keeps its names and values, which tomoDRGN and older folders share; the rest of the library
works with `model.settings`.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import SMALL, parse

from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.model.config_file.reading import read_particles_of, read_settings, read_vae_settings, settings_of
from tomohet.model.config_file.writing import linear_content, network_content
from tomohet.model.settings import (
    LinearFit,
    LinearSettings,
    Network,
    Start,
    TrainedParticles,
)
from tomohet.model.vae import build_decoder
from tomohet.particles.same_input import Origin
from tomohet.particles.store import open_store
from tomohet.training.settings import decoder_shape, training_settings, vae_network

PACKAGE = Path(__file__).resolve().parents[2] / "workflow" / "tomohet"
PARTICLES = np.array([1, 4, 5, 9])
ODD = (
    "--zdim 3 -n 7 -b 5 --lr 0.002 --wd 0.1 --fraction-train 0.8 --noise-model shells --recon-dose-weight "
    "--recon-tilt-weight --l-dose-mask --max-frequency 0.4 --lr-schedule cosine --lr-warmup 0.1 --beta a "
    "--beta-control 0.5 --no-amp --march 0.3 --rows-per-image 0.5 --pooling-function set_encoder "
    "--num-heads 2 --num-seeds 3 --layer-norm --enc-mask 20 --activation leaky_relu --pe-type geom_ft "
    "--pe-dim 6 --l-extent 0.4 --feat-sigma 0.7 --seed 3 --lazy --sequential-tilt-sampling "
    "--use-first-nptcls 20 --checkpoint 2 --checkpoint-minutes 7 --log-interval 50 --enc-layers-A 1 "
    "--enc-dim-A 16 --out-dim-A 8 --enc-layers-B 2 --enc-dim-B 32 --dec-layers 4 --dec-dim 64"
).split()


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


def vae(store, *options, n_basis=0):
    """Options of train_vae and the settings that follow from them."""
    given = parse("train_vae", store.folder, "out", *options)
    return given, training_settings(given, store, PARTICLES, vae_network(given, 21, n_basis))


def nn(store, *options):
    given = parse("train_nn", store.folder, "out", *options)
    return given, training_settings(given, store, PARTICLES, Network(decoder_shape(given, zdim=0)))


def linear(store):
    fit = LinearFit(0.3, pose_deviation=[0.01, 0.2], tilt_shift_A=1.5, tomograms=["a", "b"])
    particles = TrainedParticles([0, 3], "prepared", Origin("1", ["x"]))
    return LinearSettings(24, 14.0, 2.5, 0, particles, n_basis=4, fit=fit)


def test_content_of_a_training_of_train_vae(store):
    """Every name and value, in order; written out, so that a change of any of them is seen."""
    options, settings = vae(store, *ODD)
    content = network_content(settings, options)
    meta = content.pop("meta")
    expected = {
        "starfile_args": {
            "sourcefile": str(store.folder), "source_software": "auto", "ind_imgs": None, "ind_ptcls": None,
            "sort_ptcl_imgs": "unsorted", "use_first_ntilts": -1, "use_first_nptcls": 20,
        },
        "dataset_args": {
            "datadir": None, "lazy": True, "norm": [0.0, float(store.scale)],
            "invert_data": True in store.description["inverted"],
            "window": store.description["preparation"]["window"], "recon_dose_weight": True,
            "recon_tilt_weight": True, "l_dose_mask": True, "noise_model": "shells",
            "sequential_tilt_sampling": True, "physical_transfer": False, "max_frequency": 0.4,
            "march": 0.3, "rows_per_image": 0.5, "fraction_train": 0.8,
        },
        "lattice_args": {"boxsize": 25, "extent": 0.4, "ignore_DC": True},
        "model_args": {
            "kind": "vae", "encoder": "tilts", "qlayersA": 1, "qdimA": 16, "out_dimA": 8, "ntilts": 21,
            "qlayersB": 2, "qdimB": 32, "enc_mask": 20, "pooling_function": "set_encoder", "num_seeds": 3,
            "num_heads": 2, "layer_norm": True, "n_basis": 0, "zdim": 3, "players": 4, "pdim": 64,
            "activation": "leaky_relu", "pe_type": "geom_ft", "pe_dim": 6, "feat_sigma": 0.7,
            "l_extent": 0.4, "hermitian": True,
        },
        "training_args": {
            "n": 7, "until": "epochs", "B": 5, "wd": 0.1, "lr": 0.002, "lr_schedule": "cosine",
            "lr_warmup": 0.1, "beta": "a", "beta_control": 0.5, "amp": False, "multigpu": False,
            "verbose": False, "log_interval": 50, "checkpoint": 2, "checkpoint_minutes": 7.0,
            "outdir": "out", "load": None, "init": None,
            "init_digest": None,
        },
        "seed": 3, "angpix": float(store.pixel_size_A), "scale": float(store.scale),
        "store": str(store.folder), "store_digest": store.digest,
        "input_digests": sorted(store.description["inputs"].values()), "particles": [1, 4, 5, 9],
    }  # fmt: skip
    assert content == expected
    assert [(name, list(part)) for name, part in content.items() if isinstance(part, dict)] == [
        (name, list(part)) for name, part in expected.items() if isinstance(part, dict)
    ]
    assert list(content) == list(expected) and list(meta) == ["time", "cmd", "version"]


def test_content_of_a_training_of_train_nn(store):
    options, settings = nn(store, "--layers", "2", "--dim", "32", "--verbose")
    content = network_content(settings, options)
    assert content["model_args"] == {
        "kind": "nn", "zdim": 0, "players": 2, "pdim": 32, "activation": "relu", "pe_type": "gaussian",
        "pe_dim": None, "feat_sigma": 0.5, "l_extent": 0.5, "hermitian": True,
    }  # fmt: skip
    assert (content["training_args"]["beta"], content["training_args"]["log_interval"]) == (None, 1)
    assert content["dataset_args"]["fraction_train"] == 1.0


def test_content_of_a_linear_model(store):
    settings = linear(store)
    asked = {"iterations": 3, "max_frequency": 0.3, "seed": 5, "refine_poses": False}
    content = linear_content(settings, settings.fit, asked, "particles.star")
    assert content == {
        "starfile_args": {"sourcefile": "particles.star"}, "dataset_args": {"norm": [0.0, 2.5]},
        "lattice_args": {"boxsize": 25, "extent": 0.5, "ignore_DC": True},
        "model_args": {"kind": "linear", "zdim": 4}, "training_args": asked, "seed": 0, "angpix": 14.0,
        "scale": 2.5, "pose_deviation": [0.01, 0.2], "tilt_shift_A": 1.5, "store": "prepared",
        "store_digest": "1", "input_digests": ["x"], "particles": [0, 3], "tomograms": ["a", "b"],
    }  # fmt: skip
    assert settings_of(content, "config.pkl") == settings


@pytest.mark.parametrize("make", [vae, nn])
def test_settings_are_read_back(store, make):
    start = Start(Path("/linear"), "digest", Path("/poses.parquet"), "other digest")
    options, settings = make(store, *(("--zdim", "2") if make is vae else ()))
    for changed in (settings, replace(settings, start=start)):
        assert settings_of(network_content(changed, options), "config.pkl") == changed


def test_settings_of_every_option_are_read_back(store):
    options, settings = vae(store, *ODD, n_basis=2)
    assert settings_of(network_content(settings, options), "config.pkl") == settings


def test_an_earlier_file_is_read(store):
    """Before --init, --poses, --max-frequency and the digests of the input were recorded."""
    options, settings = vae(store, *SMALL)
    content = network_content(settings, options)
    for name in ("encoder", "n_basis"):
        del content["model_args"][name]
    for name in ("max_frequency", "march", "rows_per_image", "physical_transfer", "noise_model"):
        del content["dataset_args"][name]
    for name in ("init", "init_digest"):
        del content["training_args"][name]
    del content["store_digest"], content["input_digests"]
    read = settings_of(content, "config.pkl")
    assert read == replace(settings, particles=replace(settings.particles, origin=Origin()))


def test_a_linear_model_of_an_earlier_version_has_volumes_only(store):
    settings = linear(store)
    content = linear_content(settings, settings.fit, {}, "particles.star")
    del content["pose_deviation"]
    assert settings_of(content, "config.pkl") == replace(settings, fit=None)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("training_args", "init", 3), ("training_args", "poses", ["a"]), ("dataset_args", "max_frequency", 3),
     ("dataset_args", "max_frequency", "half"), ("model_args", "qdimA", 0),
     ("lattice_args", "boxsize", None)],
)  # fmt: skip
def test_impossible_values_name_their_entry(store, tmp_path, section, name, value):
    options, settings = vae(store, *SMALL)
    content = network_content(settings, options)
    content[section][name] = value
    write_pickle(tmp_path / "config.pkl", content)
    with pytest.raises(InputError, match=rf"{section}: {name} is .*, expected"):
        read_settings(tmp_path / "config.pkl")


def test_a_model_without_an_encoder_is_named(store, tmp_path):
    options, settings = nn(store)
    write_pickle(tmp_path / "config.pkl", network_content(settings, options))
    with pytest.raises(InputError, match="config.pkl: this model has no encoder"):
        read_vae_settings(tmp_path / "config.pkl")


def test_particles_are_read_from_any_file(tmp_path):
    write_pickle(tmp_path / "config.pkl", {})
    assert read_particles_of(tmp_path / "config.pkl") == TrainedParticles()
    write_pickle(tmp_path / "config.pkl", {"particles": [2, 3], "store": "s", "store_digest": "d"})
    read = read_particles_of(tmp_path / "config.pkl")
    assert read == TrainedParticles([2, 3], "s", Origin("d"))
    np.testing.assert_array_equal(read.ordinals(), [2, 3])


def test_only_one_package_knows_the_names_of_the_file():
    words = re.compile(
        r"""["'](dataset_args|lattice_args|model_args|training_args|starfile_args|angpix|boxsize|players|"""
        r"""pdim|qlayers[AB]|qdim[AB]|out_dimA|ntilts|pe_dim|l_extent|init_digest)["']"""
    )
    found = {
        f"{path.relative_to(PACKAGE)}: {match}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "config_file"
        for match in words.findall(path.read_text())
    }
    assert not found


def test_a_homogeneous_network_of_one_seed_has_one_start(store):
    shape = nn(store, "--dim", "8")[1].network.decoder
    first, again, other = (build_decoder(24, shape, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = next(name for name in first if name.endswith("weight"))
    assert not torch.equal(first[name], other[name])
