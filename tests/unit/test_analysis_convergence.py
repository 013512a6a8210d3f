"""Drift of latents and volumes between epochs, representatives, verdict, and the command convergence_vae."""

import json

import analysis_fakes as fakes
import numpy as np
import pandas as pd
import pytest

from tomohet import plots
from tomohet.analysis import convergence, latent_drift, sketch, verdict, volume_drift
from tomohet.analysis.run_folder import RunFolder
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import load_pickles
from tomohet.training.held_out import late_growth


@pytest.fixture
def decoder(monkeypatch):
    monkeypatch.setattr(convergence, "VolumeMaker", fakes.FakeMaker)


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(plots, "save", fakes.close_figure)


def moved(folder, *latents):
    run = RunFolder(fakes.training(folder, dict(enumerate(latents)), weights=False))
    return latent_drift.shifts(run, range(len(latents)))


def test_shifts_of_latents_by_hand(tmp_path):
    start = np.array([[0.0, 0], [2, 0]], np.float32)
    table = moved(
        tmp_path, start, start + np.array([0, 1]), start + np.array([0, 3]), 2 * start + np.array([0, 3])
    )
    assert table["magnitude"].tolist() == [1, 2, 1]  # at last the particles move by 0 and 2
    # All particles move alike, then apart, each by half of what is then the spread.
    assert table["relative"].tolist() == pytest.approx([0, 0, 0.5])
    assert table["dot"][:2].tolist() == [2, 0]
    assert table["cosine_distance"][:2].tolist() == pytest.approx([0, 1])
    assert np.isnan(table["dot"][2])


def test_latents_of_another_shape_are_refused(tmp_path):
    with pytest.raises(InputError, match="z.1.train.pkl"):
        moved(tmp_path, np.zeros((4, 2), np.float32), np.zeros((5, 2), np.float32))


def test_equal_epochs_agree_wholly_and_unrelated_ones_by_chance(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 6)).astype(np.float32)
    run = RunFolder(fakes.training(tmp_path, {0: z, 1: 2 * z + 1, 2: rng.permutation(z)}))
    table = latent_drift.stability(run, [0, 1, 2], seed=0)
    assert table["neighbours"][0] == 1 and table["ari"][0] == pytest.approx(1)
    assert table["neighbours"][1] == pytest.approx(15 / 399, abs=0.02) and abs(table["ari"][1]) < 0.05


def test_shared_neighbours_by_hand():
    one = np.array([[1, 2], [0, 2], [0, 1], [2, 1]])
    other = np.array([[2, 3], [3, 2], [3, 3], [1, 2]])
    assert latent_drift.shared(one, other) == pytest.approx((1 + 1 + 0 + 2) / 8)


def test_losses_from_the_log_of_tomodrgn(tmp_path):
    (tmp_path / "run.log").write_text(
        "2024-01-01 00:00:00     # =====> Epoch: 1 Average gen loss = 0.912345678901234, "
        "KLD = 0.000001234500000, total loss = 0.912346913401234; Finished in 0:00:03.000001\n"
        "2024-01-01 00:00:03     # =====> Epoch: 2 Average gen loss = 0.812345678901234, "
        "KLD = 1.5e-05, total loss = 0.812360678901234; Finished in 0:00:03.000001\n"
    )
    losses = latent_drift.read_losses(tmp_path)
    assert losses["epoch"].tolist() == [0, 1]
    assert losses["kld"].tolist() == [1.2345e-6, 1.5e-5]
    assert losses["total"].tolist() == [0.912346913401234, 0.812360678901234]


@pytest.mark.parametrize(
    "known, last, expected",
    [(range(13), 12, [0, 5, 10, 12]), ([4, 9, 14], 9, [4, 9]), ([0, 3, 8, 9], 9, [0, 8, 9]), ([], -1, [-1])],
)
def test_listed_epochs_are_five_apart_and_end_with_the_last(known, last, expected):
    assert latent_drift.listed_epochs(known, 5, last) == expected


def test_representatives_are_the_densest_places():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [10, 0], [0, 10]])
    points = np.concatenate(
        [c + 0.5 * rng.normal(size=(n, 2)) for c, n in zip(centres, (300, 200, 100), strict=True)]
    )
    found = sketch.density_maxima(points, 30, 1.5, 3, 5.0, 10)
    middles = np.stack([np.median(points[group], axis=0) for group in found.members])
    np.testing.assert_allclose(middles, centres, atol=0.5)
    assert len(sketch.density_maxima(points, 30, 1.5, 3, 5.0, 2).members) == 2


def test_close_maxima_are_pruned_and_distant_ones_stay():
    bins = np.array([[0, 0], [1, 1], [20, 20], [22, 20]])
    assert sketch.prune(bins, 1, 5).tolist() == [[0, 0], [20, 20]]
    assert sketch.prune(bins, 3, 5).tolist() == [[0, 0], [20, 20], [22, 20]]


