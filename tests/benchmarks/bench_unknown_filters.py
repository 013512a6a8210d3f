"""Images multiplied by filters that no file states and no program is known for: what is said of them, and
what the linear model makes of them, beside raw images of the same particles.

    python tests/benchmarks/bench_unknown_filters.py [--seeds 2] [--first-seed 0] [--snr 0.005]
        [--particles 1000] [--filters ...] [--fit] [--only-validate]

All sets state CTF x exposure filter. Prints for each filter the verdict and its sentence, the error of the
filter that the model uses (rms of its logarithm within the resolution of the maps, each image's scale left
out), and for each block the AUC of a cross-validated linear read-out of the latents of the true maps, with
--fit also of the fitted ones; then the difference from raw images. Settings of imaging are those of
`bench_filters.py`.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import torch
from bench_filters import IMAGING, SERIES, SET, latents_of_true_maps
from bench_poses import of_blocks

from tomohet.linear.fit import fit_linear_model
from tomohet.particles.dialects import read_particles
from tomohet.particles.store_writing import write_store
from tomohet.physics.dose import attenuation, dose_weight
from tomohet.physics.imaging import dose_weight_at, image_parameters
from tomohet.simulation import projection, warptools
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate
from tomohet.simulation.truth import load_truth

RAW = "raw"
HIGHEST = 0.4  # cycles per pixel, of the maps


def exposure(params, k, doses=1.0, volts=300.0):
    """Grant & Grigorieff's filter with so many times the dose, of this voltage."""
    return attenuation(k, params.dose_e_A2 * doses, torch.full_like(params.voltage_kV, volts))


def stretched(params, k):
    """exp(-dose k^1.2 / 6)."""
    return torch.exp(-params.dose_e_A2.double()[:, None] * k**1.2 / 6).float()


def butterworth(params, k):
    """A low-pass of fourth order whose cut-off falls with the dose."""
    cut = 1 / (15 + params.dose_e_A2.double() / 5)[:, None]
    return (1 + (k / cut) ** 8).rsqrt().float()


def steep(params, k):
    """A low-pass of 16th order whose cut-off falls with the dose, to 65 Å."""
    cut = 1 / (15 + params.dose_e_A2.double() / 3)[:, None]
    return (1 + (k / cut) ** 16).rsqrt().float()


def late_end(params, k):
    """Exposure filter; tilts beyond 60 e/Å^2 keep a tenth of what lies beyond 29 Å."""
    late = (params.dose_e_A2 > 60)[:, None] & (k > 1 / 29)
    return exposure(params, k) * torch.where(late, 0.1, 1.0)


def by_tilt(params, k):
    """A Gaussian whose B grows with the tilt angle, 2000 Å^2 at 60 degrees."""
    return torch.exp(-2000 * params.tilt_deg.double()[:, None] / 60 * k.square() / 4).float()


def low_passed(recorded):
    """Images low-passed beforehand: half the amplitude at 0.7 Nyquist, smoothly."""
    return filtered(recorded, lambda k, _: (1 + (k.norm(dim=-1) / 0.35) ** 6).reciprocal() ** 0.8)


def interpolated(recorded):
    """Images binned by bilinear interpolation, each on a grid of its own."""
    place = torch.rand(len(recorded), 2, 1, generator=torch.Generator().manual_seed(len(recorded)))
    return filtered(
        recorded,
        lambda k, _: ((1 - place) + place * torch.exp(2j * torch.pi * k.T[None])).abs().prod(1)
        * torch.sinc(k / 2).prod(-1),
    )  # fmt: skip


