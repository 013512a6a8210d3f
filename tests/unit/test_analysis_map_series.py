"""Maps through the epochs against a reference, and the command convergence_nn."""

import json

import numpy as np
import pytest
from analysis_fakes import run
from scipy.ndimage import gaussian_filter

from tomohet.analysis import map_series
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import load_pickles


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.normal(size=(16, 16, 16)), 1.0)
    write_volume(tmp_path / "reference.mrc", truth, 4.0)
    for epoch, noise in {0: 1.0, 2: 0.3, 10: 0.05}.items():
        map_ = truth + noise * truth.std() * rng.normal(size=truth.shape)
        write_volume(tmp_path / "run" / f"reconstruct.{epoch}.mrc", map_, 4.0)
    write_volume(tmp_path / "run" / "reconstruct.mrc", truth, 4.0)
    return tmp_path


def test_epochs_with_gaps_improve_towards_the_reference(folder):
    run("convergence_nn", folder / "run", folder / "reference.mrc", "--fsc-mask", "none")
    out = folder / "run" / "convergence.3"
    frequency, curves = load_pickles(out / "freqs_fscs.pkl")[0]
    assert frequency[0] == pytest.approx(1 / 64) and frequency[-1] == pytest.approx(1 / 8)
    assert curves.shape == (3, 8) and (np.diff(curves[:, -1]) > 0).all()
    result = json.loads((out / "convergence.json").read_text())
    assert result["epochs"] == [0, 2, 10] and result["best_epoch"] == 10
    assert (out / "convergence_nn_fullfsc_all.png").is_file()


def test_max_epoch_and_dc(folder):
    options = ("--max-epoch", 10, "--include-dc", "-o", folder / "out")
    run("convergence_nn", folder / "run", folder / "reference.mrc", *options)
    frequency, curves = load_pickles(folder / "out" / "freqs_fscs.pkl")[0]
    assert frequency[0] == 0 and curves.shape == (2, 9)


def test_area_stops_where_the_curve_first_falls():
    curve = np.array([1.0, 0.8, 0.6, 0.1, 0.9])
    assert map_series.area_above(curve, np.arange(5.0), 0.143) == pytest.approx(0.9 + 0.7)


def test_missing_maps_and_other_boxes_are_refused(folder):
    with pytest.raises(InputError, match="epochs found: .0, 2, 10"):
        map_series.find_maps(folder / "run", 0)
    write_volume(folder / "other.mrc", np.zeros((8, 8, 8)), 4.0)
    with pytest.raises(InputError, match="other.mrc"):
        run("convergence_nn", folder / "run", folder / "other.mrc", "-o", folder / "out")


def test_maps_without_pixel_size_are_refused_and_the_reference_needs_none(folder):
    write_volume(folder / "plain.mrc", np.random.default_rng(0).normal(size=(16, 16, 16)), 0.0)
    run("convergence_nn", folder / "run", folder / "plain.mrc", "-o", folder / "out")
    assert load_pickles(folder / "out" / "freqs_fscs.pkl")[0][0][-1] == pytest.approx(1 / 8)
    write_volume(folder / "run" / "reconstruct.2.mrc", np.zeros((16, 16, 16)), 0.0)
    with pytest.raises(InputError, match="reconstruct.2.mrc: the header has no pixel size"):
        run("convergence_nn", folder / "run", folder / "reference.mrc", "-o", folder / "out")
