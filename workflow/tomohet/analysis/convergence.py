"""Convergence of a heterogeneous training: comparisons between epochs, and the files that hold them."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.analysis import convergence_plots, latent_plots, sketch
from tomohet.analysis.decode import VolumeMaker
from tomohet.analysis.latent import principal_components, umap_embedding
from tomohet.analysis.latent_analysis import write_table
from tomohet.analysis.run_folder import RunFolder
from tomohet.analysis.volume_drift import VolumeDrift
from tomohet.files.atomic import keep, write_pickle
from tomohet.files.digests import is_there
from tomohet.files.volume_list import LIST, listed_volumes
from tomohet.options import ConvergenceVaeOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planes:
    """Latents of each epoch in two dimensions: `points` epoch -> (s, 2) for particles `rows` (s,)."""

    points: dict[int, np.ndarray]
    rows: np.ndarray
    names: tuple[str, str]
    title: str


def component_planes(run: RunFolder, epochs: list[int], folder: Path) -> Planes:
    """Compute the two leading components of each epoch's latents, fitted anew in each epoch.

    The scores are written to pcs/pc.E.pkl.
    """
    points = {}
    for epoch in epochs:
        pcs = principal_components(run.latents(epoch)[0])
        write_pickle(folder / "pcs" / f"pc.{epoch}.pkl", pcs.scores)
        x = pcs.scores[:, 0]
        points[epoch] = np.stack([x, pcs.scores[:, 1] if pcs.scores.shape[1] > 1 else 0 * x], axis=1)
    return Planes(points, np.arange(len(x)), ("PC1", "PC2"), "Principal components of the latents")


def umap_planes(
    run: RunFolder, epochs: list[int], folder: Path, subset: int, seeds: ConvergenceVaeOptions
) -> Planes | None:
    """Compute the UMAP of each epoch's latents for one random subset of the particles; write it to umaps/.

    `seeds` has random_seed (for the subset) and random_state (for UMAP). Returns None where UMAP is not
    possible.
    """
    first = run.latents(epochs[-1])[0]
    rows = np.arange(len(first))
    if len(first) > subset:
        rows = np.sort(np.random.default_rng(seeds.random_seed).choice(len(first), subset, replace=False))
    if first.shape[1] <= 2:
        return None
    points = {}
    for epoch in epochs:
        embedding = umap_embedding(run.latents(epoch)[0][rows], seeds.random_state)
        if embedding is None:
            return None
        write_pickle(folder / "umaps" / f"umap.{epoch}.pkl", embedding)
        points[epoch] = embedding
    write_pickle(folder / "umaps" / "ind_subset.pkl", rows)
    return Planes(points, rows, ("UMAP 1", "UMAP 2"), "UMAP of the latents")


def representative_volumes(
    run: RunFolder, epochs: list[int], members: list[np.ndarray], folder: Path, options: ConvergenceVaeOptions
) -> dict[int, list[Path]]:
    """Decode volumes of each representative in every epoch that has weights: epoch -> paths in vols.E/.

    In each epoch a representative is the particle nearest to the median latent of its members. With
    `options.skip_volgen` the volumes of an earlier run are used.
    """
    volumes = {}
    for epoch in epochs:
        z = run.latents(epoch)[0]
        points = z[sketch.representatives(z, members)]
        write_table(folder / "repr_particles" / f"latent_representative.{epoch}.txt", points)
        place = folder / f"vols.{epoch}"
        if options.skip_volgen:
            paths = listed_volumes(place).paths
            keep(*paths, place / LIST, place / "z_values.txt")
            if len(paths) == len(points):
                volumes[epoch] = paths
        elif run.weights_path(epoch).is_file() and is_there(run.config_path):
            volumes[epoch] = VolumeMaker(run, epoch, options).write(points, place)
    missing = sorted(set(epochs) - set(volumes))
    if missing:
        log.warning("no volumes for epochs %s: their weights are missing", ", ".join(map(str, missing)))
    return volumes


def write_volume_drift(folder: Path, drifted: VolumeDrift) -> None:
    """Write the numbers of volume_drift under the file names of tomoDRGN."""
    write_pickle(folder / "cc_masked.pkl", drifted.cc)
    write_pickle(folder / "fsc_masked.pkl", drifted.fsc)
    write_pickle(folder / "fsc_masked_frequencies.pkl", drifted.frequency_1_A)
    write_pickle(folder / "cc_masked_alltoall.pkl", drifted.pairwise)
    if drifted.truth is not None:
        write_pickle(folder / "cc_masked_alltogroundtruth.pkl", drifted.truth)


def volume_figures(drifted: VolumeDrift, truth_names: list[str]) -> dict[str, object]:
    """Draw the figures of the representatives' volumes, by file name."""
    names = sketch.letters(drifted.pairwise.shape[1])
    figures = {
        "09_pairwise_CC_matrix": convergence_plots.matrices(
            drifted.epochs, drifted.pairwise, names, "Correlation between representatives"
        )
    }
    if len(drifted.epochs) > 1:
        figures["06_decoder_CC"] = convergence_plots.by_representative(
            drifted, drifted.cc, "correlation", "Volumes in successive epochs"
        )
        figures["07_decoder_FSC"] = convergence_plots.shell_curves(drifted)
        figures["08_decoder_FSC-nyquist"] = convergence_plots.by_representative(
            drifted, drifted.fsc[:, :, -1], "FSC at Nyquist", "Finest shell in successive epochs"
        )
    if drifted.truth is not None:
        figures["10_groundtruth_CC_matrix"] = convergence_plots.matrices(
            drifted.epochs, drifted.truth, truth_names, "Correlation with the ground truth"
        )
    return figures


def save(figures: dict[str, object], folder: Path, plot_format: str) -> None:
    """Write figures to `folder`."""
    latent_plots.save_all(figures, folder, plot_format)
