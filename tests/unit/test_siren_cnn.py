"""SIREn's network: its size, safe reading of its checkpoints, and levels on the volumes' own scale."""

import numpy as np
import pytest
import torch
from torch import nn

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren import cnn
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume


@pytest.fixture
def checkpoint(tmp_path):
    """A file as the published training writes it: names of its own, an optimiser, the loss as an object."""
    torch.manual_seed(0)
    model = cnn.network()
    renamed = {f"layer{number}": value for number, value in enumerate(model.state_dict().values())}
    held = {
        "epoch": 4,
        "model_state_dict": renamed,
        "optimizer_state_dict": {"lr": 5e-6},
        "loss": nn.MSELoss(),
    }
    torch.save(held, tmp_path / "weights.pth")
    return model.eval(), tmp_path / "weights.pth"


def test_the_network_is_the_published_one():
    model = cnn.network()
    assert sum(p.numel() for p in model.parameters()) == 2_300_545
    assert sum(b.numel() for b in model.buffers()) == 964


def test_checkpoints_with_the_loss_object_are_read_and_code_is_refused(checkpoint, tmp_path):
    model, path = checkpoint
    loaded = cnn.load_network(path)
    for one, other in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    assert torch.equal(cnn.load_network(tmp_path / "plain.pth")[0].weight, model[0].weight)

    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"model_state_dict": model.state_dict(), "loss": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(InputError, match="not a file of plain weights"):
        cnn.load_network(tmp_path / "harmful.pth")
    assert not (tmp_path / "written").exists()
    torch.save({"model_state_dict": {"a": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="none that fit"):
        cnn.load_network(tmp_path / "other.pth")


@pytest.mark.parametrize("box", [33, 64, 70])
def test_levels_are_predictions_on_each_volumes_scale(checkpoint, tmp_path, box):
    model, path = checkpoint
    noise = np.random.default_rng(0).normal(size=(box,) * 3).astype("f4")
    for number, scale in enumerate((1.0, 5.0)):
        write_volume(tmp_path / "volumes" / f"vol_{number}.mrc", scale * noise, 4.0)
    levels = cnn.predicted_levels(open_ensemble(tmp_path / "volumes"), path, "cpu")
    assert levels[1] == pytest.approx(5 * levels[0], rel=1e-4)
    if box == 64:
        clipped = np.clip(noise, *np.percentile(noise, (0.001, 99.999)))
        low, high = clipped[clipped > 0].min(), clipped.max()
        scaled = 2 * (np.where(clipped < 0, 0, clipped) - low) / (high - low) - 1
        with torch.inference_mode():
            predicted = model(torch.as_tensor(scaled[None, None].astype("f4"))).item()
        assert levels[0] == pytest.approx((predicted + 1) / 2 * (high - low) + low, rel=1e-4)
    else:
        kept = np.abs(levels[0]) / np.abs(noise).max()
        assert 0 < kept < 1


def test_a_volume_without_positive_density_is_refused(checkpoint, tmp_path):
    write_volume(tmp_path / "volumes" / "vol_0.mrc", np.full((64,) * 3, -1, "f4"), 4.0)
    with pytest.raises(InputError, match="no positive density"):
        cnn.predicted_levels(open_ensemble(tmp_path / "volumes"), checkpoint[1], "cpu")
