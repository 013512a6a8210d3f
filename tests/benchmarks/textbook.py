"""The plain way to train such a network, to measure ours against.

Every point of the full Fourier plane is decoded, particle by particle; images come one particle at a time
through a DataLoader; encodings and latents are repeated for every point; PyTorch records and differentiates
the whole step.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tomohet.physics.fourier import half_plane
from tomohet.physics.imaging import ImageParameters, ctf_of


def full_plane(values: Tensor, odd: bool) -> Tensor:
    """Values at +k and then at -k from half-plane values (m, n) of an even, or odd, function."""
    return torch.cat((values, -values if odd else values), dim=1)


class Particles(Dataset):
    """Hartley images, CTFs and rotations of one particle per item, on the full plane."""

    def __init__(self, fourier: Tensor, params: ImageParameters, tilts: int, box: int) -> None:
        hp = half_plane(box)
        self.hartley = full_plane(fourier.real, False) - full_plane(fourier.imag, True)
        self.ctf = full_plane(ctf_of(params, hp), False)
        self.rotation, self.tilts = params.rotation, tilts

    def __len__(self) -> int:
        return len(self.hartley) // self.tilts

    def __getitem__(self, particle: int) -> tuple[Tensor, Tensor, Tensor]:
        images = slice(particle * self.tilts, (particle + 1) * self.tilts)
        return self.hartley[images], self.ctf[images], self.rotation[images]


class PlainMLP(nn.Module):
    """Linear layers with residual connections where widths agree."""

    def __init__(self, n_in: int, layers: int, width: int, n_out: int) -> None:
        super().__init__()
        widths = [n_in, *[width] * (layers + 1), n_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            y = layer(x)
            x = y + x if y.shape == x.shape else y
            if number < len(self.layers) - 1:
                x = torch.relu(x)
        return x


class TextbookVAE(nn.Module):
    """Encoder per tilt, mean, encoder per particle; a decoder of every full-plane point."""

    def __init__(self, box: int, tilts: int, zdim: int, layers: int, width: int) -> None:
        super().__init__()
        hp = half_plane(box)
        self.register_buffer("k", torch.cat((hp.frequency, -hp.frequency)))
        self.register_buffer("frequencies", torch.randn(3 * (box // 2), 3) * box / 4)
        self.encoder_a = PlainMLP(2 * hp.n, 3, 256, 128)
        self.encoder_b = PlainMLP(128, 3, 256, 2 * zdim)
        self.decoder = PlainMLP(6 * (box // 2) + zdim, layers, width, 2)
        self.zdim = zdim

    def decode(self, k: Tensor, z: Tensor) -> Tensor:
        """Hartley values at points `k` (rows, 3) of one particle's volume."""
        phase = (k[:, None, :] * self.frequencies).sum(-1)
        features = torch.cat((phase.sin(), phase.cos(), z.expand(len(k), -1)), dim=1)
        out = self.decoder(features)
        return out[:, 0] - out[:, 1]

    def loss(self, hartley: Tensor, ctf: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """(reconstruction, KL) of a batch of particles: (P, T, points), (P, T, points), (P, T, 3, 3)."""
        features = self.encoder_a(hartley * ctf.sign()).mean(1)
        mu, logvar = self.encoder_b(torch.relu(features)).split(self.zdim, dim=1)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        residuals = []
        for particle in range(len(hartley)):
            k = torch.nn.functional.pad(self.k, (0, 1)) @ rotation[particle]
            decoded = self.decode(k.reshape(-1, 3), z[particle])
            residuals.append(ctf[particle].reshape(-1) * decoded - hartley[particle].reshape(-1))
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        return torch.cat(residuals).square().mean(), kl

    def volume(self, z: Tensor, box: int) -> np.ndarray:
        """One map (D, D, D) of a latent (zdim,): slice by slice, every point, full complex transform."""
        axis = torch.linspace(-0.5, 0.5, box + 1)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        slices = []
        for height in axis:
            k = torch.stack((x, y, torch.full_like(x, height)), -1).reshape(-1, 3)
            inside = k.norm(dim=1) <= 0.5
            values = torch.zeros(len(k))
            with torch.no_grad():
                values[inside] = self.decode(k[inside], z)
            slices.append(values.reshape(box + 1, box + 1))
        hartley = torch.stack(slices).numpy()[:-1, :-1, :-1]
        transform = np.fft.fftshift(np.fft.fftn(np.fft.fftshift(hartley)))
        return (transform.real - transform.imag) / box**3


def training_steps(model: TextbookVAE, particles: Particles, batch_size: int, steps: int) -> None:
    """Some steps of AdamW, with one backward pass for each of the two losses."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=1e-4)
    loader = DataLoader(particles, batch_size=batch_size, shuffle=True)
    for number, (hartley, ctf, rotation) in enumerate(loader):
        if number == steps:
            return
        gen, kl = model.loss(hartley, ctf, rotation)
        optimiser.zero_grad()
        gen.backward(retain_graph=True)
        (kl / model.zdim / hartley[0].numel()).backward()
        optimiser.step()
