"""Figures of the linear model."""

from pathlib import Path

import numpy as np

from tomohet import plots
from tomohet.linear.fit import LinearModel


def write_figures(model: LinearModel, outdir: Path, plot_format: str = "png") -> None:
    """Write the figures: reliability and held-out tilts, pairs of latents, slices of the basis maps."""
    _held_out(model, outdir / f"held_out.{plot_format}")
    _latents(model, outdir / f"latents.{plot_format}")
    maps = [model.maps.mean.volume.cpu().numpy(), *model.maps.basis.cpu().numpy()]
    names = ["mean"] + [f"basis map {number + 1}" for number in range(len(model.maps.basis))]
    figure = plots.slices_montage(
        maps, names, "Mean and basis maps, central slices", own_scale=True, diverging=True
    )
    plots.save(figure, outdir / f"basis.{plot_format}")


def _held_out(model: LinearModel, path: Path) -> None:
    held_out = model.held_out
    figure, (left, right) = plots.figure(1, 2)
    variance = np.diagonal(model.latents.covariance.cpu().numpy(), axis1=1, axis2=2).mean(0)
    numbers = np.arange(1, len(variance) + 1)
    left.bar(numbers, 1 - variance, color=plots.PALETTE[0], label="estimate of the model itself")
    shared = held_out.reliability[: min(len(numbers), held_out.n_components)]
    left.plot(
        numbers[: len(shared)],
        shared,
        "o",
        color=plots.PALETTE[1],
        markersize=5,
        label="reproducible directions, held-out tilts",
    )
    left.set(
        title="Reliability: structural variance",
        xlabel="latent or direction",
        ylabel="fraction of variance",
        ylim=(0, 1.25),
        yticks=np.arange(0, 1.01, 0.2),
    )
    left.legend(fontsize=7, loc="upper right")
    numbers, null = np.arange(1, len(held_out.moment) + 1), held_out.null
    right.fill_between(numbers, null.min(0), null.max(0), color="0.8", label="chance (random signs)")
    right.plot(numbers, held_out.moment, "o-", color=plots.PALETTE[0], markersize=4, label="held-out tilts")
    right.set(
        title="Cross-validation on held-out tilts",
        xlabel="direction",
        ylabel="moment with the latents (nats)",
    )
    right.legend(fontsize=7)
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
