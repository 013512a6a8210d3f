"""The residual multilayer perceptron of encoder and decoder."""

import torch
from torch import Tensor, nn

from tomohet.model.fused import LEAKY_SLOPE


class ResidualLinear(nn.Module):
    """The block y = W x + b + x; the activation follows outside of the block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (..., width) to (..., width)."""
        return self.linear(x) + x


class ResidualMLP(nn.Module):
    """Linear layer, `hidden_layers` residual blocks and a linear read-out, with an activation between layers.

    A first or last layer whose widths agree is residual as well, so that parameter names and shapes are those
    of the published network (`main.0.weight`, `main.2.linear.weight`, ...).
    """

    def __init__(
        self, n_in: int, hidden_layers: int, width: int, n_out: int, activation: str = "relu"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [_affine(n_in, width), make_activation(activation)]
        for _ in range(hidden_layers):
            layers += [ResidualLinear(width), make_activation(activation)]
        layers.append(_affine(width, n_out))
        self.main = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (..., n_in) to (..., n_out)."""
        return self.main(x)

    def affine_layers(self) -> list[nn.Linear | ResidualLinear]:
        """Return the layers with parameters, first to last."""
        return [layer for layer in self.main if isinstance(layer, nn.Linear | ResidualLinear)]


def folded_affine(layer: nn.Linear | ResidualLinear) -> tuple[Tensor, Tensor]:
    """Return weight (out, in), with the identity of a residual block added, and bias (out,)."""
    if isinstance(layer, ResidualLinear):
        weight = layer.linear.weight
        return weight + torch.eye(len(weight), dtype=weight.dtype, device=weight.device), layer.linear.bias
    return layer.weight, layer.bias


def linear_parameters(layer: nn.Linear | ResidualLinear) -> tuple[Tensor, Tensor]:
    """Return the trained weight and bias of a layer; the folded weight has the same gradient."""
    linear = layer.linear if isinstance(layer, ResidualLinear) else layer
    return linear.weight, linear.bias


@torch.no_grad()
def scale_(layer: nn.Linear | ResidualLinear, factor: float) -> None:
    """Multiply the output of a layer by `factor`, the identity of a residual block included."""
    weight, bias = folded_affine(layer)
    own_weight, own_bias = linear_parameters(layer)
    own_weight += (factor - 1) * weight
    own_bias += (factor - 1) * bias


@torch.no_grad()
def scale_inputs_(layer: nn.Linear | ResidualLinear, first: int, factor: float) -> None:
    """Multiply the effect of a layer's inputs from number `first` on by `factor`, the identity included."""
    weight, _ = folded_affine(layer)
    linear_parameters(layer)[0][:, first:] += (factor - 1) * weight[:, first:]


def make_activation(name: str) -> nn.Module:
    """Make the activation `relu` or `leaky_relu` (slope 0.01)."""
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(LEAKY_SLOPE)


def _affine(n_in: int, n_out: int) -> nn.Linear | ResidualLinear:
    return ResidualLinear(n_in) if n_in == n_out else nn.Linear(n_in, n_out)
