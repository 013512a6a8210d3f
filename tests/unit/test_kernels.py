"""Kernels for a GPU against the formulas in float64: on a card where there is one, else interpreted."""

import logging

import pytest
import torch
from interpreted import DEVICE, GridExecutor, products_of_bfloat16  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tomohet.model import sweep as sweep_module
from tomohet.model.fused import activation_slope
from tomohet.model.kernels import choice, trial
from tomohet.model.kernels import sweep as kernel_sweep
from tomohet.model.kernels.encoding import encode_rows
from tomohet.model.kernels.last_layer import last_layer
from tomohet.model.kernels.lower_gradient import in_the_product
from tomohet.model.kernels.sweep import KernelSweep
from tomohet.model.kernels.trial import kernels_agree, small_problem
from tomohet.model.loss import reconstruction_loss
from tomohet.model.mlp import linear_parameters
from tomohet.model.sweep import DecoderSweep, sweep_class
from tomohet.physics.slicing import corners_at, gather, transform

ROWS = (1, 7, 129, 300)  # less than a tile, and more than a program has
ACTIVATIONS = ("relu", "leaky_relu")
TYPES = (torch.float32, torch.bfloat16)
# Of the largest number. The interpreter truncates to bfloat16 where a card rounds.
ROUNDING = {torch.float32: 3e-6, torch.bfloat16: 2.0**-7}
SUMMED = 3e-6  # in float32 whatever the type of the factors


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(5)
    return lambda *shape: torch.randn(*shape, generator=generator).to(DEVICE)


def assert_close(found, expected, tolerance):
    difference = (found.double() - expected.double()).abs().max()
    assert difference <= tolerance * expected.abs().max(), f"{difference} of {expected.abs().max()}"


def activated(x, name):
    return torch.where(x > 0, x, x * activation_slope(name))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("frequencies", "columns"), [(5, 16), (70, 144)])
