"""A realistic fake training: latents of four states, a decoder of blobs, and a store's tables."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from tomohet.cli import options_of
from tomohet.files.atomic import write_pickle
from tomohet.files.mrc import write_volume
from tomohet.files.pickles import save_latents
from tomohet.options import OPTIONS
from tomohet.options.command_line import flags_of

BOX, PIXEL_A = 24, 6.0


def run(name: str, *arguments: object):
    """Run a command in this process; faults and InputError reach the test."""
    words = [str(argument) for argument in arguments]
    return importlib.import_module(f"tomohet.commands.{name}").run(options_of(name, words))


def long_options(name: str) -> dict[str, str]:
    """The options of a command and what its help says of each."""
    fields = OPTIONS[name].model_fields.items()
    return {flag: field.description for key, field in fields for flag in flags_of(key, field)[-1:]}


def latents(n: int = 400, zdim: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents (n, zdim) of four states of unequal size, one of them stretched; and the states (n,)."""
    rng = np.random.default_rng(seed)
    states = rng.choice(4, n, p=[0.5, 0.25, 0.15, 0.1])
    centres = np.zeros((4, zdim))
    centres[1, 0], centres[2, min(1, zdim - 1)], centres[3, min(2, zdim - 1)] = 3, 4, 5
    z = centres[states] + 0.45 * rng.normal(size=(n, zdim))
    z[:, 0] += np.where(states == 2, rng.uniform(-2, 2, n), 0)
    return z.astype(np.float32), states


class BlobDecoder:
    """Two fixed blobs and one whose density follows each latent coordinate."""

    box, pixel_size_A, scale = BOX, PIXEL_A, 1.0

    def __init__(self, zdim: int, sharpness: float = 1.0) -> None:
        self.zdim, self.sharpness = zdim, sharpness

    def volumes(self, z: torch.Tensor, box: int | None = None) -> torch.Tensor:
        """Volumes (m, box, box, box) of latents z (m, zdim)."""
        side = box or self.box
        axis = (torch.arange(side) - side // 2) * (self.box / side)
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
        places = torch.tensor([[0, 0, -4], [0, 0, 4], [5, 0, 0], [-5, 3, 0], [0, -6, 2]], dtype=torch.float32)
        radii = 2.5 / self.sharpness
        blobs = torch.exp(-((grid[None] - places[:, :, None, None, None]) ** 2).sum(1) / (2 * radii**2))
        amounts = torch.zeros(len(z), 5)
        amounts[:, :2] = 1
        moved = min(3, z.shape[1])
        amounts[:, 2 : 2 + moved] = torch.sigmoid(2 * z[:, :moved].float() - 3)
        return torch.einsum("mb,bzyx->mzyx", amounts, blobs)


def training(folder: Path, z_by_epoch: dict[int, np.ndarray], weights: bool = True) -> Path:
    """Write a training folder with latents (and files of weights, empty) of the given epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["epoch,gen,kld,total,seconds,particles_per_s"]
    for epoch, z in z_by_epoch.items():
        save_latents(folder / f"z.{epoch}.train.pkl", z, np.full_like(z, -2.0))
        if weights:
            (folder / f"weights.{epoch}.pkl").touch()
        gen, kld = 1 + 0.3 * np.exp(-epoch / 2), 0.02 * (1 - np.exp(-epoch))
        rows.append(f"{epoch},{gen},{kld},{gen + kld},1.0,100")
    (folder / "loss.csv").write_text("\n".join(rows) + "\n")
    write_pickle(folder / "config.pkl", {"angpix": PIXEL_A, "model_args": {"zdim": int(z.shape[1])}})
    return folder


def store(n: int, seed: int = 0, tilts: np.ndarray | None = None, noise: np.ndarray | None = None):
    """Make the part of a store that the leak audit reads: tables, offsets and half planes of white noise."""
    rng = np.random.default_rng(seed)
    tilts = rng.integers(8, 11, n) if tilts is None else tilts
    noise = np.ones(n) if noise is None else noise
    offsets = np.concatenate([[0], np.cumsum(tilts)])
    particle = np.repeat(np.arange(n), tilts)
    m = len(particle)
    axis = np.arange(-12, 13)
    kx, ky = np.meshgrid(axis, axis, indexing="ij")
    inside = ((kx > 0) | ((kx == 0) & (ky > 0))) & (np.hypot(kx, ky) <= 12)
    radius = np.sort(np.hypot(kx, ky)[inside])
    data = rng.normal(size=(m, len(radius), 2)).astype(np.float32) * np.sqrt(noise)[particle][:, None, None]
    rotation = rng.normal(size=(m, 3, 3))
    rotation = np.linalg.qr(rotation)[0]
    tilt = np.arange(m) - offsets[particle]
    images = pd.DataFrame(
        {
            "particle": particle,
            "tilt_deg": 3.0 * tilt,
            "noise_scale": rng.uniform(1, 2, n)[particle],
            "dose_e_A2": 3.0 * tilt + rng.uniform(0, 1, n)[particle],
            "defocus_u_A": rng.uniform(2e4, 4e4, n)[particle] + 200,
            "defocus_v_A": rng.uniform(2e4, 4e4, n)[particle],
            **{f"r{i}{j}": rotation[:, i, j] for i in range(3) for j in range(3)},
        }
    )
    particles = pd.DataFrame(
        {"particle": np.arange(n), "tomogram": [f"TS_{i:02d}" for i in rng.integers(0, 5, n)]}
    )

    def images_of(wanted: np.ndarray) -> np.ndarray:
        return np.concatenate([np.arange(offsets[p], offsets[p + 1]) for p in wanted])

    return SimpleNamespace(
        box=24,
        offsets=offsets,
        images=images,
        particles=particles,
        data=data,
        read=lambda rows: data[rows],
        images_of=images_of,
        half_plane=SimpleNamespace(radius=radius),
    )


def latents_by_epoch(
    epochs: range, n: int = 300, zdim: int = 4, jitter: float = 0.1
) -> dict[int, np.ndarray]:
    """Make latents that separate and settle over the epochs, with a little jitter at each epoch."""
    z, _ = latents(n, zdim)
    rng = np.random.default_rng(1)
    return {
        e: ((1 - np.exp(-(e + 1) / 3)) * z + jitter * rng.normal(size=z.shape)).astype(np.float32)
        for e in epochs
    }


class FakeMaker:
    """Replacement for `VolumeMaker`: decodes with blobs that sharpen with the epoch."""

    def __init__(self, run, epoch: int, options) -> None:
        self.epoch, self.options = epoch, options

    def write(self, z: np.ndarray, folder: Path) -> list[Path]:
        """Write vol_000.mrc... of latents z (m, zdim)."""
        decoder = BlobDecoder(z.shape[1], sharpness=1.3 - 0.6 * np.exp(-self.epoch / 4))
        maps = decoder.volumes(torch.as_tensor(np.asarray(z)), self.options.downsample).numpy()
        paths = [folder / f"vol_{i:03d}.mrc" for i in range(len(z))]
        for path, one in zip(paths, maps, strict=True):
            write_volume(path, one, PIXEL_A)
        return paths


def close_figure(fig, path: Path) -> None:
    """Replace `plots.save` where a figure must be made but need not be drawn."""
