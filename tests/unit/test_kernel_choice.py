"""The choice of kernels by their time is kept with a checkpoint: a continued run computes in the same way."""

import logging

import pytest
import torch
from interpreted import DEVICE
from training_runs import train

from tomohet.model.kernels import choice, chosen
from tomohet.model.load import read_weights

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.setattr(chosen, "_names", {})


@pytest.fixture
def product(monkeypatch):
    """Compute a gradient where a named way is the fastest; return the way used, and the number of trials."""
    used, tried = [], []

    def way(name):
        return lambda *arguments: used.append(name)

    monkeypatch.setattr(choice, "WAYS", {name: way(name) for name in (choice.FIRST, "tiles", "others")})
    monkeypatch.setattr(choice, "_can_try", lambda out: True)

    def computed(fastest, rows=40):
        monkeypatch.setattr(choice, "fastest", lambda arguments: tried.append(fastest) or (fastest, {}))
        lower = torch.zeros(rows, 24, device=DEVICE)
        weight = torch.zeros(16, 24, device=DEVICE)
        choice.lower_gradient(lower[:, :16], weight, lower, 0.0, torch.empty_like(lower), True)
        return used[-1], len(tried)

    return computed


def test_a_shape_is_tried_once(product):
    assert product("tiles") == ("tiles", 1)
    assert product("others") == ("tiles", 1)
    assert product("others", rows=4000) == ("others", 2)


def test_a_continued_run_takes_the_recorded_way_whatever_is_timed_then(product, monkeypatch):
    product("tiles")
    recorded = chosen.record(CPU)
    chosen._names.clear()
    chosen.take(recorded, CPU)
    assert product("others") == ("tiles", 1)


def test_another_machine_tries_anew_and_says_so(product, caplog):
    product("tiles")
    recorded = chosen.record(CPU) | {"machine": "a card with another PyTorch"}
    chosen._names.clear()
    with caplog.at_level(logging.INFO, chosen.log.name):
        chosen.take(recorded, CPU)
    assert "a card with another PyTorch" in caplog.text
    assert product("others") == ("others", 2)


def test_a_way_that_is_no_more_is_chosen_anew(product):
    product("tiles")
    recorded = chosen.record(CPU)
    recorded["ways"] = dict.fromkeys(recorded["ways"], "of an older version")
    chosen.take(recorded, CPU)
    assert product("others") == ("others", 2)


def test_a_checkpoint_holds_the_choice_and_gives_it_back(tiny_store, tmp_path):
    shape = ("torch.bfloat16", 512, 512, 17, True)
    chosen.choose(shape, "tiles of 64 x 128")
    folder = train(tiny_store, tmp_path / "run", "--num-epochs", "1")
    expected = {"machine": f"a CPU with PyTorch {torch.__version__}", "ways": {shape: "tiles of 64 x 128"}}
    assert read_weights(folder / "checkpoint.pkl")["kernels"] == expected
    chosen._names.clear()
    train(tiny_store, folder, "--num-epochs", "2")
    assert chosen.chosen(shape) == "tiles of 64 x 128"


def test_a_checkpoint_of_an_older_version_has_none(tiny_store, tmp_path):
    folder = train(tiny_store, tmp_path / "run", "--num-epochs", "1")
    content = read_weights(folder / "checkpoint.pkl")
    del content["kernels"]
    torch.save(content, folder / "checkpoint.pkl")
    train(tiny_store, folder, "--num-epochs", "2")
    assert read_weights(folder / "checkpoint.pkl")["position"]["epoch"] == 2
