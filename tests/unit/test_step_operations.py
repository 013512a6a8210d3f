"""What a training step of the production network asks of a device: its operations, and the memory they move.

The step runs on tensors without values, in one chunk as on a GPU. There an operation is one kernel or a few.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from counted_operations import Operations
from recorded_operations import RecordedOperations
from taught_runs import SMALL_ENCODER
from test_no_waiting import DECODER, fake, network
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from tomohet.model import loss
from tomohet.model.settings import Network
from tomohet.model.vae import build_vae
from tomohet.particles.store import open_store
from tomohet.training import optimiser_step
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.objectives import DataTerm, VaeObjective
from tomohet.training.optimiser_step import OptimiserStep

CPU = torch.device("cpu")
PRODUCTION = Network(
    replace(DECODER, zdim=128, layers=3, width=512, per_axis=None),
    replace(SMALL_ENCODER, layers_a=3, width_a=256, out_a=128, layers_b=3, width_b=256),
)


def counted(store, fraction: float) -> tuple[Operations, int]:
    """Operations of forward and backward pass of a batch of 8 particles, and its Fourier points."""
    images = ParticleImages(store, np.arange(8), CPU, loss_rows=LossRows(dose_mask=True), place="device")
    batch, model = images.batch(np.arange(8)), build_vae(store.box, PRODUCTION, seed=0)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    batch = fake(mode, batch)
    objective = VaeObjective(
        model, DataTerm(images.half_plane, True, True, False, fraction, torch.bfloat16), 0.1, None, 100
    )
    with mode, Operations() as operations:
        objective.losses(batch, 0, None)[0].backward()
    return operations, batch.whole.rows


@pytest.mark.parametrize(("fraction", "most", "most_bytes"), [(1.0, 480, 30_900), (0.25, 485, 9_250)])
def test_a_step_asks_for_few_operations(tiny_store, monkeypatch, fraction, most, most_bytes):
    monkeypatch.setattr(loss, "CPU_CHUNK_ROWS", loss.CUDA_CHUNK_ROWS)
    operations, points = counted(open_store(tiny_store), fraction)
    found = (operations.total, operations.moved_bytes / points)
    assert most - 15 <= found[0] <= most
    assert 0.95 * most_bytes <= found[1] <= most_bytes


class OneLaunch(RecordedOperations):
    """A graph whose replay counts as no operation, as CUDA launches it at once."""

    def replay(self):
        with _disable_current_modes():
            super().replay()


def test_a_replayed_step_launches_little_beside_its_graph(tiny_store, monkeypatch):
    monkeypatch.setattr(optimiser_step, "graphs_on", lambda device: OneLaunch)
    store = open_store(tiny_store)
    images = ParticleImages(store, np.arange(8), CPU, loss_rows=LossRows(dose_mask=True), place="device")
    model = build_vae(store.box, network(), seed=0)
    data = DataTerm(images.half_plane, True, True, False, 0.25, torch.float32)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    step = OptimiserStep(VaeObjective(model, data, 0.1, None, 100), images, trained, optimiser)
    batches = images.fetched([np.arange(8)] * 8)
    for number in range(6):  # all replays that are compared, and more
        step(next(batches), 8 * number, number, 0)
    with Operations() as operations:
        step(next(batches), 48, 6, 0)
    assert step.passes.replays >= 5
    # The optimiser counts the steps of every parameter in one call each on a CPU, and in one of all on a GPU.
    beside = operations.total - operations.names["add_"]
    assert 0 < beside <= 8, operations.names


def test_only_work_is_counted():
    x = torch.ones(4, 8)
    with Operations() as operations:
        (x.T[1:] + 1).sum()
        torch.mm(x, x.T)
    assert operations.names == {"add": 1, "sum": 1, "mm": 1}
    assert operations.moved_bytes == 4 * (28 + 28 + 28 + 1)