def filtered(recorded, factor):
    """Images (m, ..., D, D) times a factor (m or 1, n) of frequencies (n, 2), cycles per pixel."""
    box = recorded.shape[-1]
    ky, kx = torch.meshgrid(torch.fft.fftfreq(box), torch.fft.rfftfreq(box), indexing="ij")
    values = factor(torch.stack([kx.flatten(), ky.flatten()], -1), recorded).to(recorded.dtype)
    values = values.reshape(-1, *(1,) * (recorded.ndim - 3), box, box // 2 + 1)
    return torch.fft.irfft2(torch.fft.rfft2(recorded) * values, s=(box, box))


@dataclass(frozen=True)
class Case:
    """of: the filter (m, n) of parameters and frequencies in 1/Å; before: what is done to recorded images."""

    of: Callable
    before: Callable = lambda recorded: recorded


CASES = {
    "exposure": Case(exposure),
    "exposure, 2 x dose": Case(lambda p, k: exposure(p, k, 2.0)),
    "exposure, dose / 2": Case(lambda p, k: exposure(p, k, 0.5)),
    "exposure, 200 kV": Case(lambda p, k: exposure(p, k, volts=200.0)),
    "exp(-dose k^1.2 / 6)": Case(stretched),
    "Butterworth": Case(butterworth),
    "steep low-pass": Case(steep),
    "late tilts end": Case(late_end),
    "Gaussian by tilt": Case(by_tilt),
    "exposure, low-passed": Case(exposure, low_passed),
    "exposure, interpolated": Case(exposure, interpolated),
    "stretched, low-passed": Case(stretched, low_passed),
    "stretched, interpolated": Case(stretched, interpolated),
    "Butterworth, interpolated": Case(butterworth, interpolated),
    "steep, low-passed": Case(steep, low_passed),
}


def main() -> None:
    """Simulate, look, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--snr", type=float, default=0.005)
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--filters", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--fit", action="store_true", help="fit linear models as well")
    parser.add_argument("--only-validate", action="store_true", help="without latents")
    args = parser.parse_args()
    rows = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name in ([] if args.only_validate else [RAW]) + args.filters:
            with tempfile.TemporaryDirectory() as folder:
                rows.append({"seed": seed, "images": name} | measured(Path(folder), name, seed, args))
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows)
    print(table.groupby("images", sort=False).mean(numeric_only=True).round(4).to_string())
    for seed, group in table.set_index("images").groupby("seed"):
        areas = [column for column in table if column.startswith("AUC")]
        if areas:
            print(f"AUC beside raw images', seed {seed}")
            print((group[areas] - group.loc[RAW, areas]).round(4).to_string())


def measured(place: Path, name: str, seed: int, args: argparse.Namespace) -> dict:
    """Simulate one set into a folder; what is said of it."""
    settings = IMAGING | {"n_particles": args.particles, "snr": args.snr, "seed": seed}
    if name == RAW:
        simulate(config_from(settings | {"dialect": "warp"}), place)
    else:
        treated = {"extraction": ["premultiplied", "inverted", "dose_weighted"]}
        multiplied(CASES[name], place, settings | treated)
    store = write_store(place / "store", read_particles(place / (SERIES if name == RAW else SET)))
    row = {}
    if name != RAW:
        row |= store.description["extraction"] | {"filter off by": filter_error(store.images, CASES[name])}
    if args.only_validate:
        return row
    truth = load_truth(place / "truth.npz")
    of_truth = truth.rows_of(store.particles["source_id"].to_numpy())
    areas = of_blocks(SimpleNamespace(latents=latents_of_true_maps(store, truth, of_truth)), truth, of_truth)
    row |= {f"AUC {block}, true maps": area for block, area in areas.items()}
    if args.fit:
        model = fit_linear_model(store, np.arange(len(store.particles)))
        row["components"] = float(model.held_out.n_components if model.held_out.found else 0)
        row |= {f"AUC {block}": area for block, area in of_blocks(model, truth, of_truth).items()}
    return row


def multiplied(case: Case, place: Path, settings: dict) -> None:
    """Simulate images that a filter was multiplied into."""

    def weight(params, radius_cpp):
        return case.of(params, radius_cpp / params.pixel_size_A.double()[:, None])

    def extracted(recorded, images):
        return projection.premultiplied(case.before(recorded), images)

    with (
        mock.patch.object(projection, "dose_weight_at", weight),
        mock.patch.object(warptools, "premultiplied", extracted),
    ):
        simulate(config_from(settings), place)


def filter_error(images: pd.DataFrame, case: Case) -> float:
    """Rms of the logarithm of the model's filter over the true one, up to `HIGHEST` and where the dose is
    below the optimal one, without each image's mean."""
    params = image_parameters(images.iloc[:2000])
    radius = torch.linspace(0.02, HIGHEST, 40).double()
    k = radius / params.pixel_size_A.double()[:, None]
    used = torch.where(params.dose_weighted[:, None], dose_weight_at(params, radius), 1.0)
    useful = (dose_weight(k, params.dose_e_A2, params.voltage_kV) > 0).double()
    off = torch.log(used.double().clamp_min(1e-6) / case.of(params, k).double().clamp_min(1e-6)) * useful
    off = (off - off.sum(1, keepdim=True) / useful.sum(1, keepdim=True)) * useful
    return float((off.square().sum() / useful.sum()).sqrt())


if __name__ == "__main__":
    main()
