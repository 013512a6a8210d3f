"""Fused operations compute what the documented ones do, which replace those that are missing or wrong."""

import pytest
import torch

from tomohet.model import fused
from tomohet.model.fused import activate_, activated_product, activation_gradient_

ACTIVATIONS = ("relu", "leaky_relu")


@pytest.fixture
def numbers():
    rng = torch.Generator().manual_seed(3)
    return [torch.randn(size, generator=rng) for size in ((5, 7), (4, 7), (4,), (5, 4))]


def by_autograd(x, name):
    x = x.clone().requires_grad_()
    y = activate_(x * 1, name)
    return y.detach(), torch.autograd.grad(y, x, torch.ones_like(y))[0]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("usable", [None, False])
def test_both_ways_agree_with_autograd(numbers, name, usable, monkeypatch):
    if usable is False:
        monkeypatch.setattr(fused, "_usable", lambda *_: False)
    x, weight, bias, gradient = numbers
    y = activated_product(x, weight, bias, name)
    expected, slope = by_autograd(x @ weight.T + bias, name)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(activation_gradient_(gradient.clone(), y, name), gradient * slope)


def test_an_operation_that_is_missing_or_wrong_is_not_used(monkeypatch, caplog):
    monkeypatch.setattr(fused, "_fused_product", lambda x, weight, bias, name: x @ weight.T)
    assert not fused._agree("product", "cpu", torch.float32, "relu")
    assert "computes something else" in caplog.text

    def missing(*_):
        raise AttributeError("no such operator")

    monkeypatch.setattr(fused, "_fused_gradient_", missing)
    assert not fused._agree("gradient", "cpu", torch.float32, "relu")


def test_they_are_used_where_the_tests_run():
    assert all(fused.ON_CPU.values())
