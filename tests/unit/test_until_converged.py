"""--until converged: held-out tilt images end a training, as if it had been meant to be that long."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
from several_processes import run as run_processes
from training_runs import CPU, SMALL, train

from tomohet.errors import InputError
from tomohet.files.pickles import load_latents
from tomohet.model.config_file.reading import read_vae_settings
from tomohet.model.load import load_vae, read_weights
from tomohet.particles.store import open_store
from tomohet.training.batches import ParticleImages
from tomohet.training.judging import Calendar
from tomohet.training.loop import Plan, Training
from tomohet.training.objectives import DataTerm
from tomohet.training.splits import TiltSplit
from tomohet.training.untaught import UntaughtJudge

pytestmark = pytest.mark.usefixtures("without_figures")
UNTIL = ("--until", "converged")


@pytest.fixture
def ends_at_second(monkeypatch):
    """Every epoch is judged, and the second judgement says that the training has converged."""
    monkeypatch.setattr(Calendar, "of", classmethod(lambda cls, epochs, *work: cls(epochs, 1, 1)))
    for module in ("teaching", "untaught"):
        monkeypatch.setattr(
            f"tomohet.training.{module}.reason_to_end",
            lambda history: "converged: so it is said" if len(history) == 2 else "",
        )


@pytest.fixture
def taught(tiny_store, tiny_linear, tmp_path):
    """train_vae --init in this process, into a folder of that name."""
    init = ("--init", str(tiny_linear), "--enc-dim-B", "8")
    return lambda name, *options: train(tiny_store, tmp_path / name, *init, *options)


def weights_of(folder):
    state = read_weights(folder / "weights.pkl")["model_state_dict"]
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def assert_same_result(one, other):
    ours, theirs = weights_of(one), weights_of(other)
    assert ours and all(torch.equal(ours[name], theirs[name]) for name in ours)
    for mine, yours in zip(*(load_latents(folder / "z.train.pkl") for folder in (one, other)), strict=True):
        np.testing.assert_array_equal(mine, yours)


@pytest.mark.parametrize("encoder", ["free", "tilts"])
def test_an_ended_training_is_one_of_that_length(taught, ends_at_second, encoder):
    ended = taught("ended", "--encoder", encoder, "-n", "5", *UNTIL)
    short = taught("short", "--encoder", encoder, "-n", "2")
    assert pd.read_csv(ended / "loss.csv")["epoch"].tolist() == [0, 1]
    assert (ended / "held_out.csv").read_text() == (short / "held_out.csv").read_text()
    assert_same_result(ended, short)
    said = json.loads((ended / "summary.json").read_text())["ended"]
    assert said == "after 2 of at most 5 epochs: converged: so it is said"
    assert "ended" not in json.loads((short / "summary.json").read_text())


def test_the_last_epoch_of_an_ended_training_is_kept_by_number(taught, ends_at_second):
    folder = taught("ended", "-n", "5", "--checkpoint", "3", *UNTIL)
    assert [path.name for path in folder.glob("weights.*.pkl")] == ["weights.1.pkl"]
    np.testing.assert_array_equal(
        load_latents(folder / "z.1.train.pkl")[0], load_latents(folder / "z.train.pkl")[0]
    )


def test_an_ended_training_stays_ended_and_a_stopped_one_ends_alike(taught, ends_at_second, monkeypatch):
    options = ("-n", "5", "-b", "6", "--checkpoint-minutes", "0", *UNTIL)
    through = taught("through", *options)
    first = weights_of(through)
    taught("through", *options)
    assert all(torch.equal(first[name], value) for name, value in weights_of(through).items())
    assert len(pd.read_csv(through / "loss.csv")) == 2
    step = Training._step

    def broken(self, *args):
        if (self.position.epoch, self.position.step) == (1, 1):
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_step", broken)
        taught("parts", *options)
    assert_same_result(through, taught("parts", *options))


def test_the_end_is_judged_by_all_particles(taught, ends_at_second, monkeypatch):
    drawn = lambda tilts, source, seed: np.arange(0, len(tilts), 2)  # noqa: E731
    monkeypatch.setattr("tomohet.training.teaching.judging_particles", drawn)
    ended, short = taught("ended", "-n", "5", *UNTIL), taught("short", "-n", "2")
    tables = [pd.read_csv(folder / "held_out.csv") for folder in (ended, short)]
    assert tables[0]["error_of_decoder"].iloc[1] == pytest.approx(
        tables[1]["error_of_decoder"].iloc[1], rel=0.1
    )
    assert {"gain_of_latents", "change_of_decoder"} <= set(tables[0].columns[tables[0].notna().iloc[-1]])


def test_a_training_that_does_not_converge_goes_to_its_last_epoch(taught, monkeypatch):
    monkeypatch.setattr("tomohet.training.teaching.reason_to_end", lambda history: "")
    folder = taught("all", "-n", "3", *UNTIL)
    assert len(pd.read_csv(folder / "loss.csv")) == 3
    said = json.loads((folder / "summary.json").read_text())["ended"]
    assert said == "after 3 of at most 3 epochs: it has not converged"


def test_no_end_while_the_fitted_frequencies_grow():
    plan = Plan(8, 1, 1e-3, 0, "constant", 0, 0, 5, 10, max_frequency=0.4, march=0.5, until_converged=True)
    assert [plan.may_end(epoch) for epoch in range(8)] == [False] * 4 + [True] * 4


@pytest.mark.parametrize("module", ["teaching", "untaught"])
def test_two_processes_end_where_the_leader_says_so(tiny_store, tiny_linear, tmp_path, monkeypatch, module):
    def said(history):
        leads = os.environ.get("RANK", "0") == "0"
        return "converged: so it is said" if leads and len(history) >= 2 else ""

    monkeypatch.setattr(f"tomohet.training.{module}.reason_to_end", said)
    own = ("--init", tiny_linear) if module == "teaching" else ("--fraction-train", "0.7")
    options = (*SMALL, *own, "-n", 9, "--device", "cpu", "--no-amp", *UNTIL)
    for size in (1, 2):
        run_processes(size, "train_vae", tiny_store, "-o", tmp_path / str(size), *options)
    lengths = [len(pd.read_csv(tmp_path / str(size) / "loss.csv")) for size in (1, 2)]
    assert lengths[0] == lengths[1] < 9


# ---- a network without a linear model


def test_test_tilts_end_an_untaught_training(tiny_store, tmp_path, ends_at_second):
    folder = train(tiny_store, tmp_path, "-n", "5", "--fraction-train", "0.7", *UNTIL)
    assert len(pd.read_csv(folder / "loss.csv")) == 2
    table = pd.read_csv(folder / "held_out.csv")
    assert (table["particles"] == len(open_store(tiny_store).particles)).all()
    assert table["epoch"].tolist() == [0, 1] and table["error_of_change"].iloc[1] > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert "one volume for all particles" in summary["sentence"]


def test_without_held_out_images_nothing_could_decide(tiny_store, tmp_path):
    with pytest.raises(
        InputError, match="--until converged: held-out tilt images decide .*--fraction-train 0.9"
    ):
        train(tiny_store, tmp_path, *UNTIL)


def test_judging_does_not_change_an_untaught_training(tiny_store, tmp_path, monkeypatch):
    options = ("-n", "2", "--fraction-train", "0.7")
    judged = train(tiny_store, tmp_path / "judged", *options)
    monkeypatch.setattr(UntaughtJudge, "after_epoch", lambda self, *of: "")
    assert_same_result(judged, train(tiny_store, tmp_path / "not", *options))


def test_gain_of_own_volumes_by_hand(tiny_store, tmp_path):
    """The misfit's decrease from the mean latent's volume, over the noise variance."""
    folder = train(tiny_store, tmp_path, "--fraction-train", "0.7", "--lr", "0.005", "-n", "4")
    settings, store = read_vae_settings(folder / "config.pkl"), open_store(tiny_store)
    model = load_vae(folder / "weights.pkl", settings)
    everyone = np.arange(len(store.particles))
    split = TiltSplit.of_store(store, everyone, 0.7, False, settings.seed)
    fitted, unseen = (ParticleImages(store, everyone, CPU, keep=mask) for mask in (split.trained, split.test))
    data = DataTerm(unseen.half_plane, False, False, False, 0.5, torch.float32)
    judge = UntaughtJudge(model, fitted, unseen, data, 1, tmp_path)
    assert judge.after_epoch(0, 0.5) == ""
    (row,) = judge.history

    z = torch.from_numpy(load_latents(folder / "z.train.pkl")[0])
    data = judge.data
    losses = []
    for latent in (z, z.mean(0, keepdim=True).expand_as(z)):
        batch = unseen.batch(everyone)
        rows = data.rows(batch, True, torch.Generator())
        loss = data.loss(model.decoder, latent.contiguous(), batch, torch.Generator())
        losses.append(loss.item())
    assert data.rows_per_image == 1
    expected = (losses[1] / losses[0] - 1) * len(rows)
    assert abs(expected) > 1 and row["gain_of_decoder"] == pytest.approx(expected, rel=0.02)
    assert row["misfit_of_volumes"] == pytest.approx(len(rows), rel=1e-4) and row["max_frequency"] == 0.5

    own, common = judge._misfits(unseen)
    better = iter([(own - 9, common), (own, common), (own - 4, common)])
    judge._misfits = lambda images: next(better)
    for epoch, fall in enumerate((-9, 9, 5), start=1):  # nats per particle
        judge.after_epoch(epoch, 0.5)
        assert judge.history[-1]["fall_since_best"] == pytest.approx(fall * len(everyone))
        assert judge.history[-1]["error_of_fall"] == pytest.approx(0, abs=1e-6)
