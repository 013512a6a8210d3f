"""The training loss: weighted squared residuals of Fourier points, plus the Kullback-Leibler term.

The first term is the mean over half-plane points of w [(h a - Re F)^2 + (h b - Im F)^2], with V = a + ib the
decoder's value. For a Hermitian volume this equals the mean over the full plane of w (h H - H_F)^2 in Hartley
values H = Re - Im, which is the published loss: the pair +-k contributes (r - i)^2 + (r + i)^2 = 2 (r^2 +
i^2).
"""

import torch
from torch import Tensor

from tomohet.model.decoder import CPU_CHUNK_ROWS, CUDA_CHUNK_ROWS, Decoder
from tomohet.model.mlp import linear_parameters
from tomohet.model.rows import PackedRows
from tomohet.model.sweep import DecoderSweep, sweep_rows

SHARE_OF_CUDA_MEMORY = 0.125  # of one sweep; images, gradients and other sizes of batches take the rest
OTHER_BYTES = 256  # of a point: coordinates, phases, value, weight, residual and membership


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Compute the mean over particles of KL(N(mu, exp(logvar)) || N(0, 1)) for (particles, zdim) inputs."""
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(dim=1).mean()


def scaled_kl(
    kl: Tensor, beta: float | Tensor, beta_control: float | None, full_plane_points: int | Tensor
) -> Tensor:
    """Scale the KL term as it enters the loss.

    It is beta KL / N, or beta_control (beta - KL)^2 / N (beta is then the target), with N the largest number
    of full-plane points of a particle in the batch (published loss).
    """
    if beta_control is None:
        return beta * kl / full_plane_points
    return beta_control * (beta - kl) ** 2 / full_plane_points


def reconstruction_loss(
    decoder: Decoder,
    z: Tensor,
    rows: PackedRows,
    *,
    chunk_rows: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Compute the mean weighted squared residual of a batch, differentiable in `z` and the decoder.

    The loss is a sum over Fourier points. Values, residuals and gradients are computed chunk by chunk, so
    memory does not grow with the batch, and on a CPU the activations stay in cache.

    Parameters
    ----------
    z : (particles, zdim) latents
    chunk_rows : points per chunk; None chooses for the device
    dtype : of the hidden layers (float32, or bfloat16 where the hardware has it)

    """
    parameters = [p for layer in decoder.decoder.affine_layers() for p in linear_parameters(layer)]
    if chunk_rows is None:
        chunk_rows = _cuda_chunk_rows(decoder, dtype, z.device) if z.is_cuda else CPU_CHUNK_ROWS
    return _SweptLoss.apply(decoder, rows, chunk_rows, dtype, z, *parameters)


def _cuda_chunk_rows(decoder: Decoder, dtype: torch.dtype, device: torch.device) -> int:
    """Return how many points a GPU sweeps at once: as many as a share of its memory holds.

    Fewer chunks mean fewer and larger kernels. The number depends on the card, not on what else is in its
    memory, so a continued training sums in the same order.
    """
    if not torch.cuda.is_available():  # tensors without values, which count what would be done
        return CUDA_CHUNK_ROWS
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(CUDA_CHUNK_ROWS, int(SHARE_OF_CUDA_MEMORY * memory / row_bytes(decoder, dtype)))


def row_bytes(decoder: Decoder, dtype: torch.dtype) -> int:
    """Return the memory that a sweep takes for each of its points.

    Features, the activations and their gradients are of type `dtype`. The basis maps' values are complex64.
    """
    layers = decoder.decoder.affine_layers()
    width = len(linear_parameters(layers[0])[0])
    points = 1 if decoder.hermitian else 2
    values = points * (decoder.n_features + (len(layers) + 2) * width)
    base = 0 if decoder.base is None else 8 * (decoder.base.n_basis + 1)
    return values * dtype.itemsize + base + OTHER_BYTES


class _SweptLoss(torch.autograd.Function):
    """Loss and gradients in one sweep over the chunks; `backward` only scales the stored gradients."""

    @staticmethod
    def forward(ctx, decoder: Decoder, rows: PackedRows, chunk_rows: int, dtype, z: Tensor, *parameters):
        """Compute the loss, and store gradients for latents z (P, zdim) and the decoder's parameters."""
        folded = decoder.folded(dtype)
        sweep = sweep_rows(folded, rows, z.float(), chunk_rows, decoder.base)
        latent_gradient = sweep.latent_gradient @ folded.latent_weight
        if decoder.base is not None:
            latent_gradient[:, : decoder.base.n_basis] += sweep.base_gradient
        ctx.save_for_backward(latent_gradient, *_unfold(decoder, sweep, z))
        return sweep.loss

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        return None, None, None, None, *(grad_output * gradient for gradient in ctx.saved_tensors)


def _unfold(decoder: Decoder, sweep: DecoderSweep, z: Tensor) -> list[Tensor]:
    """Return the gradients of weight and bias of every layer, in the order of the layers.

    Adding the identity to a residual weight does not change its gradient. The gradients of the first layer's
    latent columns and bias follow from the gradient per particle.
    """
    width = len(sweep.coordinate_gradient)
    first = torch.empty(width, decoder.n_features + decoder.zdim, device=z.device)
    first[:, decoder.columns] = sweep.coordinate_gradient
    first[:, decoder.n_features :] = sweep.latent_gradient.T @ z.float()
    further = [gradient for layer in sweep.layer_gradients for gradient in layer]
    return [first, sweep.latent_gradient.sum(0), *further]
