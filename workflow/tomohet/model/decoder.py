"""The decoder V(k, z): one complex Fourier value of the particle's volume per coordinate and latent.

Images are real, so V(-k) is the conjugate of V(k). A Hermitian decoder is evaluated on one lexicographic
half of Fourier space only and conjugated elsewhere: half the work, and every decoded volume is real. The
published network (tomoDRGN) evaluates k and -k independently; `hermitian=False` reproduces it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tomohet.model.lanes import lane_count, run_in_lanes
from tomohet.model.linear_base import LinearBase
from tomohet.model.mlp import ResidualMLP, activate_, folded_affine, linear_parameters
from tomohet.model.positional import encode_into, feature_count, frequency_matrix, reference_columns
from tomohet.physics.fourier import half_ball

# Points evaluated together: activations that stay in a CPU's cache; enough work to fill a GPU.
CPU_CHUNK_ROWS = 2048
CUDA_CHUNK_ROWS = 131_072

# Over a linear base the MLP starts small: what it adds is yet to be learnt.
FIRST_SHARE_OVER_BASE = 0.1


class Decoder(nn.Module):
    """MLP from [positional encoding of k, z] to (a, b).

    Hermitian: V = a + ib on the half space. Otherwise a - b is the Hartley value at every k.

    Parameters
    ----------
    box : side of the images, px (even)
    zdim : latent size; 0 for a homogeneous volume
    hidden_layers, width, activation : of the residual MLP
    encoding, per_axis, feat_sigma : positional encoding; `per_axis` None means box // 2
    n_basis : basis maps of a linear model that the MLP adds to (0: none); see `fill` of `base`
    extent : half-width of the coordinate lattice that the network sees (0.5: cycles per pixel)
    generator : draws the frequencies of the gaussian encoding
    """

    def __init__(
        self,
        box: int,
        zdim: int,
        hidden_layers: int = 3,
        width: int = 256,
        *,
        activation: str = "relu",
        encoding: str = "gaussian",
        per_axis: int | None = None,
        feat_sigma: float = 0.5,
        extent: float = 0.5,
        hermitian: bool = True,
        n_basis: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.box, self.zdim, self.activation = box, zdim, activation
        self.encoding, self.extent, self.hermitian = encoding, extent, hermitian
        per_axis = per_axis or box // 2
        generator = generator or torch.Generator().manual_seed(0)
        frequencies = frequency_matrix(encoding, box // 2, per_axis, feat_sigma, generator)
        if encoding == "gaussian":
            self.freqs = nn.Parameter(frequencies, requires_grad=False)
        else:
            self.register_buffer("freqs", frequencies, persistent=False)
        self.n_features = feature_count(encoding, per_axis)
        self.register_buffer("columns", reference_columns(encoding, per_axis), persistent=False)
        self.decoder = ResidualMLP(self.n_features + zdim, hidden_layers, width, 2, activation)
        self.base = LinearBase(box, n_basis) if n_basis else None
        if self.base is not None:
            with torch.no_grad():
                for parameter in linear_parameters(self.decoder.affine_layers()[-1]):
                    parameter *= FIRST_SHARE_OVER_BASE

    def folded(self, dtype: torch.dtype = torch.float32) -> "FoldedDecoder":
        """The weights in the form that evaluation needs: residuals folded, first layer split into k and z."""
        layers = [folded_affine(layer) for layer in self.decoder.affine_layers()]
        weight, bias = layers[0]
        first = weight[:, self.columns], weight[:, self.n_features :]
        return FoldedDecoder(
            coordinate_weight=first[0].to(dtype),
            latent_weight=first[1],
            first_bias=bias.to(dtype),
            layers=[(w.to(dtype), b.to(dtype)) for w, b in layers[1:]],
            frequencies=self.freqs * (self.extent / 0.5),
            coordinate_scale=self.extent / 0.5,
            activation=self.activation,
            hermitian=self.hermitian,
        )

    def fourier(self, k: Tensor, z: Tensor, chunk_rows: int = CPU_CHUNK_ROWS) -> Tensor:
        """Volume values at points for latents, without gradients.

        Parameters
        ----------
        k : (rows, 3) coordinates (x, y, z), cycles/px
        z : (m, zdim) latents

        Returns
        -------
        (m, rows) complex64
        """
        with torch.no_grad():
            values = _evaluate(self.folded(), k, z, chunk_rows)
            return values if self.base is None else values + self.base.values(k, z)

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Real maps (m, d, d, d) with mean 0 for latents (m, zdim), in the units of the prepared images.

        d is `box`, at most the decoder's own: the smaller map's frequencies alone are evaluated.
        """
        box = box or self.box
        ball = half_ball(box, self.freqs.device)
        frequency = ball.k.float() / self.box
        chunk_rows = CUDA_CHUNK_ROWS if z.is_cuda else CPU_CHUNK_ROWS
        with torch.no_grad():
            maps = ball.volume(_evaluate(self.folded(), frequency, z, chunk_rows), self.box)
            # The base is added as maps: on its own lattice interpolation is at its worst.
            return maps if self.base is None else maps + self.base.volumes(z, box)


