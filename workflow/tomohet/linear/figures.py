"""Figures of the linear model."""

from pathlib import Path

import numpy as np

from tomohet import plots
from tomohet.linear.fit import LinearModel


def write_figures(model: LinearModel, outdir: Path, plot_format: str = "png") -> None:
    """Write the figures: eigenvalues and reliabilities, pairs of latents, slices of the basis maps."""
    _spectrum(model, outdir / f"spectrum.{plot_format}")
    _latents(model, outdir / f"latents.{plot_format}")
    maps = [model.maps.mean.volume.cpu().numpy(), *model.maps.basis.cpu().numpy()]
    names = ["mean"] + [f"basis map {number + 1}" for number in range(len(model.maps.basis))]
    figure = plots.slices_montage(
        maps, names, "Mean and basis maps, central slices", own_scale=True, diverging=True
    )
    plots.save(figure, outdir / f"basis.{plot_format}")


def _spectrum(model: LinearModel, path: Path) -> None:
    held_out = model.held_out
    figure, axes = plots.figure(1, 3)
    numbers = np.arange(1, len(model.eigenvalues) + 1)
    null = model.detection.null
    axes[0].fill_between(
        numbers, null.min(0), null.max(0), color="0.8", label="noise alone (sign-flipped tilts)"
    )
    axes[0].plot(numbers, model.eigenvalues, "o-", color=plots.PALETTE[0], markersize=4, label="data")
    axes[0].axvline(len(model.maps.basis) + 0.5, color="0.6", linewidth=0.8, linestyle="--")
    axes[0].set(
        title="Gram-matrix eigenvalues (left of the line: fitted)",
        xlabel="component",
        ylabel="eigenvalue (arbitrary units)",
    )
    axes[0].legend(fontsize=7)
    variance = np.diagonal(model.latents.covariance.cpu().numpy(), axis1=1, axis2=2).mean(0)
    numbers = np.arange(1, len(variance) + 1)
    axes[1].bar(numbers, 1 - variance, color=plots.PALETTE[0], label="estimate of the model itself")
    shared = held_out.reliability[: min(len(numbers), held_out.n_components)]
    axes[1].plot(
        numbers[: len(shared)],
        shared,
        "o",
        color=plots.PALETTE[1],
        markersize=5,
        label="reproducible directions, held-out tilts",
    )
    axes[1].set(
        title="Reliability: structural variance",
        xlabel="latent or direction",
        ylabel="fraction of variance",
        ylim=(0, 1.25),
        yticks=np.arange(0, 1.01, 0.2),
    )
    axes[1].legend(fontsize=7, loc="upper right")
    numbers, null = np.arange(1, len(held_out.moment) + 1), held_out.null
    axes[2].fill_between(numbers, null.min(0), null.max(0), color="0.8", label="chance (random signs)")
    axes[2].plot(numbers, held_out.moment, "o-", color=plots.PALETTE[0], markersize=4, label="held-out tilts")
    axes[2].set(
        title="Cross-validation on held-out tilts",
        xlabel="direction",
        ylabel="moment with the latents (nats)",
    )
    axes[2].legend(fontsize=7)
    plots.save(figure, path)


def _latents(model: LinearModel, path: Path) -> None:
    """Plot latents in pairs, one pair in each panel; an odd last latent is a histogram."""
    z = model.latents.mean.cpu().numpy()
    figure, axes = plots.figure(1, (z.shape[1] + 1) // 2, squeeze=False)
    for axis, first in zip(axes[0], range(0, z.shape[1], 2), strict=True):
        axis.set(title="Posterior means", xlabel=f"latent {first + 1} (SD)")
        if first + 1 < z.shape[1]:
            plots.scatter_density(axis, z[:, first], z[:, first + 1])
            axis.set_ylabel(f"latent {first + 2} (SD)")
        else:
            axis.hist(z[:, first], bins=40, color=plots.PALETTE[0])
            axis.set_ylabel("particles")
    plots.save(figure, path)
