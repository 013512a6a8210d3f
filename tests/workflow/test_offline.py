"""On a compute node: no network, no home folder. Caches go where XDG_CACHE_HOME and TMPDIR say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_HOME = "/proc/nonexistent"  # nobody can write there, root neither
WORK = """
import numpy as np
from tomohet import plots
from tomohet.analysis.latent import umap_embedding

z = np.random.default_rng(0).normal(size=(60, 3))
assert umap_embedding(z, 0).shape == (60, 2)
with plots.house_style():
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot(z[:, 0], z[:, 1], ".")
    plots.save(figure, "figure.png")
"""


def offline(command: list, folder: Path, **environment: str) -> str:
    """Run a command without network, where that can be had, and without a home; return what it says."""
    (folder / "tmp").mkdir(exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "MPL", "NUMBA_"))}
    kept |= {"HOME": NO_HOME, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"} | environment
    alone = (
        ["unshare", "-n"] if subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0 else []
    )
    done = subprocess.run(
        [*alone, *command], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return output


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare on this machine")
def test_figures_and_embeddings_need_neither_home_nor_network(tmp_path):
    offline([sys.executable, "-c", WORK], tmp_path, PYTHONPATH=str(ROOT / "workflow"))
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare on this machine")
def test_a_job_runs_with_its_caches_where_they_are_asked_for(tmp_path):
    config = (
        "dataset: d\nsimulate: {n_particles: 8, n_tomograms: 1, box: 16, tilt_step: 20}\nrounds: {all: {}}\n"
    )
    (tmp_path / "c.yaml").write_text(config)
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "1"]
    command += ["results/d/simulated/truth.npz", "--configfile", "c.yaml"]
    offline(command, tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (tmp_path / "results" / "d" / "simulated" / "truth.npz").exists()
    assert (tmp_path / "cache" / "snakemake").is_dir()