@pytest.mark.parametrize("points", [np.zeros((20, 2)), np.stack([np.arange(5.0), np.zeros(5)], axis=1)])
def test_degenerate_embeddings_have_a_representative(points):
    found = sketch.density_maxima(points, 30, 1.0, 12, 5.0, 10)
    assert len(found.members) >= 1 and all(len(group) for group in found.members)


def test_volumes_followed_by_hand(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 8, 8, 8)).astype(np.float32)
    for name, map_ in {"0a": a, "0b": b, "1a": 2 * a, "1b": a - b}.items():
        write_volume(tmp_path / f"{name}.mrc", map_, 3.0)
    paths = {epoch: [tmp_path / f"{epoch}a.mrc", tmp_path / f"{epoch}b.mrc"] for epoch in (0, 1)}
    truth = [tmp_path / "0b.mrc"]
    found = volume_drift.follow(paths, volume_drift.MaskOptions("none"), truth)
    expected = np.corrcoef(b.ravel(), (a - b).ravel())[0, 1]
    np.testing.assert_allclose(found.cc[:, 0], [1, expected], atol=1e-5)
    np.testing.assert_allclose(found.fsc[0, 0, 1:], 1, atol=1e-5)
    assert found.pairwise[0, 0, 1] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5)
    np.testing.assert_array_equal(found.pairwise, found.pairwise.transpose(0, 2, 1))
    less = (np.array([a, b]) - (a + b) / 2).reshape(2, -1), (np.array([a + b, b - a]) / 2).reshape(2, -1)
    assert found.differences[1, 0] == pytest.approx(np.corrcoef(less[0][1], -less[1][0])[0, 1], abs=1e-5)
    whole = np.abs(np.fft.fftn(np.array([a, b]), axes=(1, 2, 3))) ** 2
    assert found.power[0, 0] == pytest.approx(whole[:, 0, 0, 0].mean(), rel=1e-4)
    assert found.truth[0, 0, 1] == pytest.approx(1) and found.frequency_1_A[-1] == pytest.approx(1 / 6)


def judged(z, shift, neighbours, ari, total=(2, 1.2, 1.0, 1.0, 1.0, 1.0)):
    losses = pd.DataFrame({"total": total})
    moves = pd.DataFrame({"relative": [shift]})
    stable = pd.DataFrame({"neighbours": [neighbours], "ari": [ari]})
    return verdict.judge(z, losses, moves, stable, None)


def test_verdicts():
    z, _ = fakes.latents(50, 3)
    assert judged(z, 0.1, 0.7, 0.3).text == "converged"
    assert judged(z, 0.1, 0.2, 0.9).text == "converged"
    assert judged(z, 0.6, 0.7, 0.9).text == "still changing"
    assert judged(z, 0.1, 0.2, 0.3).text == "still changing"
    assert judged(z, 0.1, 0.7, 0.9, total=(4, 3, 2, 1)).text == "converged"  # the loss does not decide
    assert judged(0.01 * z, 0.1, 0.7, 0.9).text == "collapsed"
    none = pd.DataFrame()
    assert verdict.judge(z, None, none, none, None).text == "too few epochs to judge"


def gains(*gain, error=10.0, taught=True):
    table = pd.DataFrame({"epoch": np.arange(len(gain)), "gain_of_decoder": gain, "error_of_decoder": 80.0})
    table = table.assign(change_of_decoder=np.append(np.nan, np.diff(gain)), error_of_change=error)
    fall = np.append(np.nan, np.maximum.accumulate(gain)[:-1] - np.array(gain)[1:])
    table = table.assign(fall_since_best=fall, error_of_fall=error)
    return table.assign(share_of_network=1.0) if taught else table.assign(particles=1000)


