"""A training step from fixed buffers: the numbers of a step without them, recorded, replayed and checked."""

import logging

import numpy as np
import pytest
import torch
from recorded_operations import RecordedOperations
from test_no_waiting import network

from tomohet.model.taught import MAP_BOX, TaughtEncoder, stack_posterior
from tomohet.model.vae import build_vae
from tomohet.particles.store import open_store
from tomohet.processes import ALONE, Processes
from tomohet.training import passes
from tomohet.training.batches import LossRows, ParticleImages
from tomohet.training.objectives import DataTerm, VaeObjective
from tomohet.training.passes import RUNGS, FixedPasses, rounded_up

CPU = torch.device("cpu")
NETWORKS = [
    {},
    {"pooling": "concatenate", "activation": "leaky_relu"},
    {"pooling": "set_encoder"},
    {"pooling": "median", "hermitian": False, "encoding": "none"},
    {"pooling": "max", "n_basis": 2, "encoding": "geom_ft"},
    {"source": "backprojected", "n_basis": 2},
    {"source": "free", "n_basis": 2},
]


class Step:
    """A network, the images of ten particles with different numbers of tilts, and passes over them."""

    def __init__(self, folder, changed, fraction=1.0, graph=RecordedOperations, processes=ALONE):
        store = open_store(folder)
        particles = np.arange(10)
        keep = np.random.default_rng(0).random(len(store.images_of(particles))) < 0.8
        rows = LossRows(dose_mask=True)
        self.images = ParticleImages(
            store,
            particles,
            CPU,
            loss_rows=rows,
            keep=keep,
            place="device",
            batch_size=4,
            processes=processes,
        )
        shape = network(**changed)
        if shape.decoder.n_basis:
            draw = torch.Generator().manual_seed(0)
            start = stack_posterior(*torch.randn(2, 10, 2, generator=draw))
            self.images = self.images.knowing(start=start, maps=torch.randn(10, MAP_BOX**3, generator=draw))
        model = build_vae(store.box, shape, seed=0)
        if isinstance(model.encoder, TaughtEncoder):
            model.encoder.release()
        if model.decoder.base is not None:
            maps = torch.randn(3, *(store.box,) * 3, generator=draw)
            model.decoder.base.fill(maps[0], maps[1:])
        self.trained = [p for p in model.parameters() if p.requires_grad]
        data = DataTerm(self.images.half_plane, True, True, True, fraction, torch.float32)
        self.objective = VaeObjective(model, data, "a", None, total_particles=100)
        self.passes = FixedPasses(self.objective, self.images, self.trained, fraction, graph)

    def fetched(self, *groups):
        return list(self.images.fetched([np.array(group) for group in groups]))

    def fixed(self, fetched, seen=10, seed=1):
        losses = self.passes(fetched, seen, seed)
        return [losses, *(None if p.grad is None else p.grad.clone() for p in self.trained)]

    def plain(self, fetched, seen=10, seed=1):
        generator = torch.Generator().manual_seed(seed)
        losses = self.objective.losses(self.images.gathered(fetched), seen, generator)
        gradients = torch.autograd.grad(losses[0], self.trained, allow_unused=True)
        return [torch.stack([one.detach().double() for one in losses]), *gradients]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def assert_close(found, expected, rel=2e-5):
    # Some gradients are zero but for rounding errors, as that of the set encoder's biases of keys.
    largest = max(float(other.norm()) for other in expected[1:] if other is not None)
    for one, other in zip(found, expected, strict=True):
        if other is None:
            assert one is None
        else:
            assert float((one - other).norm()) <= rel * max(float(other.norm()), 1e-3 * largest)


def test_sizes_are_few_and_close_above():
    sizes = [rounded_up(n) for n in range(1, 100_000)]
    assert all(n <= size <= n * (1 + 1 / RUNGS) for n, size in enumerate(sizes, 1))
    assert len(set(sizes[50_000:])) <= RUNGS + 1


@pytest.mark.parametrize("changed", NETWORKS, ids=lambda c: c.get("source", c.get("pooling", "mean")))
def test_rows_and_images_without_weight_change_nothing(tiny_store, changed):
    step = Step(tiny_store, changed)
    for fetched in step.fetched([3, 0, 5], [1, 2, 9]):
        assert_close(step.fixed(fetched), step.plain(fetched))


@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize("changed", NETWORKS, ids=lambda c: c.get("source", c.get("pooling", "mean")))
def test_a_replay_is_the_step_to_the_last_bit(tiny_store, changed, fraction, caplog, monkeypatch):
    monkeypatch.setattr(passes, "RUNGS", 2)  # different batches share a graph
    recorded, without = Step(tiny_store, changed, fraction), Step(tiny_store, changed, fraction)
    without.passes.usable = False
    groups = [[3, 0, 5], [1, 2, 9], [4, 7, 8], [6, 1, 0], [2, 3, 4], [9, 8, 7]] * 2
    for number, (ours, theirs) in enumerate(
        zip(recorded.fetched(*groups), without.fetched(*groups), strict=True)
    ):
        found = recorded.fixed(ours, 7 * number, number)
        for one, other in zip(found, without.fixed(theirs, 7 * number, number), strict=True):
            assert one is other is None or torch.equal(one, other)
    assert recorded.passes.usable and not warnings(caplog)
    assert recorded.passes.replays >= 7 and without.passes.replays == 0


class Stale(RecordedOperations):
    """A graph that repeats the first random numbers, as one whose generator was not registered."""

    def replay(self):
        self._calls = [call for call in self._calls if "rand" not in str(call[0])]
        super().replay()


class Impossible(RecordedOperations):
    def record(self, work, generator, beside=None):
        torch.ones(1).item()
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(("graph", "reason"), [(Stale, "differs"), (Impossible, "cannot be recorded")])
def test_a_graph_that_is_wrong_or_impossible_is_not_used(tiny_store, graph, reason, caplog):
    step, without = Step(tiny_store, {}, graph=graph), Step(tiny_store, {})
    without.passes.usable = False
    groups = [[3, 0, 5]] * 4
    with caplog.at_level(logging.WARNING):
        for number, fetched in enumerate(step.fetched(*groups)):
            found = step.fixed(fetched, seed=number)
            for one, other in zip(found, without.fixed(fetched, seed=number), strict=True):
                assert torch.equal(one, other)
    assert not step.passes.usable
    assert [reason in message for message in warnings(caplog)] == [True]


def test_what_changes_between_epochs_is_recorded_anew(tiny_store):
    step = Step(tiny_store, {"source": "free", "n_basis": 2})
    fetched = step.fetched([3, 0, 5])[0]
    for _ in range(5):
        step.fixed(fetched)
    step.images = step.images.knowing(start=step.images.start + 1)
    step.passes.begin(step.images)
    for _ in range(5):
        assert_close(step.fixed(fetched), step.plain(fetched))


def test_parts_of_processes_add_up_to_the_whole(tiny_store):
    total, whole = None, Step(tiny_store, {}, 1.0)
    group = whole.images.shuffled(np.random.default_rng(0))[0]
    for rank in range(2):
        part = Step(tiny_store, {}, 1.0, processes=Processes(rank, 2))
        found = [part.fixed(part.fetched(group)[0]) for _ in range(5)][-1]
        assert part.passes.usable and part.passes.replays == 4
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    expected = whole.plain(whole.fetched(group)[0])
    assert_close(total, expected)
