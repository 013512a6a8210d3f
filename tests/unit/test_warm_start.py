"""A round's models start from its parent's: same held-out tilts, same architecture, same axes for display."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from analysis_fakes import run
from training_runs import CPU, train

from tomohet.errors import InputError
from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.linear.held_out import split_tilts
from tomohet.linear.parent import joined_starts, parent_latents
from tomohet.linear.saved_model import SavedModel
from tomohet.model.config_file.reading import read_vae_settings
from tomohet.model.load import read_weights
from tomohet.particles.store import open_store
from tomohet.rounds.config import config_mistakes
from tomohet.rounds.table import with_axes_of_parent
from tomohet.rounds.tree import stage_start
from tomohet.training import vae as training
from tomohet.training.settings import teacher_digest
from tomohet.training.splits import TiltSplit
from tomohet.training.warm_start import WarmStart

CHILD, GRANDCHILD = np.arange(3, 15), np.arange(5, 13, 2)

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def parent(tiny_store, tiny_linear, tmp_path):
    """A trained network of all particles."""
    return train(tiny_store, tmp_path / "parent", "--init", str(tiny_linear))


def indices(folder, particles):
    write_pickle(folder / "chosen.pkl", particles)
    return ("--ind-ptcls", str(folder / "chosen.pkl"))


def warm(parent, tiny_linear):
    return ("--init", str(tiny_linear), "--warm-start", str(parent))


def by_image(split, rows, n_images):
    """The parts of a split, a number for each image of the store: 0 for none of them."""
    found = np.zeros(n_images, int)
    for number, part in enumerate((split.trained, split.judging, split.test), start=1):
        found[rows[part]] = number
    return found


def test_no_tilt_that_trained_the_parent_judges_the_child(tiny_store, tiny_linear, parent, tmp_path):
    store = open_store(tiny_store)
    everyone, n = np.arange(len(store.particles)), len(store.images)
    whole = by_image(TiltSplit.of_store(store, everyone, 1.0, True, 0), store.images_of(everyone), n)
    started = WarmStart.read(parent, store, CHILD, teacher_digest(tiny_linear))
    rows = store.images_of(CHILD)
    own = by_image(started.split(store, CHILD), rows, n)
    assert (own[rows] == whole[rows]).all() and (own == 2).any()
    drawn = by_image(TiltSplit.of_store(store, CHILD, 1.0, True, 0), rows, n)
    assert (whole[drawn == 2] == 1).any()  # a split drawn anew would judge by tilts the parent was trained on

    child = train(tiny_store, tmp_path / "child", *warm(parent, tiny_linear), *indices(tmp_path, CHILD))
    assert read_vae_settings(child / "config.pkl").start.warm == parent.resolve()
    again = WarmStart.read(child, store, GRANDCHILD, teacher_digest(tiny_linear))
    rows = store.images_of(GRANDCHILD)
    assert (by_image(again.split(store, GRANDCHILD), rows, n)[rows] == whole[rows]).all()


def test_the_network_starts_from_the_parent_s_weights(tiny_store, tiny_linear, parent, tmp_path, monkeypatch):
    kept = {}

    def begin(run, *_):
        kept.update(
            {name: value.clone() for name, value in run.model.state_dict().items() if "extra" not in name}
        )
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "begin", begin)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_store, tmp_path / "child", *warm(parent, tiny_linear), *indices(tmp_path, CHILD))
    theirs = read_weights(parent / "weights.pkl")["model_state_dict"]
    assert kept and all(torch.equal(kept[name], theirs[name]) for name in kept)


def test_a_warm_training_has_another_digest_and_is_read_again(tiny_store, tiny_linear, parent, tmp_path):
    child = train(tiny_store, tmp_path / "child", *warm(parent, tiny_linear), *indices(tmp_path, CHILD))
    cold = train(tiny_store, tmp_path / "cold", "--init", str(tiny_linear), *indices(tmp_path, CHILD))
    digests = {read_weights(folder / "checkpoint.pkl")["digest"] for folder in (child, cold)}
    assert len(digests) == 2
    model = ("-w", child / "weights.pkl", "-c", child / "config.pkl")
    run("eval_images", tiny_store, *model, "--out-z", tmp_path / "z.pkl")
    assert (tmp_path / "z.pkl").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dec-dim", "24"), "its network has width 16, found 24 here; a warm start needs the same"),
        (("--zdim", "1"), "its network has zdim 2, found 1 here"),
    ],
)
def test_another_architecture_is_refused(tiny_store, tiny_linear, parent, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        train(tiny_store, tmp_path / "child", *warm(parent, tiny_linear), *options)


def test_particles_that_the_parent_lacks_are_refused(tiny_store, tiny_linear, tmp_path):
    options = ("--init", str(tiny_linear), *indices(tmp_path, CHILD))
    small = train(tiny_store, tmp_path / "small", *options)
    with pytest.raises(InputError, match="trained without .* particles, the first is 0"):
        train(tiny_store, tmp_path / "child", *warm(small, tiny_linear))


def test_another_linear_model_is_refused(tiny_store, tiny_linear, parent, tmp_path):
    run("train_linear", tiny_store, "-o", tmp_path / "other", "--zdim", 2, "-n", 1, "--seed", 5)
    with pytest.raises(InputError, match="started from another linear model than that of --init"):
        train(tiny_store, tmp_path / "child", *warm(parent, tmp_path / "other"))


def test_latents_of_the_parent_are_those_of_its_training_tilts(tiny_store, tiny_linear, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    store = open_store(tiny_store)
    model = SavedModel.read(tiny_linear, store.box)
    tables = model.held_out(store, CHILD, CPU)
    if not tables.b.shape[1]:  # so few particles confirm no component
        assert parent_latents(tiny_linear, store, CHILD) is None
        tables = type(tables)(*(torch.randn(len(CHILD), *shape) for shape in ((2, 2), (2,), (2, 2), (2,))))
        tables = type(tables)(tables.a @ tables.a.mT, tables.b, tables.new_a, tables.new_b)
        monkeypatch.setattr(SavedModel, "held_out", lambda *_: tables)
        assert "it confirms no component; starting from the images instead" in caplog.text
    found = parent_latents(tiny_linear, store, CHILD)
    torch.testing.assert_close(found, tables.used)
    said = f"EM starts from the latents of {tiny_linear} (confirmed components: {found.shape[1]})"
    assert said in caplog.text
    changed = type(tables)(tables.a, tables.b, 5 * tables.new_a, -tables.new_b)  # other held-out tilts
    monkeypatch.setattr(SavedModel, "held_out", lambda *_: changed)
    torch.testing.assert_close(parent_latents(tiny_linear, store, CHILD), found)


def test_a_part_has_the_held_out_tilts_of_the_whole(tiny_store):
    """The linear model's split follows the place in the tilt series, whatever particles are fitted."""
    store = open_store(tiny_store)
    used, *_ = split_tilts(store)
    chosen = np.isin(store.images["particle"], CHILD)
    part, *_ = split_tilts(store.restricted(chosen))
    within = used.images[used.images["particle"].isin(CHILD)]
    assert list(part.images["row"]) == list(within["row"])


