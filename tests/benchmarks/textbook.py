"""The plain way to train and use such a network, to measure ours against.

Every point of the full Fourier plane is decoded, +k and -k alike, particle by particle; encodings and latents
are repeated for every point; PyTorch records and differentiates the whole step, once for each of the two
losses. On a GPU under float16 autocast with loss scaling. Volumes are decoded slice by slice and transformed
with numpy's full complex FFT, a file each.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import mrcfile
import numpy as np
import torch
from textbook_images import (
    Particles,
    contrast_transfer,
    critical_dose,
    lattice,
    translated,
    within_nyquist,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader


class PlainMLP(nn.Module):
    """Linear layers with residual connections where widths agree."""

    def __init__(self, n_in: int, layers: int, width: int, n_out: int) -> None:
        super().__init__()
        widths = [n_in, *[width] * (layers + 1), n_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """`x` (..., n_in) to (..., n_out)."""
        for number, layer in enumerate(self.layers):
            y = layer(x)
            x = y + x if y.shape == x.shape else y
            if number < len(self.layers) - 1:
                x = torch.relu(x)
        return x


class TextbookVAE(nn.Module):
    """Encoder per tilt, mean, encoder per particle; a decoder of every full-plane point."""

    def __init__(self, box: int, zdim: int, layers: int, width: int, dose_mask: bool) -> None:
        super().__init__()
        self.box, self.zdim, self.dose_mask = box, zdim, dose_mask
        self.register_buffer("k", lattice(box))
        self.register_buffer("inside", within_nyquist(self.k))
        self.register_buffer("frequencies", torch.randn(3 * (box // 2), 3) * box / 4)
        self.points = int(self.inside.sum())
        self.encoder_a = PlainMLP(self.points, 3, 256, 128)
        self.encoder_b = PlainMLP(128, 3, 256, 2 * zdim)
        self.decoder = PlainMLP(6 * (box // 2) + zdim, layers, width, 2)

    def decode(self, k: Tensor, z: Tensor) -> Tensor:
        """Hartley values at points `k` (rows, 3) of one particle's volume."""
        phase = (k[:, None, :] * self.frequencies).sum(-1)
        features = torch.cat((phase.sin(), phase.cos(), z.expand(len(k), -1)), dim=1)
        out = self.decoder(features)
        return out[:, 0] - out[:, 1]

    def encode(self, hartley: Tensor, ctf: Tensor) -> tuple[Tensor, Tensor]:
        """(mu, logvar) of P particles, (P, zdim) each, from images and CTFs (P, T, points)."""
        flipped = (hartley * ctf.sign())[..., self.inside]
        features = torch.relu(self.encoder_a(flipped).mean(1))
        return self.encoder_b(features).split(self.zdim, dim=1)

    def reconstruction(self, z: Tensor, hartley: Tensor, ctf: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Mean weighted squared residual of the images (P, T, points) for latents (P, zdim)."""
        critical = critical_dose(self.k, batch["optics"])
        dose = batch["dose"][..., None]
        useful = dose <= 2.51284 * critical
        weight = torch.exp(-0.5 * dose / critical) * useful
        weight = weight * torch.cos(torch.deg2rad(batch["tilt"]))[..., None]
        residuals = []
        for particle in range(len(z)):
            keep = self.inside & useful[particle] if self.dose_mask else self.inside.expand_as(ctf[particle])
            k = self.k @ batch["rotation"][particle]
            decoded = self.decode(k[keep], z[particle])
            residual = ctf[particle][keep] * decoded - hartley[particle][keep]
            residuals.append(weight[particle][keep] * residual.square())
        return torch.cat(residuals).mean()

    def images(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The batch's Hartley images, shifted into place, and their CTFs, (P, T, points) each."""
        hartley = translated(batch["hartley"], self.k, batch["shift"])
        return hartley, contrast_transfer(self.k, batch["optics"]) * batch["gain"][..., None]

    def losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(reconstruction, scaled KL) of a batch of particles."""
        hartley, ctf = self.images(batch)
        mu, logvar = self.encode(hartley, ctf)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        scale = self.zdim * hartley.shape[1] * self.points
        return self.reconstruction(z, hartley, ctf, batch), kl / scale

    def volume(self, z: Tensor, box: int) -> np.ndarray:
        """The map (d, d, d) of a latent (zdim,), for d up to the images' own box."""
        plane = lattice(box, z.device) * (box / self.box)
        slices = []
        for height in plane[: box + 1, 0]:
            k = plane + height * plane.new_tensor([0.0, 0.0, 1.0])
            inside = within_nyquist(k * (self.box / box))
            values = torch.zeros(len(k), device=z.device)
            if inside.any():
                values[inside] = self.decode(k[inside], z).float()
            slices.append(values.reshape(box + 1, box + 1).cpu().numpy())
        hartley = np.stack(slices)[:-1, :-1, :-1]
        transform = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(hartley)))
        return ((transform.real - transform.imag) / self.box**3).astype(np.float32)


def half_precision(device: torch.device) -> torch.autocast:
    """float16 on a GPU, nothing on a CPU."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def on_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: values.to(device) for name, values in batch.items()}


def training_steps(
    model: TextbookVAE, particles: Particles, batch_size: int, device: torch.device
) -> Iterator:
    """Endless steps of AdamW, each taken before a loss is yielded."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    while True:
        for batch in DataLoader(particles, batch_size=batch_size, shuffle=True):
            optimiser.zero_grad()
            with half_precision(device):
                gen, kl = model.losses(on_device(batch, device))
            scaler.scale(gen).backward(retain_graph=True)
            scaler.scale(kl).backward()
            scaler.step(optimiser)
            scaler.update()
            yield gen.detach()


def latents(model: TextbookVAE, particles: Particles, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """(mu, logvar) of all particles, (P, zdim) each."""
    found = []
    with torch.no_grad(), half_precision(device):
        for batch in DataLoader(particles, batch_size=8):
            mu, logvar = model.encode(*model.images(on_device(batch, device)))
            found.append((mu.float().cpu().numpy(), logvar.float().cpu().numpy()))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def write_volume(model: TextbookVAE, z: Tensor, box: int, path: Path, pixel_size_A: float) -> None:
    """The map of a latent (zdim,) as an MRC file."""
    with torch.no_grad(), half_precision(z.device):
        volume = model.volume(z, box)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(volume)
        mrc.voxel_size = pixel_size_A