@dataclass(frozen=True)
class FoldedDecoder:
    """Decoder weights ready for matrix products; shapes (out, in). `layers` is all but the first."""

    coordinate_weight: Tensor
    latent_weight: Tensor
    first_bias: Tensor
    layers: list[tuple[Tensor, Tensor]]
    frequencies: Tensor
    coordinate_scale: float
    activation: str
    hermitian: bool

    def features(self, k: Tensor) -> Tensor:
        """Positional encoding (rows, features) of `k` (rows, 3)."""
        out = torch.empty(
            len(k), self.coordinate_weight.shape[1], dtype=self.first_bias.dtype, device=k.device
        )
        encode_into(out, k if len(self.frequencies) else k * self.coordinate_scale, self.frequencies)
        return out

    def after_first_layer(self, hidden: Tensor) -> Tensor:
        """The two outputs (rows, 2) from the first layer's pre-activations (rows, width), which are spent."""
        for weight, bias in self.layers:
            hidden = torch.addmm(bias, activate_(hidden, self.activation), weight.T)
        return hidden


def half_space_sign(k: Tensor) -> Tensor:
    """+1 where `k` (rows, 3) lies in the lexicographic half space (z, then y, then x positive), else -1."""
    x, y, z = k.unbind(-1)
    leading = torch.where(z != 0, z, torch.where(y != 0, y, x))
    return torch.where(leading < 0, -1.0, 1.0)


def read_hartley(out: Tensor) -> Tensor:
    """Real and imaginary parts (rows, 2) at k from outputs (2 rows, 2) at k and then at -k.

    The Hartley value is a - b, and H(k) = Re - Im, H(-k) = Re + Im.
    """
    plus, minus = (out[:, 0] - out[:, 1]).chunk(2)
    return torch.stack(((plus + minus) / 2, (minus - plus) / 2), dim=1)


def read_hartley_gradient(gradient: Tensor) -> Tensor:
    """The adjoint of `read_hartley`: (rows, 2) to (2 rows, 2)."""
    real, imaginary = gradient.unbind(1)
    hartley = torch.cat(((real - imaginary) / 2, (real + imaginary) / 2))
    return torch.stack((hartley, -hartley), dim=1)


def _evaluate(folded: FoldedDecoder, k: Tensor, z: Tensor, chunk_rows: int) -> Tensor:
    """Values (m, rows); the coordinate half of the first layer is computed once for all latents."""
    sign = half_space_sign(k)
    values = torch.empty(len(z), len(k), dtype=torch.complex64, device=k.device)
    from_latent = z.to(folded.latent_weight.dtype) @ folded.latent_weight.T
    latents_at_once = max(1, chunk_rows // max(len(k), 1))

    def evaluate(starts: range) -> None:
        for start in starts:
            part = slice(start, start + chunk_rows)
            points = k[part] * sign[part, None] if folded.hermitian else torch.cat((k[part], -k[part]))
            hidden = torch.addmm(folded.first_bias, folded.features(points), folded.coordinate_weight.T)
            for first in range(0, len(z), latents_at_once):
                block = slice(first, first + latents_at_once)
                with_latent = hidden[None] + from_latent[block, None]
                out = folded.after_first_layer(with_latent.flatten(0, 1)).view(-1, len(points), 2)
                values[block, part] = _complex(out, sign[part], folded.hermitian)

    every = range(0, len(k), chunk_rows)
    lanes = lane_count(k.device, len(every))
    run_in_lanes(evaluate, [every[lane::lanes] for lane in range(lanes)])
    return values


def _complex(out: Tensor, sign: Tensor, hermitian: bool) -> Tensor:
    """Complex values (m, rows) at k from outputs (m, points, 2) of m latents."""
    if hermitian:
        return torch.complex(out[..., 0], out[..., 1] * sign)
    return torch.view_as_complex(torch.stack([read_hartley(one) for one in out]))