def test_a_linear_model_starts_from_its_parent(tiny_store, tiny_linear, tmp_path):
    chosen = indices(tmp_path, CHILD)
    run("train_linear", tiny_store, "-o", tmp_path / "child", "-n", 2, "--warm-start", tiny_linear, *chosen)
    assert (tmp_path / "child" / "weights.pkl").is_file()
    with pytest.raises(InputError, match="fitted without .* particles, the first is 0"):
        run("train_linear", tiny_store, "-o", tmp_path / "more", "-n", 2, "--warm-start", tmp_path / "child")


def test_starts_are_joined_without_repeats():
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(50, 5, generator=generator, dtype=torch.float64))[0]
    basis -= basis.mean(0)
    parent, cold = basis[:, :2], torch.stack([basis[:, 0] + basis[:, 1], basis[:, 2], basis[:, 3]], dim=1)
    joined = joined_starts(parent, cold.float(), 4).double()
    torch.testing.assert_close(joined.T @ joined / 50, torch.eye(4, dtype=torch.float64), atol=1e-5, rtol=0)
    others = joined - basis[:, :4] @ torch.linalg.lstsq(basis[:, :4], joined).solution
    assert others.norm() < 0.05 * joined.norm()  # all four lie in the span of the four that were given


def test_axes_of_the_parent_are_joined_by_particle(tmp_path):
    parent = pd.DataFrame({"particle": [4, 2, 0], "pc1": [0.4, 0.2, 0.0], "umap2": [4.0, 2, 0], "kmeans": 1})
    parent["parent_pc1"] = 9.0  # of the parent's own parent
    write_parquet(tmp_path / "parent.parquet", parent)
    table = with_axes_of_parent(
        pd.DataFrame({"particle": [2, 4], "pc1": [7.0, 8]}), tmp_path / "parent.parquet"
    )
    assert list(table.columns) == ["particle", "pc1", "parent_pc1", "parent_umap2"]
    assert table["parent_pc1"].tolist() == [0.2, 0.4]
    with pytest.raises(InputError, match="particle 3 is missing"):
        with_axes_of_parent(pd.DataFrame({"particle": [3]}), tmp_path / "parent.parquet")


def mistakes(**sections):
    rounds = {"all": sections.pop("root", {}), "a": {"parent": "all", **sections.pop("a", {})}}
    return config_mistakes({"dataset": "d", "rounds": rounds, **sections})


def test_roots_and_other_architectures_are_refused_in_the_configuration():
    start = {"train": {"init": "parent"}, "linear": {"init": "parent"}}
    assert mistakes(a=start) == []
    root = mistakes(root=start)
    assert ["rounds.all.linear.init" in line or "rounds.all.train.init" in line for line in root] == [
        True,
        True,
    ]
    assert all("this round has no parent" in line for line in root)
    (line,) = mistakes(a={"train": {"init": "parent", "dec_dim": 64}})
    assert line.startswith("rounds.a.train.init: parent, but train.dec_dim is 64 here and 512 in all")
    (line,) = mistakes(root={"train": {"init": None, "zdim": 8}}, a={"train": {"init": "parent", "zdim": 8}})
    assert "starts from nothing" in line


def test_a_chain_of_warm_starts_ends_at_the_linear_model_of_its_first_round():
    own = {"train": {"init": "parent"}}
    config = {
        "train": {"init": "linear"},
        "rounds": {
            "all": {},
            "a": {"parent": "all", **own},
            "b": {"parent": "a", **own},
            "c": {"parent": "a"},
        },
    }
    starts = {name: stage_start(config, "train", name) for name in config["rounds"]}
    assert starts == {"all": ("all", None), "a": ("all", "all"), "b": ("all", "a"), "c": ("c", None)}
