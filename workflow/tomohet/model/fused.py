"""Operations that PyTorch fuses and does not document, each with the documented operations it stands for.

An operation is tried once per device and type, on small numbers. Where a version of PyTorch lacks it, or
computes something else, the documented operations do the work, and one line in the log says so.
"""

import logging
from functools import cache

import torch
from torch import Tensor, nn

LEAKY_SLOPE = 0.01

log = logging.getLogger(__name__)


def activate_(x: Tensor, name: str) -> Tensor:
    """Apply the activation `relu` or `leaky_relu` (slope 0.01) in place."""
    return x.relu_() if name == "relu" else nn.functional.leaky_relu_(x, LEAKY_SLOPE)


def activated_product(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """Compute the activation of `x` (rows, in) times `weight` (out, in) plus `bias`, without gradients.

    On a GPU a separate pass for the activation takes as long as the product, and on a CPU oneDNN's product is
    faster.
    """
    if _usable("product", x.device.type, x.dtype, activation):
        return _fused_product(x, weight, bias, activation)
    return _plain_product(x, weight, bias, activation)


def activation_gradient_(gradient: Tensor, output: Tensor, name: str) -> Tensor:
    """Turn the gradient of an activation's output into that of its input, in place.

    Both activations keep the sign, so `output` tells which branch a value took.
    """
    if _usable("gradient", gradient.device.type, gradient.dtype, name):
        return _fused_gradient_(gradient, output, name)
    return _plain_gradient_(gradient, output, name)


def activation_slope(name: str) -> float:
    """Return the slope of the activation `relu` or `leaky_relu` where its input is not positive."""
    return 0.0 if name == "relu" else LEAKY_SLOPE


def _plain_product(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    return activate_(torch.addmm(bias, x, weight.T), activation)


def _fused_product(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    if x.is_cuda:
        return torch._addmm_activation(bias, x, weight.T)  # pyright: ignore[reportPrivateImportUsage]
    slope = [] if activation == "relu" else [LEAKY_SLOPE]
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, slope, "")


def _plain_gradient_(gradient: Tensor, output: Tensor, name: str) -> Tensor:
    return gradient.mul_(torch.where(output > 0, 1.0, activation_slope(name)).to(gradient.dtype))


def _fused_gradient_(gradient: Tensor, output: Tensor, name: str) -> Tensor:
    if name == "relu":
        return torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)
    return torch.ops.aten.leaky_relu_backward.grad_input(
        gradient, output, LEAKY_SLOPE, True, grad_input=gradient
    )


def _agree(operation: str, device: str, dtype: torch.dtype, activation: str) -> bool:
    """Compare the fused operation with the plain one on small numbers."""
    x = torch.linspace(-1, 1, 12, device=device).reshape(3, 4).to(dtype)
    weight = torch.linspace(-0.5, 1, 8, device=device).reshape(2, 4).to(dtype)
    bias = torch.tensor([0.1, -0.2], device=device).to(dtype)
    try:
        if operation == "product":
            pair = [f(x, weight, bias, activation) for f in (_fused_product, _plain_product)]
        else:
            pair = [f(torch.ones_like(x), x, activation) for f in (_fused_gradient_, _plain_gradient_)]
        agree = torch.allclose(*(one.float() for one in pair), rtol=2e-2, atol=1e-2)
    except (AttributeError, RuntimeError) as failure:
        log.info("no fused %s with %s on %s: %s", operation, activation, device, failure)
        return False
    if not agree:
        log.warning(
            "the fused %s with %s on %s computes something else: not used", operation, activation, device
        )
    return bool(agree)


@cache
def _usable(operation: str, device: str, dtype: torch.dtype, activation: str) -> bool:
    """Say whether the fused operation is there and agrees with the plain one."""
    if device == "cpu":
        if operation == "product" and dtype is not torch.float32:
            return False
        return ON_CPU[operation, activation]
    if operation == "product" and activation != "relu":
        return False
    # Without a GPU only tensors without values can be on one, to count what would be done there.
    return not torch.cuda.is_available() or _agree(operation, device, dtype, activation)


# Tried on import, before anything counts or fakes operations.
ON_CPU = {
    (operation, activation): _agree(operation, "cpu", torch.float32, activation)
    and (operation != "product" or torch.backends.mkldnn.is_available())
    for operation in ("product", "gradient")
    for activation in ("relu", "leaky_relu")
}
