"""Fixtures of several unit tests."""

import pytest
from training_runs import train


@pytest.fixture(scope="module")
def without_figures():
    """Figures take longer than small trainings; the commands' tests draw them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_tilt_distribution", "write_loss_figure"):
            patch.setattr(f"tomohet.training.vae.{name}", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def base_run(tiny_store, tmp_path_factory, without_figures):
    """Output folder of a small training with default options."""
    return train(tiny_store, tmp_path_factory.mktemp("base"))
