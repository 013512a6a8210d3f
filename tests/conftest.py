"""Fixtures and markers shared by all tests."""

import os

# Before numpy and torch are imported: tests run side by side, so each keeps to one thread.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
TINY = ("--particles", 24, "--box", 24, "--pixel-size", 14, "--snr", 0.2, "--seed", 1)
TINY_NETWORK = (
    "--zdim 2 -n 2 -b 6 --dec-dim 16 --enc-dim-A 16 --out-dim-A 8 --enc-dim-B 16 --pe-dim 3 --lr 0.003"
).split()
FOLDERS_WITH_MARKER = {"unit", "workflow", "slurm", "browser", "gpu"}
# Fixtures that simulate, train, or need files from elsewhere: tests without them are quick.
SLOW_FIXTURES = {"run_script", "tiny", "tiny_store", "tiny_training", "tiny_linear", "base_run", "shared"}

sys.path[:0] = [str(ROOT / "workflow"), *(str(ROOT / "tests" / name) for name in ("unit", "faults"))]
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT / "workflow"), os.environ.get("PYTHONPATH")])
)


def pytest_collection_modifyitems(items):
    """Mark every test by its folder: tests/unit -> unit, and so on; the long ones, of workflows, go first."""
    items.sort(key=lambda item: _folder(item) != "workflow")
    for item in items:
        folder = _folder(item)
        if folder in FOLDERS_WITH_MARKER:
            item.add_marker(folder)
        if folder == "unit" and not SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker("quick")
        if folder == "gpu" and not _cuda():
            item.add_marker(pytest.mark.skip(reason="no CUDA on this machine"))


def _folder(item) -> str:
    return Path(item.path).relative_to(ROOT / "tests").parts[0]


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test data beside the checkout; the test is skipped where there is none."""
    if SHARED.is_dir():
        return SHARED
    if os.environ.get("TOMOHET_REQUIRE_SHARED") == "1":
        pytest.fail(f"TOMOHET_REQUIRE_SHARED=1, but {SHARED} does not exist")
    return pytest.skip("no shared test data beside this checkout")


@pytest.fixture(scope="session")
def run_script():
    """Run a command: `run_script("simulate", "-o", folder)` -> CompletedProcess (text)."""
    from in_process import run_here

    def run(name: str, *arguments, check: bool = True) -> subprocess.CompletedProcess:
        done = run_here(name, *arguments)
        if check and done.returncode:
            pytest.fail(f"{name} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
        return done

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, run_script) -> Path:
    """Folder of a simulated dataset of two dozen small particles: particles.star, model.cif, truth.npz."""
    folder = tmp_path_factory.mktemp("tiny") / "simulated"
    run_script("simulate", "-o", folder, *TINY)
    return folder


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory, tiny, run_script) -> Path:
    """Folder of the prepared store of `tiny`."""
    folder = tmp_path_factory.mktemp("tiny_store") / "prepared"
    run_script("prepare", tiny / "particles.star", "-o", folder)
    return folder


@pytest.fixture(scope="session")
def tiny_training(tmp_path_factory, tiny_store, run_script) -> Path:
    """Output folder of a small network (zdim 2) trained for two epochs on `tiny_store`."""
    folder = tmp_path_factory.mktemp("tiny_training") / "train_vae"
    run_script("train_vae", tiny_store, "-o", folder, *TINY_NETWORK)
    return folder


@pytest.fixture(scope="session")
def tiny_linear(tmp_path_factory, tiny_store, run_script) -> Path:
    """Output folder of a linear model of `tiny_store` with two basis maps."""
    folder = tmp_path_factory.mktemp("tiny_linear") / "train_linear"
    run_script("train_linear", tiny_store, "-o", folder, "--zdim", 2, "-n", 2)
    return folder


@pytest.fixture
def torch_threads():
    """`torch_threads(n)` gives PyTorch n threads until the test ends."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def without_figures():
    """Figures take longer than small trainings; the commands' tests draw them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_tilt_distribution", "write_loss_figure"):
            patch.setattr(f"tomohet.training.vae.{name}", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def few_bootstraps():
    """`states` finds the states again in two bootstraps, not in 20: test_state_stability tries them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomohet.linear.state_stability.MOST_BOOTSTRAPS", 2)
        patch.setattr("tomohet.linear.state_stability.HALVINGS", 1)
        yield


@pytest.fixture(scope="module")
def base_run(tiny_store, tmp_path_factory, without_figures):
    """Output folder of a small training in this process, with default options."""
    from training_runs import train

    return train(tiny_store, tmp_path_factory.mktemp("base"))
