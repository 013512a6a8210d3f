"""The decoder V(k, z): one complex Fourier value of the particle's volume per coordinate and latent.

Images are real, so V(-k) is the conjugate of V(k). A Hermitian decoder is evaluated on one lexicographic
half of Fourier space only and conjugated elsewhere: half the work, and every decoded volume is real. The
published network (tomoDRGN) evaluates k and -k independently; `hermitian=False` reproduces it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tomohet.model.fused import activate_, activated_product
from tomohet.model.lanes import lane_count, run_in_lanes
from tomohet.model.linear_base import LinearBase
from tomohet.model.mlp import (
    ResidualMLP,
    folded_affine,
    scale_,
)
from tomohet.model.positional import encode_into, feature_count, frequency_matrix, reference_columns
from tomohet.physics.lattice import half_ball

# Points evaluated together: few enough for a CPU's cache to hold their activations, or enough to fill a GPU.
CPU_CHUNK_ROWS = 2048
CUDA_CHUNK_ROWS = 131_072
CPU_CHUNK_VALUES = 2**19  # of one layer at most, when nothing is kept for a backward pass

# Bounds on the memory that decoding volumes takes, whatever their size and number.
KEPT_BYTES = 2**30  # products of the first layer that are kept for all latents
VALUES_BYTES = 2**30  # Fourier values of the latents that share one pass over the points
MAP_BYTES = 2**26  # maps transformed at once on a GPU, and then copied into page-locked memory

# Over a linear base the MLP starts small, because its contribution is not learnt yet.
FIRST_SHARE_OVER_BASE = 0.1


class Decoder(nn.Module):
    """The decoder: an MLP from [positional encoding of k, z] to two numbers (a, b).

    A Hermitian decoder gives V = a + ib on the half space. Otherwise a - b is the Hartley value at every k.

    Parameters
    ----------
    box : side of the images, px (even)
    zdim : latent size; 0 for a homogeneous volume
    hidden_layers, width, activation : of the residual MLP
    encoding, per_axis, feat_sigma : positional encoding; `per_axis` None means box // 2
    n_basis : number of basis maps of the linear model that the MLP adds to (0: no linear model); `base.fill`
        sets the maps
    extent : half-width of the coordinate lattice that the network sees (0.5: cycles per pixel)
    generator : random generator for the frequencies of the gaussian encoding

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
        self.freqs: Tensor
        self.columns: Tensor
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
            scale_(self.decoder.affine_layers()[-1], FIRST_SHARE_OVER_BASE)

    def folded(self, dtype: torch.dtype = torch.float32) -> "FoldedDecoder":
        """Return the weights as evaluation needs them: residuals folded, first layer split into k and z."""
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

    @torch.no_grad()
    def fourier(self, k: Tensor, z: Tensor, chunk_rows: int | None = None) -> Tensor:
        """Evaluate volumes at points for latents, without gradients.

        Parameters
        ----------
        k : (rows, 3) coordinates (x, y, z), cycles/px
        z : (m, zdim) latents

        Returns
        -------
        (m, rows) complex64

        """
        values = FixedPoints(self.folded(), k, chunk_rows).values(z)
        return values if self.base is None else values + self.base.values(k, z)

    def volumes(self, z: Tensor, box: int | None = None) -> Tensor:
        """Decode real maps (m, d, d, d) with mean 0 from latents (m, zdim).

        The maps are in the units of the prepared images. d is `box`, at most the decoder's own. Only the
        frequencies of the smaller map are evaluated.
        """
        return torch.cat(list(self.decode(z, box, batch=len(z))))

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        box: int | None = None,
        *,
        batch: int = 32,
        radius: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[Tensor]:
        """Yield the maps of `volumes` a few at a time, in bounded memory whatever their size and number.

        batch : latents that share one pass over the points; fewer where their values take too much memory
        radius : leave out points beyond this |k|, Fourier pixels of `box`
        dtype : of the hidden layers' products; coordinates, the first layer and the output are float32
        """
        box = box or self.box
        ball = half_ball(box, z.device)
        n = ball.n if radius is None else int((ball.radius <= radius + 1e-4).sum())
        points = FixedPoints(self.folded(), ball.k[:n].float() / self.box, dtype=dtype)
        for some in z.split(latents_at_once(n, batch)):
            together = maps_at_once(box, z.device)
            values = points.values(some).split(together)
            for part, latents in zip(values, some.split(together), strict=True):
                maps = ball.volume(nn.functional.pad(part, (0, ball.n - n)), self.box)
                # The base is added as maps: interpolation at its own lattice points is least accurate.
                yield maps if self.base is None else maps + self.base.volumes(latents, box)


@dataclass(frozen=True)
class FoldedDecoder:
    """Decoder weights ready for matrix products, of shapes (out, in); `layers` is all but the first."""

    coordinate_weight: Tensor
    latent_weight: Tensor
    first_bias: Tensor
    layers: list[tuple[Tensor, Tensor]]
    frequencies: Tensor
    coordinate_scale: float
    activation: str
    hermitian: bool

    def features(self, k: Tensor) -> Tensor:
        """Compute the positional encoding (rows, features) of `k` (rows, 3)."""
        out = torch.empty(
            len(k), self.coordinate_weight.shape[1], dtype=self.first_bias.dtype, device=k.device
        )
        encode_into(out, k if len(self.frequencies) else k * self.coordinate_scale, self.frequencies)
        return out

    def after_first_layer(self, hidden: Tensor) -> Tensor:
        """Compute the two outputs (rows, 2) from the first layer's pre-activations (rows, width).

        The pre-activations are overwritten.
        """
        hidden = activate_(hidden, self.activation)
        for weight, bias in self.layers[:-1]:
            hidden = activated_product(hidden, weight, bias, self.activation)
        weight, bias = self.layers[-1]
        return torch.addmm(bias, hidden, weight.T)


