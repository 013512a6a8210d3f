"""Analysis of volumes in voxel space: its table, files and figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet import plots
from tomohet.analysis import clusters, latent, latent_plots
from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.latent_analysis import write_table
from tomohet.analysis.volume_montage import montage
from tomohet.analysis.volume_space import VolumeComponents
from tomohet.answers import Answer
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.digests import is_there
from tomohet.files.mrc import write_volume
from tomohet.files.tables import read_table
from tomohet.model.config_file.reading import read_particles_of
from tomohet.model.settings import TrainedParticles

MOST_OF_VARIANCE = 0.9
TABLE_COMPONENTS = 10


@dataclass(frozen=True)
class VolumeAnalysis:
    """Results of the analysis of n volumes; `kmeans` and `umap` (n, 2) are None when not computed."""

    pcs: VolumeComponents
    kmeans: clusters.Clusters | None
    umap: np.ndarray | None


def analyse(pcs: VolumeComponents, k: int | None, seed: int, with_umap: bool) -> VolumeAnalysis:
    """Compute k-means (if k) and UMAP of volumes by component scores, whose distances are those of voxels."""
    return VolumeAnalysis(
        pcs,
        clusters.kmeans(pcs.scores, k, seed) if k else None,
        latent.umap_embedding(pcs.scores, seed) if with_umap and pcs.scores.shape[1] > 2 else None,
    )


def volume_columns(volumes: Ensemble, found: VolumeAnalysis) -> pd.DataFrame:
    """Tabulate one row per volume: volume (its number), vpc1.., and if computed vumap1, vumap2, vkmeans."""
    columns = {"volume": volumes.numbers}
    for number, scores in enumerate(found.pcs.scores.T[:TABLE_COMPONENTS], start=1):
        columns[f"vpc{number}"] = scores
    if found.umap is not None:
        columns["vumap1"], columns["vumap2"] = found.umap.T
    if found.kmeans is not None:
        columns["vkmeans"] = found.kmeans.labels
    return pd.DataFrame(columns)


def summary(volumes: Ensemble, found: VolumeAnalysis, mask: np.ndarray) -> dict[str, object]:
    """Collect the numbers of the analysis for summary.json."""
    numbers = {
        "volumes": len(volumes),
        "box_px": volumes.grid.box,
        "pixel_size_A": volumes.grid.pixel_size_A,
        "mask_fraction": float(mask.mean()),
        "explained_variance": found.pcs.explained[:TABLE_COMPONENTS],
    }
    if found.kmeans is not None:
        numbers["kmeans"] = {
            "clusters": len(found.kmeans.rows),
            "sizes": np.bincount(found.kmeans.labels),
            "nearest_volumes": volumes.numbers[found.kmeans.rows],
        }
    return numbers


def components_answer(numbers: dict) -> Answer:
    """Say how few components hold the variance of the volumes inside the mask.

    numbers : content of the stage's summary
    """
    held = np.cumsum(numbers["explained_variance"])
    needed = int(np.searchsorted(held, MOST_OF_VARIANCE)) + 1
    if needed > len(held):
        text = f"The first {len(held)} components hold {held[-1]:.0%} of the variance of the volumes."
    else:
        text = f"{needed} of the components hold {held[needed - 1]:.0%} of the variance of the volumes."
    return Answer("Volumes", "fact", text)


def write_traversals(folder: Path, volumes: Ensemble, pcs: VolumeComponents, plot_format: str) -> None:
    """Write ten volumes along each leading component, pc<i>/voxel_pc<i>_vol<j>.mrc, and a picture of them."""
    for component in range(len(pcs.axes)):
        number = component + 1
        scores = latent.percentile_scores(pcs.scores[:, component])
        paths = [folder / f"pc{number}" / f"voxel_pc{number}_vol{j}.mrc" for j in range(len(scores))]
        for path, score in zip(paths, scores, strict=True):
            write_volume(path, pcs.on_axis(component, score), volumes.grid.pixel_size_A)
        names = [f"score {score:.3g}" for score in scores]
        montage(paths, folder / f"pc{number}" / f"slices.{plot_format}", f"Along volume PC{number}", names)


def tomograms_of_volumes(voldir: Path, config: Path | None, volumes: Ensemble) -> pd.DataFrame | None:
    """Return for each particle the row of its volume and its tomogram (columns row, tomogram).

    Returns None unless the configuration names a store, and an assignment of particles to volumes lies in
    `voldir` (or beside `voldir` if that is a stack).
    """
    assignment = (voldir if voldir.is_dir() else voldir.parent) / "assignment.parquet"
    trained = TrainedParticles() if config is None else read_particles_of(config)
    store = trained.store
    if store is None or not is_there(assignment):
        return None
    from tomohet.particles.same_input import refuse_other_input
    from tomohet.particles.store import open_store

    table = read_table(assignment, dict.fromkeys(("particle", "volume"), "whole numbers"))
    opened = open_store(store)
    refuse_other_input(trained.origin, opened.description, config, store)
    tomograms = opened.particles["tomogram"].astype(str).to_numpy()
    if len(table) and not 0 <= table["particle"].min() <= table["particle"].max() < len(tomograms):
        raise InputError(f"{assignment}: names particles that are not in the store {store}")
    row = pd.Series(np.arange(len(volumes.numbers)), index=volumes.numbers).reindex(table["volume"])
    known = row.notna().to_numpy()
    return pd.DataFrame(
        {
            "row": row.to_numpy()[known].astype(int),
            "tomogram": tomograms[table["particle"].to_numpy()[known]],
        }
    )


def write_clusters(
    folder: Path,
    volumes: Ensemble,
    found: VolumeAnalysis,
    plot_format: str,
    tomograms: pd.DataFrame | None,
) -> None:
    """Write labels, the real volume nearest to each cluster's mean (copied), and a picture of them."""
    rows, labels = found.kmeans.rows, found.kmeans.labels
    stem = f"voxel_{folder.name}"
    write_pickle(folder / f"{stem}_labels.pkl", labels)
    write_table(folder / "voxel_kmeans_centers_ind.txt", volumes.numbers[rows], integers=True)
    copies = [folder / f"{stem}_cluster{label}.mrc" for label in range(len(rows))]
    for copy, row in zip(copies, rows, strict=True):
        volumes.copy(row, copy)
    sizes = np.bincount(labels)
    names = [
        f"{label}: {size} vol., {volumes.name(row)}"
        for label, (size, row) in enumerate(zip(sizes, rows, strict=True))
    ]
    montage(
        copies,
        folder.parent / f"volumes_{folder.name}.{plot_format}",
        "Real volume nearest to each cluster's mean",
        names,
    )
    if tomograms is not None:
        figure = latent_plots.by_tomogram(
            labels[tomograms["row"]], tomograms["tomogram"].to_numpy(), "Particles by cluster of their volume"
        )
        plots.save(figure, folder / f"tomogram_label_distribution.{plot_format}")


