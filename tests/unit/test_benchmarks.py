"""The benchmarks: the textbook way gives what ours gives, and every row of the table can be measured."""

import json
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import baselines
import bench
import textbook
from measure import Stopwatch
from textbook_images import Particles, prepared
from textbook_maps import backproject
from workloads import STAR, STORE, Workload

from tomohet.model.decoder import Decoder
from tomohet.model.encoder import TiltEncoder, hartley_columns
from tomohet.model.mlp import ResidualMLP, linear_parameters
from tomohet.model.vae import HeterogeneityVAE
from tomohet.particles.dialects import read_particles
from tomohet.particles.store import open_store
from tomohet.reconstruction.half_maps import accumulate
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.latents import infer_latents
from tomohet.training.objectives import DataTerm

CPU = torch.device("cpu")
TINY = Workload("tiny", 16, 8.0, 5, False, 4, 2, 1, 16, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    TINY.write(folder)
    return folder


@pytest.fixture(scope="module")
def store(folder):
    return open_store(folder / STORE)


@pytest.fixture(scope="module")
def images(folder):
    """Image table of the tiny data set."""
    return read_particles(folder / STAR).images


def give(plain: textbook.PlainMLP, ours: ResidualMLP) -> None:
    """Copy our weights into the textbook's network."""
    with torch.no_grad():
        for layer, given in zip(plain.layers, ours.affine_layers(), strict=True):
            weight, bias = linear_parameters(given)
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)


@pytest.fixture(scope="module")
def decoders():
    """Our decoder, which like the textbook's sees k and -k independently, and a textbook with its weights."""
    torch.manual_seed(0)
    ours = Decoder(TINY.box, TINY.zdim, 1, 16, hermitian=False)
    plain = textbook.TextbookVAE(TINY.box, TINY.zdim, 1, 16, dose_mask=False)
    give(plain.decoder, ours.decoder)
    plain.frequencies.copy_(ours.freqs)
    return ours, plain