def volumes(misfit, limits=0.5, gain=(500, 900, 1300, 1295)):
    return gains(*gain, taught=False).assign(misfit_of_volumes=misfit, max_frequency=limits)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (gains(1000, 1300, 1390, 1417), "converged"),  # 2 % in the last quarter
        (gains(500, 800, 980), "still changing"),  # 18 %
        (gains(205, 322, 376, 413), "still changing"),  # 9 %: of a training whose limit is 530
        (gains(1000, 1300, 1310), "converged"),
        (gains(1000, 1300, 1200), "converged"),  # one judgement below the best may be the noise of the steps
        (gains(1000, 1300, 1200, 1150), "overfitting"),
        (gains(1000, 1300, 1200, 1295), "still changing"),
        # The last two judgements of the three in the last quarter: an excursion.
        (gains(200, 600, 800, 900, 1000, 1050, 1080, 1090, 1095, 1100, 1050, 1040), "converged"),
        (gains(200, 600, 800, 900, 1000, 1050, 1080, 1090, 1100, 1060, 1050, 1040), "overfitting"),
        (gains(1000, 1300, 1290, 1285), "converged"),  # 15 ± 10 below the best
        # Slow falls, each by more than 20 ± 20: their mean decides.
        (gains(500, 1000, 1300, 1270, 1251, error=20), "converged"),  # by 39.5
        (gains(500, 1000, 1300, 1270, 1240, error=20), "overfitting"),  # by 45
        (gains(500, 1000, 1300, 1290, 1200, error=20), "converged"),  # the first is 10
        (gains(1000, 1300, 1310, error=70), "too few images to judge"),  # grew by 1 ± 5 %
        (gains(1000, 1300, 1280, error=70), "too few images to judge"),
        (gains(1000, 1200, 1310, error=70), "still changing"),
        (gains(0, 0, 0), "too few epochs to judge"),
        (gains(0, 0, 0, 0, 0, 0), "converged"),  # the network adds nothing
        (gains(10, 50, 100), "still changing"),  # not yet significant, but its growth is
        (gains(0, 0, 0, taught=False), "nothing learnt"),
        (gains(500, 800, 980, taught=False), "still changing"),
        (gains(230, 235, 230, taught=False), "nothing learnt"),  # less than three standard errors
        (gains(0, -100, -200, -300, taught=False), "nothing learnt"),  # nothing that could be lost again
        (gains(1000, 1300, 1200, 1150, taught=False), "overfitting"),
        (gains(250, 255, 245, taught=False), "converged"),
        (gains(250, 255, 245, taught=False).assign(particles=6000), "nothing learnt"),  # 0.04 nats each
        (gains(1000, 1300, 1310, taught=False), "converged"),
        (gains(1000, 1010), "too few epochs to judge"),
        (gains(1000, 1200, 1210).drop(columns="change_of_decoder"), "too few epochs to judge"),
    ],
)
def test_held_out_tilts_decide(table, text):
    z, _ = fakes.latents(50, 3)
    losses, none = pd.DataFrame({"total": [4, 3, 2, 1.0]}), pd.DataFrame()
    found = verdict.judge(z, losses, none, none, None, table)
    assert found.text == text and found.best == table["gain_of_decoder"].argmax()
    assert "does not decide" in found.reasons[1]


def test_growth_compares_means_of_quarters_of_the_epochs():
    growth, error = late_growth(gains(1, 2, 3, 4, 50, 60, 70, 90))
    assert growth == (70 + 90) / 2 - (50 + 60) / 2 and error == 10
    seldom = gains(*range(12)).iloc[[3, 11]]  # no judgement in the third quarter
    assert late_growth(seldom)[0] == 11 - 3
    assert late_growth(gains(1, 4))[0] == 3


def test_the_last_epoch_is_used_unless_another_is_preferred():
    known = [3, 7, 11, 15]
    assert verdict.epoch_to_use([], known, 15) == 15
    assert verdict.epoch_to_use([9, 11, 7], known, 15) == 11  # epoch 9 has no latents
    assert verdict.epoch_to_use([8], known, 15) == 7
    assert verdict.epoch_to_use([9], known, 15) == 7  # the earlier of two as near


@pytest.mark.parametrize(
    ("table", "preferred"),
    [
        (gains(500, 900, 1300, 1270), []),  # whose last latents are the best
        (gains(1000, 1300, 1200, 1150), [1]),  # overfitting
        (gains(500, 900, 1300, 1295, taught=False), []),  # nothing known of the volumes
        (volumes([40, 60, 50, 30]), [3, 2]),  # epochs 0 and 1 know less
        (volumes([40, 60, 30, 50]), [2, 3]),
        (volumes([40, 60, 20, 50], gain=[500, 1300, 1200, 1270]), [3, 1]),  # epoch 2 knows less than the last
        (volumes([40, 60, 50, 30], gain=[500, 1300, 1240, 1200]), [2, 1]),  # overfitting: less than the best
        (volumes([40, 60, 50, 30], gain=[0, 20, 40, 30]), []),  # nothing learnt
        (volumes([40, 20, 50, 60], limits=[0.2, 0.3, 0.4, 0.4], gain=[1300] * 4), [2, 3]),
    ],
)
def test_epochs_that_know_the_differences_are_sorted_by_their_volumes(table, preferred):
    z, none = fakes.latents(50, 3)[0], pd.DataFrame()
    found = verdict.judge(z, None, none, none, None, table)
    assert found.preferred == preferred
    said = "the volumes of epoch 2 predict held-out tilt images best" in found.reasons
    assert said == (preferred[:1] == [2] and found.best != 2)