def test_encoding_and_membership(draw, rows, frequencies, columns, dtype):
    k, waves = draw(rows, 3) / 4, draw(frequencies, 3) * 16
    particle = torch.arange(rows, device=DEVICE) * 4 // rows + 2
    out = torch.full((rows, columns), torch.nan, dtype=dtype, device=DEVICE)
    encode_rows(out, k, particle, 3, waves)
    phase = k.double() @ waves.double().T
    for part, expected in enumerate((phase.sin(), phase.cos())):
        features = out[:, part * frequencies : (part + 1) * frequencies]
        # Phases of up to 100 are in float32, as those of the reference are.
        assert_close(features, expected, 2e-5 if dtype is torch.float32 else ROUNDING[dtype])
    member = torch.arange(columns - 2 * frequencies, device=DEVICE) + 3
    assert torch.equal(out[:, 2 * frequencies :], (particle[:, None] == member).to(dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("over_base", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("width", [24, 128])
@pytest.mark.parametrize("rows", ROWS)
def test_last_layer(draw, rows, width, activation, over_base, dtype, monkeypatch):
    monkeypatch.setattr("tomohet.model.kernels.last_layer.TILES", 4)
    hidden = activated(draw(rows, width), activation).to(dtype)
    weight, bias = draw(2, width).to(dtype), draw(2).to(dtype)
    measured = draw(rows, 2), draw(rows), draw(rows).abs()
    base = (draw(rows, 2), torch.empty(rows, 2, device=DEVICE)) if over_base else None
    before = torch.empty_like(hidden)
    slope = activation_slope(activation)
    found = last_layer(hidden, weight, bias, measured, slope, before, base)

    h, w, b, from_base = (
        x.double().requires_grad_() for x in (hidden, weight, bias, base[0] if base else torch.zeros(1, 2))
    )
    value, transfer, row_weight = (x.double() for x in measured)
    residual = transfer[:, None] * (h @ w.T + b + from_base.to(DEVICE)) - value
    loss = (row_weight[:, None] * residual**2).sum()
    by_hidden, by_weight, by_bias, by_base = torch.autograd.grad(loss, (h, w, b, from_base))
    by_hidden = torch.where(hidden > 0, by_hidden, by_hidden * slope)
    assert_close(found.loss, loss.detach(), SUMMED)
    assert_close(found.weight, by_weight, SUMMED)
    assert_close(found.bias, by_bias, SUMMED)
    assert_close(found.lower_bias, by_hidden.sum(0), 2 * SUMMED)
    assert_close(before, by_hidden, ROUNDING[dtype])
    if base:
        assert_close(base[1], by_base, SUMMED)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(24, 40), (64, 160)])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("way", choice.WAYS)
def test_lower_gradient(draw, way, rows, shape, activation, dtype):
    gradient, weight = draw(rows, shape[0]).to(dtype), draw(*shape).to(dtype)
    lower = activated(draw(rows, shape[1]), activation).to(dtype)
    slope = activation_slope(activation)
    out = torch.empty_like(lower)
    sums = choice.WAYS[way](gradient, weight, lower, slope, out, True)
    expected = gradient.double() @ weight.double()
    expected = torch.where(lower > 0, expected, expected * slope)
    # What cuBLAS writes is rounded before the slope and the sums see it.
    first = way == choice.FIRST and dtype is torch.bfloat16
    assert_close(out, expected, 2 * ROUNDING[dtype])
    assert_close(sums, expected.sum(0), ROUNDING[dtype] if first else 1e-5)
    assert choice.WAYS[way](gradient, weight, lower, slope, out, False) is None
    assert_close(out, expected, 2 * ROUNDING[dtype])


def test_sums_of_bfloat16_do_not_lose_small_numbers():
    """In bfloat16, 256 + 1 is 256: a sum there would stop at 256."""
    rows = 2000
    ones = torch.ones(rows, 16, dtype=torch.bfloat16, device=DEVICE)
    one = torch.eye(16, dtype=torch.bfloat16, device=DEVICE)
    for way in choice.WAYS.values():
        sums = way(ones, one, ones, 0.0, torch.empty_like(ones), True)
        assert torch.equal(sums, torch.full_like(sums, rows))


def textbook(decoder, z, rows):
    """The loss of `tomohet.model.loss` in float64, by autograd through the layers as they are."""
    k, phase = rows.k.double(), rows.k.double() @ decoder.freqs.double().T
    inputs = torch.empty(len(k), decoder.n_features, dtype=torch.float64, device=DEVICE)
    inputs[:, decoder.columns] = torch.cat((phase.sin(), phase.cos()), dim=1)
    value = decoder.decoder(torch.cat((inputs, z[rows.particle]), dim=1))
    if decoder.base is not None:
        maps = transform(torch.cat([decoder.base.mean[None], decoder.base.basis]))
        slices = torch.view_as_real(gather(maps, *corners_at(k * decoder.box, decoder.box)))
        latents = z[rows.particle, : decoder.base.n_basis]
        value = value + slices[:, 0] + torch.einsum("rj,rjc->rc", latents, slices[:, 1:])
    residual = rows.transfer.double()[:, None] * value - rows.value.double()
    return (rows.weight.double()[:, None] * residual**2).sum() / rows.full_count


def loss_and_gradients(loss, decoder, z, *others, **options):
    parameters = [p for layer in decoder.decoder.affine_layers() for p in linear_parameters(layer)]
    z = z.clone().requires_grad_()
    value = loss(decoder, z, *others, **options)
    return [value.detach(), *torch.autograd.grad(value, [z, *parameters])]


@pytest.mark.parametrize("way", ["cuBLAS and one pass", "tiles of 64 x 128"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n_basis", [0, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_and_gradients_of_a_batch(monkeypatch, activation, n_basis, dtype, way):
    monkeypatch.setattr(sweep_module, "sweep_class", lambda *_: KernelSweep)
    monkeypatch.setattr(kernel_sweep, "lower_gradient", choice.WAYS[way])
    decoder, rows, z = small_problem(DEVICE, activation, n_basis)
    options = {"chunk_rows": 200, "dtype": dtype}
    found = loss_and_gradients(reconstruction_loss, decoder, z, rows, **options)
    monkeypatch.setattr(sweep_module, "sweep_class", lambda *_: DecoderSweep)
    reference = loss_and_gradients(reconstruction_loss, decoder, z, rows, **options)
    exact = loss_and_gradients(textbook, decoder.double(), z.double(), rows)
    for one, other, number in zip(found, reference, exact, strict=True):
        # The reference in bfloat16 differs from float64 by up to a tenth, where large numbers cancel.
        error, usual = (one - number).norm(), (other - number).norm()
        assert error <= 1.5 * usual + 1e-5 * number.norm()


class ActivationPasses(TorchDispatchMode):
    """Names of PyTorch's operations, except products, that read or write `size` numbers or more."""

    PRODUCTS = ("mm", "addmm", "addmm_", "_linear_pointwise", "_addmm_activation")

    def __init__(self, size):
        super().__init__()
        self.size, self.found = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        large = any(isinstance(x, torch.Tensor) and x.numel() >= self.size for x in (*args, out))
        if large and not func.is_view and name not in (*self.PRODUCTS, "detach"):
            self.found.append(name)
        return out


@torch.no_grad()
def test_pytorch_passes_over_no_activations(monkeypatch):
    launch = GridExecutor.__call__

    def unwatched(*arguments, **options):
        with _disable_current_modes():
            return launch(*arguments, **options)

    monkeypatch.setattr(GridExecutor, "__call__", unwatched)
    monkeypatch.setattr(kernel_sweep, "lower_gradient", choice.WAYS["tiles of 64 x 128"])
    decoder, rows, z = small_problem(DEVICE, "relu", 0)
    found = {}
    for kind in (DecoderSweep, KernelSweep):
        sweep = kind(decoder.folded(), rows, z, len(rows))
        with ActivationPasses(len(rows) * trial.WIDTH) as watch:
            sweep.run()
        found[kind] = sorted(watch.found)
    assert found == {
        DecoderSweep: ["relu_", "sum", "sum", *["threshold_backward"] * 3],
        KernelSweep: [],
    }


@torch.no_grad()
def test_a_decoder_without_hidden_blocks():
    decoder, rows, z = small_problem(DEVICE, "relu", 0)
    shallow = type(decoder)(trial.BOX, trial.ZDIM, 0, 32).to(DEVICE)
    found, expected = (
        kind(shallow.folded(), rows, z, 200).run().totals() for kind in (KernelSweep, DecoderSweep)
    )
    for one, other in zip(found, expected, strict=True):
        if other.numel():
            assert_close(one, other, 1e-5)


@torch.no_grad()
def test_results_repeat_bit_for_bit():
    decoder, rows, z = small_problem(DEVICE, "relu")
    once, again = (
        KernelSweep(decoder.folded(torch.bfloat16), rows, z, 128, decoder.base).run().totals()
        for _ in range(2)
    )
    assert all(map(torch.equal, once, again))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_trial_accepts_the_kernels(dtype, activation):
    assert kernels_agree.__wrapped__(DEVICE, dtype, activation)


def test_the_trial_refuses_kernels_that_are_wrong_or_fail(monkeypatch, caplog):
    def without_bias(*arguments):
        found = last_layer(*arguments)
        found.bias.zero_()
        return found

    monkeypatch.setattr(kernel_sweep, "last_layer", without_bias)
    assert not kernels_agree.__wrapped__(DEVICE, torch.float32, "relu")
    assert "something else" in caplog.text

    def no_compiler(*_):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(kernel_sweep, "last_layer", no_compiler)
    assert not kernels_agree.__wrapped__(DEVICE, torch.float32, "relu")
    assert "RuntimeError Failed to find C compiler" in caplog.text


@pytest.fixture
def arguments(draw):
    lower = draw(40, 24).relu()
    return draw(40, 16), draw(16, 24), lower, 0.0, torch.empty_like(lower), True


def timer_of(monkeypatch, times):
    """Make a way of every time; return a timer that gives the times in the order of the ways."""
    monkeypatch.setattr(choice, "WAYS", {name: choice.WAYS[choice.FIRST] for name in times})
    remaining = iter(times.values())
    return lambda call: next(remaining)


@pytest.mark.parametrize(("time", "chosen"), [(0.8, "tiles"), (0.97, choice.FIRST), (1.2, choice.FIRST)])
def test_the_faster_way_is_chosen_where_it_is_faster_than_noise(monkeypatch, arguments, time, chosen):
    timer = timer_of(monkeypatch, {choice.FIRST: 1.0, "tiles": time})
    assert choice.fastest(arguments, timer) == (chosen, {choice.FIRST: 1.0, "tiles": time})


def test_ways_that_fail_or_differ_are_not_chosen(monkeypatch, arguments, caplog):
    def no_memory(*_):
        raise RuntimeError("out of resource: shared memory")

    def wrong(gradient, weight, lower, slope, out, sums):
        return in_the_product(gradient * 1.1, weight, lower, slope, out, sums)

    ways = {choice.FIRST: choice.WAYS[choice.FIRST], "no memory": no_memory, "wrong": wrong}
    monkeypatch.setattr(choice, "WAYS", ways)
    with caplog.at_level(logging.DEBUG, choice.log.name):
        assert choice.fastest(arguments, lambda call: 1.0) == (choice.FIRST, {choice.FIRST: 1.0})
    assert "shared memory" in caplog.text and "wrong differs" in caplog.text


def test_a_cpu_does_without_kernels():
    decoder, _, z = small_problem(torch.device("cpu"), "relu")
    assert sweep_class(decoder.folded(), z) is DecoderSweep
