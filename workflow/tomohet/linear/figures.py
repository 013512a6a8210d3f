"""Figures of the linear latent model."""

from pathlib import Path

import numpy as np

from tomohet import plots
from tomohet.linear.fit import LinearModel


def write_figures(model: LinearModel, outdir: Path, plot_format: str = "png") -> None:
    """Eigenvalues and reliabilities, latents in pairs, central slices of the basis maps."""
    _spectrum(model, outdir / f"spectrum.{plot_format}")
    _latents(model, outdir / f"latents.{plot_format}")
    maps = [model.mean.volume.cpu().numpy(), *model.basis.cpu().numpy()]
    names = ["mean"] + [f"basis map {number + 1}" for number in range(len(model.basis))]
    figure = plots.slices_montage(
        maps, names, "Mean and basis maps, central slices", own_scale=True, diverging=True
    )
    plots.save(figure, outdir / f"basis.{plot_format}")


def _spectrum(model: LinearModel, path: Path) -> None:
    figure, (left, right) = plots.figure(1, 2)
    numbers = np.arange(1, len(model.eigenvalues) + 1)
    left.plot(numbers, model.eigenvalues, "o-", color=plots.PALETTE[0], markersize=4)
    left.axvline(len(model.basis) + 0.5, color="0.6", linewidth=0.8, linestyle="--")
    left.set(
        title="Kernel eigenvalues (left of the line: fitted)",
        xlabel="component",
        ylabel="eigenvalue (arbitrary units)",
    )
    variance = np.diagonal(model.latents.covariance.cpu().numpy(), axis1=1, axis2=2).mean(0)
    right.bar(np.arange(1, len(variance) + 1), 1 - variance, color=plots.PALETTE[0])
    right.set(
        title="Reliability of the latents", xlabel="latent", ylabel="settled share of variance", ylim=(0, 1)
    )
    plots.save(figure, path)


def _latents(model: LinearModel, path: Path) -> None:
    z = model.latents.mean.cpu().numpy()
    pairs = [(i, i + 1) for i in range(0, z.shape[1] - 1, 2)] or [(0, 0)]
    figure, axes = plots.figure(1, len(pairs), squeeze=False)
    for axis, (first, second) in zip(axes[0], pairs, strict=True):
        plots.scatter_density(axis, z[:, first], z[:, second])
        axis.set(
            title="Posterior means", xlabel=f"latent {first + 1} (SD)", ylabel=f"latent {second + 1} (SD)"
        )
    plots.save(figure, path)