def test_gains_are_read_up_to_the_epoch_analysed(tmp_path):
    assert latent_drift.read_held_out(tmp_path, 3) is None
    gains(1, 2, 3).to_csv(tmp_path / "held_out.csv", index=False)
    assert latent_drift.read_held_out(tmp_path, 1)["gain_of_decoder"].tolist() == [1, 2]
    assert len(latent_drift.read_held_out(tmp_path, -1)) == 3


def test_falling_nyquist_and_equal_volumes_are_warned_of():
    curves = np.ones((3, 2, 5))
    curves[:, 1, -1] = 0.5
    drifted = volume_drift.VolumeDrift(
        [0, 1, 2],
        np.full((3, 2), 0.99),
        curves,
        np.arange(5.0),
        np.ones((3, 2)),
        np.array([[9.0, 4, 4, 1, 1], [9, 4, 4, 1, 1], [9, 4, 4, 1, 3]]),
        np.full((3, 3, 3), 0.9999),
        None,
    )
    warnings = verdict.volume_warnings(drifted)
    assert "noise" in warnings[0] and "no heterogeneity" in warnings[1]
    np.testing.assert_allclose(volume_drift.power_beyond(drifted, 1 / 2.5), [0.25, 0.25, 0.5])
    assert "grew 2.0-fold" in verdict.volume_warnings(drifted, 1 / 2.5)[1]
    assert "beyond" not in " ".join(verdict.volume_warnings(drifted, 1 / 4))  # no shell lies beyond


def test_command_on_a_settling_training(tmp_path, decoder):
    fakes.training(tmp_path / "run", fakes.latents_by_epoch(range(12), n=120))
    out = tmp_path / "out"
    fakes.run("convergence_vae", tmp_path / "run", "-o", out, "--skip-umap", "--epoch-interval", 4)
    result = json.loads((out / "convergence.json").read_text())
    assert result["epoch"] == 11 and result["verdict"] == "converged" and result["epochs"] == [0, 4, 8, 11]
    letters = np.loadtxt(out / "repr_particles" / "latent_representative.11.txt")
    assert len(list((out / "vols.11").glob("vol_*.mrc"))) == len(letters)
    assert load_pickles(out / "cc_masked.pkl")[0].shape == (len(letters), 3)
    assert load_pickles(out / "vector_metrics.pkl")[0].shape == (11, 3)
    before = (out / "cc_masked.pkl").read_bytes()
    fakes.run(
        "convergence_vae", tmp_path / "run", "-o", out, "--skip-umap", "--epoch-interval", 4, "--skip-volgen"
    )
    assert (out / "cc_masked.pkl").read_bytes() == before


def test_command_on_an_overfitting_training(tmp_path, decoder):
    folder = fakes.training(tmp_path / "run", fakes.latents_by_epoch(range(6), n=60))
    gains(500, 900, 1200, 1100, 1000, 950).to_csv(folder / "held_out.csv", index=False)
    rows = ["shell,frequency_1_A,corrected", "0,0,1", "1,0.02,0.9", "2,0.04,0.1", "3,0.06,0"]
    (tmp_path / "fsc.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    fakes.run("convergence_vae", folder, "-o", out, "--skip-umap", "--fsc", tmp_path / "fsc.csv")
    result = json.loads((out / "convergence.json").read_text())
    assert (result["verdict"], result["epoch"], result["last_epoch"]) == ("overfitting", 2, 5)
    assert result["sentence"] == "The network overfits since epoch 2; epoch 2 is used."
    assert RunFolder(folder).epoch(str(out / "convergence.json")) == 2
    assert (out / "verdict.png").is_file()


@pytest.mark.parametrize("epochs", [{7}, {3, 8}])
def test_command_where_most_epochs_and_all_weights_are_gone(tmp_path, epochs, undrawn):
    z, _ = fakes.latents(20, 1)
    fakes.training(tmp_path, {epoch: z for epoch in epochs}, weights=False)
    fakes.run("convergence_vae", tmp_path, "--skip-umap")
    result = json.loads((tmp_path / f"convergence.{max(epochs)}" / "convergence.json").read_text())
    assert result["epoch"] == max(epochs)
    assert (result["verdict"] == "too few epochs to judge") == (len(epochs) == 1)


def test_epoch_that_is_not_there_is_named_with_those_that_are(tmp_path):
    fakes.training(tmp_path, {3: fakes.latents(20, 2)[0]}, weights=False)
    with pytest.raises(InputError, match="z.5.train.pkl; epochs with latents: 3"):
        RunFolder(tmp_path).epoch("5")
    with pytest.raises(InputError, match="convergence.json"):
        RunFolder(tmp_path).epoch("newest")