def half_space_sign(k: Tensor) -> Tensor:
    """Return +1 where `k` (rows, 3) lies in the half space (z, then y, then x positive), else -1."""
    x, y, z = k.unbind(-1)
    leading = torch.where(z != 0, z, torch.where(y != 0, y, x))
    return torch.where(leading < 0, -1.0, 1.0)


def read_hartley(out: Tensor) -> Tensor:
    """Return real and imaginary parts (rows, 2) at k from outputs (2 rows, 2) at k and then at -k.

    The Hartley value is a - b, with H(k) = Re - Im and H(-k) = Re + Im.
    """
    plus, minus = (out[:, 0] - out[:, 1]).chunk(2)
    return torch.stack(((plus + minus) / 2, (minus - plus) / 2), dim=1)


def read_hartley_gradient(gradient: Tensor) -> Tensor:
    """Apply the adjoint of `read_hartley`: (rows, 2) to (2 rows, 2)."""
    real, imaginary = gradient.unbind(1)
    hartley = torch.cat(((real - imaginary) / 2, (real + imaginary) / 2))
    return torch.stack((hartley, -hartley), dim=1)


class FixedPoints:
    """The decoder at points that stay fixed while the latents change.

    k : (rows, 3) coordinates (x, y, z), cycles/px
    chunk_rows : points evaluated together; None chooses
    dtype : of the products of the hidden layers
    """

    def __init__(
        self,
        folded: FoldedDecoder,
        k: Tensor,
        chunk_rows: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        sign = half_space_sign(k)
        self._k = k * sign[:, None] if folded.hermitian else k
        # The value at a point of the other half is the conjugate.
        self._signs = torch.stack((torch.ones_like(sign), sign), dim=1)
        self._first, self._dtype = folded, dtype
        self._rest = replace(folded, layers=[(w.to(dtype), b.to(dtype)) for w, b in folded.layers])
        width = len(folded.first_bias)
        if chunk_rows is None:
            chunk_rows = CUDA_CHUNK_ROWS if k.is_cuda else min(CPU_CHUNK_ROWS, CPU_CHUNK_VALUES // width)
        self._chunk_rows = chunk_rows
        self._together = max(
            1, chunk_rows // max(len(k), 1)
        )  # latents evaluated at once: more for few points
        points = len(k) if folded.hermitian else 2 * len(k)
        self._keep = points * width * dtype.itemsize <= KEPT_BYTES
        self._products: dict[int, Tensor] = {}

    def values(self, z: Tensor) -> Tensor:
        """Compute values (m, rows) complex64 for latents (m, zdim).

        The values of one latent do not depend on the other latents.
        """
        values = torch.empty(len(z), *self._k.shape[:1], 2, device=z.device)
        # Row by row: in one product of all latents, rounding would depend on their number.
        weight, bias = self._first.latent_weight, self._first.first_bias
        from_latent = torch.empty(len(z), len(bias), device=z.device)
        for row, one in zip(from_latent, z.to(weight.dtype), strict=True):
            torch.addmv(bias, weight, one, out=row)
        from_latent = from_latent.to(self._dtype)
        every = range(0, len(self._k), self._chunk_rows)
        lanes = lane_count(z.device, len(every))
        run_in_lanes(
            lambda starts: self._evaluate(starts, from_latent, values),
            [every[lane::lanes] for lane in range(lanes)],
        )
        return torch.view_as_complex(values)

    def _evaluate(self, starts: range, from_latent: Tensor, values: Tensor) -> None:
        """Fill the chunks of `values` (m, rows, 2) that begin at `starts`."""
        for start in starts:
            part = slice(start, start + self._chunk_rows)
            product = self._product(part)
            targets = values[:, part].split(self._together)
            for latents, target in zip(from_latent.split(self._together), targets, strict=True):
                hidden = product + latents[:, None]
                out = self._rest.after_first_layer(hidden.flatten(0, 1)).view(*hidden.shape[:2], 2)
                if self._first.hermitian:
                    torch.mul(out, self._signs[part], out=target)
                else:
                    target.copy_(torch.stack([read_hartley(one) for one in out.float()]))

    def _product(self, part: slice) -> Tensor:
        """Compute the first layer's coordinate part (points, width) of a chunk."""
        product = self._products.get(part.start)
        if product is None:
            k = self._k[part] if self._first.hermitian else torch.cat((self._k[part], -self._k[part]))
            product = (self._first.features(k) @ self._first.coordinate_weight.T).to(self._dtype)
            if self._keep:
                self._products[part.start] = product
        return product


def latents_at_once(points: int, batch: int) -> int:
    """Return how many latents may share a pass over `points`: at most `batch`, in bounded memory."""
    return max(1, min(batch, VALUES_BYTES // (8 * max(points, 1))))


def maps_at_once(box: int, device: torch.device) -> int:
    """Return how many maps are transformed together: one on a CPU, enough to fill a GPU."""
    return 1 if device.type == "cpu" else max(1, MAP_BYTES // (4 * box**3))
