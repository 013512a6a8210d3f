"""A training step never waits for the device: it depends on no value that only the device knows.

The step runs on tensors without values (PyTorch's fake tensors). Reading a value, or a shape that depends on
one, is an error there, and would make a CPU wait for a GPU.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from taught_runs import SMALL_ENCODER
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tomohet.model.settings import DecoderShape, Network
from tomohet.model.taught import MAP_BOX, TaughtEncoder, stack_posterior
from tomohet.model.vae import build_vae
from tomohet.particles.store import open_store
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.objectives import DataTerm, VaeObjective

CPU = torch.device("cpu")
ZDIM = 3


DECODER = DecoderShape(
    zdim=ZDIM, layers=2, width=16, activation="relu", encoding="gaussian", per_axis=3, feat_sigma=0.5,
    extent=0.5, hermitian=True,
)  # fmt: skip


def network(**changed):
    """The small network with some fields of its encoder and its decoder changed."""
    of_encoder = {name: changed.pop(name) for name in ("pooling", "source") if name in changed}
    return Network(replace(DECODER, **changed), replace(SMALL_ENCODER, **of_encoder))


def fake(mode, value):
    """The same structure with every tensor without its values; numpy arrays, the host's, stay as they are."""
    if isinstance(value, torch.Tensor):
        return mode.from_tensor(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(fake(mode, field) for field in value))
    return value


@pytest.mark.parametrize("physical", [False, True])
@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"pooling": "concatenate", "activation": "leaky_relu"},
        {"pooling": "set_encoder"},
        {"pooling": "median", "hermitian": False, "encoding": "none"},
        {"pooling": "max", "n_basis": 2, "encoding": "geom_ft"},
        {"source": "backprojected", "n_basis": 2},
        {"source": "free", "n_basis": 2},
    ],
    ids=lambda changed: changed.get("source", changed.get("pooling", "mean")),
)
def test_a_training_step_reads_nothing_from_the_device(tiny_store, changed, fraction, physical):
    store = open_store(tiny_store)
    images = ParticleImages(store, np.arange(6), CPU, loss_rows=LossRows(dose_mask=True), place="device")
    shape = network(**changed)
    if shape.decoder.n_basis:
        images = images.knowing(
            start=stack_posterior(torch.zeros(6, 2), torch.zeros(6, 2)),
            maps=torch.zeros(6, MAP_BOX**3),
            noise=torch.ones(len(images.params.dose_e_A2)),
        )
    batch = images.batch(np.array([3, 0, 5]))
    model = build_vae(store.box, shape, seed=0)
    if isinstance(model.encoder, TaughtEncoder):
        model.encoder.release()  # before, it is left out
    if model.decoder.base is not None:
        model.decoder.base.slices(torch.zeros(1, 3))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    batch = fake(mode, batch)
    with mode:
        data = DataTerm(images.half_plane, True, True, physical, fraction, torch.bfloat16)
        objective = VaeObjective(model, data, 0.1, None, total_particles=100)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-4)
        losses = objective.losses(batch, 0, None)
        losses[0].backward()
        optimiser.step()
        # The guard itself: reading the loss is what a step must not do.
        with pytest.raises(DataDependentOutputException):
            losses[0].item()