def test_prepared_images_are_those_of_the_store(store, images):
    spectra = prepared(images, TINY.box)
    x, y = (store.half_plane.k.numpy().astype(int) + TINY.box // 2).T
    expected = store.half_planes(np.arange(len(images))).numpy()
    np.testing.assert_allclose(spectra[:, y, x], expected, atol=2e-5)


@pytest.mark.parametrize("dose_mask", [False, True])
def test_loss_is_ours(store, images, decoders, dose_mask):
    ours, plain = decoders
    plain.dose_mask = dose_mask
    group = np.arange(TINY.particles)
    z = torch.randn(TINY.particles, TINY.zdim)
    resident = ParticleImages(store, group, CPU, loss_rows=LossRows(dose_mask=dose_mask))
    term = DataTerm(store.half_plane, True, True, False, rows_per_image=1.0, dtype=torch.float32)
    expected = term.loss(ours, z, resident.batch(group), torch.Generator()).item()

    particles = Particles(images, TINY.box)
    batch = torch.utils.data.default_collate([particles[number] for number in group])
    found = plain.reconstruction(z, *plain.images(batch), batch).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_latents_are_ours(store, images, decoders):
    ours, plain = decoders
    torch.manual_seed(1)
    encoder = TiltEncoder(store.half_plane.n, TINY.zdim)
    columns = hartley_columns(store.half_plane, store.half_plane.n)
    give(plain.encoder_b, encoder.encoder_b)
    give(plain.encoder_a, encoder.encoder_a)
    with torch.no_grad():
        plain.encoder_a.layers[0].weight[:, columns] = encoder.encoder_a.affine_layers()[0].weight
    network = HeterogeneityVAE(encoder, ours)
    expected = infer_latents(network, ParticleImages(store, np.arange(TINY.particles), CPU))
    found = textbook.latents(plain, Particles(images, TINY.box), CPU)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("box", [16, 8])
def test_volumes_are_ours(decoders, tmp_path, box):
    ours, plain = decoders
    z = torch.randn(1, TINY.zdim)
    textbook.write_volume(plain, z[0], box, tmp_path / "volume.mrc", 8.0)
    with mrcfile.open(tmp_path / "volume.mrc") as mrc:
        found = mrc.data.copy()
    expected = ours.volumes(z, box)[0].numpy()
    # The plain lattice holds one end of each axis, ours the mean of both.
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995


def test_backprojection_is_ours(store, images):
    part = np.arange(TINY.particles) % 2
    rows = store.images_of(np.arange(TINY.particles))
    weights = {"recon_dose_weight": True, "recon_tilt_weight": True}
    expected = accumulate(store, rows, np.repeat(part, TINY.tilts), **weights)
    found = backproject(Particles(images, TINY.box), TINY.box, part, CPU)
    for (data, weight), ours in zip(found, expected, strict=True):
        # Between the planes kx = 0 and kx = D, where ours keeps one of each pair of points.
        inner = slice(1, TINY.box)
        hartley = (ours.numerator.real - ours.numerator.imag)[..., inner]
        torch.testing.assert_close(data[..., inner], hartley, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(weight[..., inner], ours.denominator[..., inner], atol=1e-5, rtol=1e-4)


def test_every_row_is_measured(monkeypatch):
    monkeypatch.setattr(bench, "fast_bfloat16", lambda device: True)
    monkeypatch.setattr(bench, "matrix_product_peak", lambda device, dtype: 50.0)
    masked = Workload("masked", 16, 8.0, 5, True, 4, 2, 1, 16, 3)
    found = list(
        bench.rows([TINY, masked], CPU, "", lambda *what: bench.measured(*what, CPU, budget_s=0.0, most=2))
    )
    names = [row["what"] for row in found]
    assert names == [*bench.TASKS, *(name for name in bench.TASKS if name.startswith("train"))]
    for row in found:
        assert row["per_second"] > 0 and row["times_textbook"] > 0 and row["memory_MB"] > 0
        assert bool(row["share_of_peak"]) == (row["unit"] != "images")
        assert row["ours"]["images_per_unit"] == {"particles": 5, "volumes": 0, "images": 1}[row["unit"]]
        assert bench.line(row, {}).startswith(row["workload"])


def test_a_process_reports_what_it_measured(folder, monkeypatch, capsys):
    monkeypatch.setattr(bench, "workloads", lambda device: [TINY])
    monkeypatch.setattr(bench, "matrix_product_peak", lambda device, dtype: 50.0)
    bench.child("tiny", "prepare", "ours", str(folder))
    assert json.loads(capsys.readouterr().out)["images_per_unit"] == 1


def test_stopwatch_leaves_out_the_warm_up(monkeypatch):
    seconds = iter([0.0, 5.0, 7.0, 7.5])
    watch = Stopwatch(CPU, budget_s=10.0)
    monkeypatch.setattr(watch, "_clock", lambda: next(seconds))
    calls = []
    watch.repeat(lambda: calls.append(1))
    assert (len(calls), watch.repetitions, watch.seconds) == (3, 2, 1.0)


def test_a_long_repetition_is_the_measurement(monkeypatch):
    seconds = iter([0.0, 20.0])
    watch = Stopwatch(CPU)
    monkeypatch.setattr(watch, "_clock", lambda: next(seconds))
    watch.repeat(lambda: None)
    assert (watch.repetitions, watch.seconds) == (1, 20.0)


def test_a_run_is_compared_with_the_recorded_ratios(tmp_path, monkeypatch, capsys):
    def measured(load, what, side, folder):
        seconds = {"ours": 1.0, "textbook": speed}[side]
        return {
            "seconds": seconds, "images_per_unit": 1, "memory_MB": 10.0, "peak_gflop_per_s": 50.0,
            "share_of_peak": None,
        }  # fmt: skip

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench.py", *arguments])
        bench.main()
        return capsys.readouterr().out

    monkeypatch.setattr(bench, "workloads", lambda device: [TINY])
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results" / "bench.json")
    monkeypatch.setattr(baselines, "FOLDER", tmp_path / "baselines")
    monkeypatch.setattr(bench, "measured_apart", measured)
    speed = 4.0
    assert "RECORD=1" in run()
    assert "recorded" in run("--record")
    speed = 3.0
    text = run("--only", "prepare")
    assert "0.75" in text and "below 85% of the baseline: tiny: prepare" in text
    row = json.loads(bench.RESULTS.read_text())["rows"][0]
    assert row["over_baseline"] == {"times_textbook": 0.75}


def test_too_little_memory_is_a_blank(monkeypatch):
    row = bench.row_of(
        TINY,
        "train, float32",
        {"seconds": 1.0, "images_per_unit": 5, "memory_MB": 1.0, "share_of_peak": 0.5},
        {"failed": "out of memory"},
    )
    assert row["times_textbook"] is None and "out of memory" in bench.line(row, {})
    assert baselines.compared(
        row, {"tiny: train, float32": {"times_textbook": 3.0, "share_of_peak": 0.5}}
    ) == {"share_of_peak": 1.0}