def write_figures(
    folder: Path, volumes: Ensemble, found: VolumeAnalysis, mask: np.ndarray, plot_format: str
) -> None:
    """Draw the figures of the volume space and of the mask."""
    pcs = found.pcs
    x, y, names = latent_plots.plane(pcs)
    labels = found.kmeans.labels if found.kmeans is not None else None
    figures = {
        "voxel_pca_explainedvariance": latent_plots.explained_variance(pcs, "Volumes"),
        "voxel_pca_scatter": _plane(x, y, names, labels, "Volumes: principal components"),
        "mask": plots.slices_montage(
            [pcs.mean, mask], ["mean volume", "mask"], "Mask of the analysis", own_scale=True
        ),
    }
    if len(pcs.axes):
        titles = [f"PC{i + 1} ({100 * pcs.explained[i]:.0f} %)" for i in range(len(pcs.axes))]
        figures["eigenvolumes"] = plots.slices_montage(
            list(pcs.axes), titles, "Eigenvolumes", own_scale=True, diverging=True
        )
    if found.umap is not None:
        figures["voxel_umap_scatter"] = _plane(*found.umap.T, ("UMAP 1", "UMAP 2"), labels, "Volumes: UMAP")
    latent_plots.save_all(figures, folder, plot_format)


def _plane(x: np.ndarray, y: np.ndarray, names: tuple[str, str], labels: np.ndarray | None, title: str):
    if labels is None:
        return latent_plots.density(x, y, names, title)
    return latent_plots.labelled(x, y, names, {"k-means of volumes": labels}, title)
