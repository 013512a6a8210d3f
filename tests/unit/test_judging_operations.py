"""What judging asks of a device beside the training steps: products, and the memory that the rest moves.

Counted on tensors without values, for the network of the workflow, in bfloat16 as on a GPU.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from counted_operations import Operations
from taught_runs import SMALL_ENCODER
from test_no_waiting import DECODER, fake
from torch._subclasses.fake_tensor import FakeTensorMode

from tomohet.model import latent_terms as terms_module
from tomohet.model import loss
from tomohet.model.latent_terms import latent_terms, misfits, network_share
from tomohet.model.settings import Network
from tomohet.model.taught import stack_posterior
from tomohet.model.vae import build_vae
from tomohet.particles.store import open_store
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.free_latents import STEPS
from tomohet.training.judging import (
    FACTORS_OF_LATENTS,
    PASSES_OF_TRAINING,
    Calendar,
    judging_particles,
    work_of_judging,
)
from tomohet.training.likelihood import Likelihood
from tomohet.training.objectives import DataTerm, VaeObjective
from tomohet.training.splits import SHARE_TRAINED

CPU = torch.device("cpu")
PARTICLES, ZDIM = 8, 8
NETWORK = Network(
    replace(DECODER, zdim=ZDIM, layers=3, width=512, per_axis=None, n_basis=ZDIM),
    replace(SMALL_ENCODER, source="free"),
)


@dataclass(frozen=True)
class PerPoint:
    """Multiply-adds of products, and bytes that other operations move, for one Fourier point."""

    work: float
    moved: float


def per_point(tiny_store, monkeypatch) -> dict[str, PerPoint]:
    """Count a training step and the functions that judge, each on the same Fourier points."""
    monkeypatch.setattr(loss, "CPU_CHUNK_ROWS", loss.CUDA_CHUNK_ROWS)
    monkeypatch.setattr(terms_module, "CPU_CHUNK_ROWS", terms_module.CUDA_CHUNK_ROWS)
    monkeypatch.setattr(terms_module, "depends_on_latents", lambda decoder: True)  # reads a value
    store, model = open_store(tiny_store), build_vae(24, NETWORK, seed=0)
    images = ParticleImages(
        store, np.arange(PARTICLES), CPU, loss_rows=LossRows(dose_mask=True), place="device"
    )
    images = images.knowing(
        start=stack_posterior(*torch.zeros(2, PARTICLES, ZDIM)),
        noise=torch.ones(len(images.params.dose_e_A2)),
    )
    model.decoder.base.slices(torch.zeros(1, 3))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    batch = fake(mode, images.batch(np.arange(PARTICLES)))
    points, z = batch.whole.rows, mode.from_tensor(torch.zeros(PARTICLES, ZDIM))

    def counted(computation) -> PerPoint:
        with mode, Operations() as operations:
            computation()
        return PerPoint(operations.multiply_adds / points, operations.moved_bytes / points)

    def step() -> None:
        objective.losses(batch, 0, None)[0].backward()

    data = DataTerm(images.half_plane, True, True, True, 1.0, torch.bfloat16)
    objective = VaeObjective(model, data, 0.1, None, 100)
    likelihood = Likelihood(images.half_plane, torch.ones(images.half_plane.n))
    with mode:
        rows = likelihood.rows(batch)
    given = {"dtype": torch.bfloat16}
    return {
        "step": counted(step),
        "rows": counted(partial(likelihood.rows, batch)),
        "share": counted(lambda: network_share(model.decoder, rows, z, FACTORS_OF_LATENTS, **given)),
        "misfits": counted(lambda: misfits(model.decoder, rows, z, **given)),
        "terms": counted(lambda: latent_terms(model.decoder, rows, z, **given)),
    }


def test_judging_takes_the_passes_that_the_calendar_counts(tiny_store, monkeypatch):
    found = per_point(tiny_store, monkeypatch)
    of_a_pass = found["step"].work / PASSES_OF_TRAINING
    assert found["share"].work <= 1.02 * len(FACTORS_OF_LATENTS) * of_a_pass
    assert found["misfits"].work <= 1.02 * of_a_pass
    assert found["terms"].work <= PASSES_OF_TRAINING * of_a_pass
    # All factors together move no more memory than a training step does.
    assert found["share"].moved + found["rows"].moved <= found["step"].moved
    assert 0.95 * 30_600 <= found["share"].moved <= 30_600
    assert 0.95 * 11_800 <= found["misfits"].moved <= 11_800
    assert 0.95 * 50_200 <= found["terms"].moved <= 50_200


class Points:
    """Images of `n` particles with `tilts` images of `points` Fourier points each."""

    def __init__(self, n: int, tilts: int, points: int) -> None:
        self.tilts, self.prefix = np.full(n, tilts), np.full(n * tilts, points)

    def __len__(self) -> int:
        return len(self.tilts)


@pytest.mark.parametrize("n", [500, 2000, 20_000])
@pytest.mark.parametrize("epochs", [20, 50])
def test_judging_takes_at_most_a_fifth_of_the_products(tiny_store, monkeypatch, n, epochs):
    """A training of the workflow: 41 tilts of 64 px, a quarter of the points drawn, free latents."""
    cost = {name: one.work for name, one in per_point(tiny_store, monkeypatch).items()}
    points, near, drawn, tilts = 2080, 520, 0.25, 41
    trained = round(SHARE_TRAINED * tilts)
    fitted, unseen = Points(n, trained, points), Points(n, tilts - trained, points)
    sample = judging_particles(unseen.tilts, None, seed=0)
    training = drawn * fitted.prefix.sum()
    work = work_of_judging(fitted, unseen, sample, near, STEPS)
    calendar = Calendar.of(epochs, PASSES_OF_TRAINING * training, *work)
    total = 0.0
    for epoch in filter(calendar.judges, range(epochs)):
        judges = n if sample is None or calendar.is_last(epoch) else len(sample)
        total += judges * (tilts - trained) * points * (cost["rows"] + cost["share"])
        if calendar.infers_latents(epoch):
            images = STEPS * trained + (tilts - trained)  # and both gains on the held-out ones
            total += n * near * (images * cost["terms"] + 2 * (tilts - trained) * cost["misfits"])
    assert total <= 0.2 * epochs * training * cost["step"]
    assert sum(map(calendar.judges, range(epochs))) >= 3
