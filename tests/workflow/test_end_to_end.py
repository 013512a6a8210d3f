"""The whole workflow from tilt images to report: a tiny simulation, and real files beside the checkout."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tomohet.files.pickles import load_indices, load_latents
from tomohet.rounds import layout
from tomohet.rounds.config import complete_config, read_config
from tomohet.rounds.progress import progress

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "config" / "examples"
TINY = {
    "dataset": "tiny",
    "simulate": {
        "n_particles": 32,
        "n_tomograms": 2,
        "box": 20,
        "pixel_size": 16,
        "snr": 0.3,
        "seed": 1,
        "tilt_step": 15,
        "hidden_fraction": 0,
    },
    "linear": {"zdim": 2, "iterations": 2},
    "states": {"most": 3},
    "train": {"zdim": 4, "epochs": 2, "batch_size": 8, "dec_dim": 32, "enc_dim_A": 32, "enc_dim_B": 32},
    "convergence": {"epoch_interval": 1, "skip_umap": True},
    "analyze": {"ksample": 3, "pc": 1, "skip_umap": True},
    "volumes": {"count": 32},
    "analyze_volumes": {"num_pcs": 5, "ksample": 2},
    "rounds": {
        "all": {"auto": {"min_particles": 10}},
        "half": {"parent": "all", "select": "kmeans <= 1", "analyze": {"ksample": 2}},
    },
}

CHOSEN = ("all/subset/indices.pkl", "half/subset/indices.pkl")


def snakemake(folder: Path, config: Path, *arguments: str) -> str:
    """Two jobs at once, each with one thread: threads that wait for a core of other tests burn its time."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", folder, "--cores", "2"]
    command += ["--max-threads", "1"]
    done = subprocess.run([*command, *arguments, "--configfile", config], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """The folder of a finished run of TINY, with its config.yaml."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY))
    snakemake(folder, folder / "config.yaml")
    return folder


def test_simulation_to_report(done):
    config, results = done / "config.yaml", done / "results" / "tiny"
    assert "<html" in (results / "report.html").read_text()[:500]

    assert {stage.state for stage in progress(read_config(config), results)} == {"done"}
    for stage in (*layout.ROUND_STAGES, *layout.AFTER_TABLE):
        written = (*stage.files, stage.last, stage.summary, stage.by_particle, stage.by_volume)
        assert [file for file in written if not stage.path(results / "half", file).exists()] == [], stage

    proposal = layout.PROPOSED.path(results / "all", layout.ROUNDS)
    assert complete_config(TINY | {"rounds": {"all": {}} | yaml.safe_load(proposal.read_text())["rounds"]})

    everyone = pd.read_parquet(results / "all" / "particles.parquet")
    half = pd.read_parquet(results / "half" / "particles.parquet")
    assert list(everyone["particle"]) == list(range(32))
    assert {"tomogram", "kmeans", "pc1", "volume", "vkmeans", "maven_S1"} <= set(everyone)
    assert set(half["particle"]) == set(everyone.query("kmeans <= 1")["particle"])
    indices = load_indices(results / "half" / "subset" / "indices.pkl")
    mu, logvar = load_latents(results / "half" / "train_vae" / "z.train.pkl")
    assert list(indices) == sorted(half["particle"])
    assert mu.shape == logvar.shape == (len(indices), 4)

    assert len(list((results / "half" / "mapback").rglob("*.cxc"))) == half["tomogram"].nunique()

    assert "Nothing to be done" in snakemake(done, config)


def test_a_fresh_run_by_several_jobs_chooses_the_same_particles_bit_by_bit(done, tmp_path):
    """Two jobs decode volumes, and two link voxels; the second of these is lost and repeated alone."""
    config = tmp_path / "config.yaml"
    jobs = {"volumes": TINY["volumes"] | {"jobs": 2}, "siren": {"jobs": 2}}
    config.write_text(yaml.safe_dump(TINY | jobs))
    snakemake(tmp_path, config, "results/tiny/all/siren.shares/1-of-2")
    said = snakemake(tmp_path, config, *(f"results/tiny/{file}" for file in CHOSEN))
    assert re.search(r"^siren_share +1$", said, re.MULTILINE)
    log = (tmp_path / "logs" / "tiny" / "all" / "siren.log").read_text()
    assert "computed here" not in log
    for file in (*CHOSEN, "all/particles.parquet", "prepared/images.npy", "all/siren/blocks.parquet"):
        first, second = (folder / "results" / "tiny" / file for folder in (done, tmp_path))
        assert first.read_bytes() == second.read_bytes(), file
    counts = json.loads((tmp_path / "results/tiny/half/subset/summary.json").read_text())
    assert 0 < counts["n_particles"] < counts["n_parent"] == 32
    assert not list((tmp_path / "results" / "tiny" / "all").glob("*.shares"))


def test_another_kind_of_figure_does_not_train_the_child_again(done):
    """Its training runs again, because its parent's files are new, and finds itself done."""
    config, results = done / "config.yaml", done / "results" / "tiny"
    log = results / "half" / "train_vae" / "run.log"
    latents = (results / "half" / "train_vae" / "z.train.pkl").read_bytes()
    n_epochs = log.read_text().count("=====> Epoch")
    config.write_text(yaml.safe_dump(TINY | {"analyze": TINY["analyze"] | {"plot_format": "svgz"}}))
    snakemake(done, config, "results/tiny/half/train_vae/weights.pkl")
    assert list((results / "all" / "analyze").glob("*.svgz"))
    assert log.read_text().count("=====> Epoch") == n_epochs
    assert (results / "half" / "train_vae" / "z.train.pkl").read_bytes() == latents


@pytest.mark.real
@pytest.mark.parametrize(
    ("example", "star", "n_particles"),
    [
        ("10076", "10076_both_32_sim.star", 144),
        ("warptools", "warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star", 40),
    ],
)
def test_real_files_to_report_in_two_rounds(tmp_path, shared, example, star, n_particles):
    path = shared / "data" / "tomodrgn-tests" / star
    snakemake(tmp_path, EXAMPLES / f"{example}.yaml", "--config", f"particles={path}")
    results = tmp_path / "results" / example
    assert (results / "report.html").is_file()
    rounds = [pd.read_parquet(results / name / "particles.parquet") for name in ("all", "first")]
    assert len(rounds[0]) == n_particles
    assert set(rounds[1]["particle"]) == set(rounds[0].query("vkmeans == 0")["particle"])
