"""Analysis of the latents of one epoch: components, clusters, embedding; its table, files and figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.analysis import clusters, latent, latent_plots
from tomohet.analysis.chunks import variances
from tomohet.answers import Answer, Step
from tomohet.files.atomic import atomic_path, write_pickle
from tomohet.particles.conditions import audit_answer

TABLE_COMPONENTS = 10  # components written to the particle table
# Variance over particles of a latent's posterior mean above which the latent is in use (Burda et al. 2016).
ACTIVE_VARIANCE = 0.01
ALIKE = 0.8  # adjusted Rand index from which clusters and states are the same groups


@dataclass(frozen=True)
class LatentAnalysis:
    """Results of the analysis of latents z (n, zdim).

    umap : (n, 2); None when not computed
    states : (n,) state of each particle, -1 where it is not known; None without states
    """

    z: np.ndarray
    pcs: latent.PrincipalComponents
    kmeans: clusters.Clusters
    mixture: clusters.Mixture
    umap: np.ndarray | None
    states: np.ndarray | None = None


def analyse(
    z: np.ndarray, k: int | None, seed: int, with_umap: bool, states: np.ndarray | None = None
) -> LatentAnalysis:
    """Compute components, k-means, Gaussian mixture and UMAP of z (n, zdim).

    k : number of k-means clusters; None takes it from the data (`clusters.number_of_clusters`)
    states : (n,) state of each particle, -1 where it is not known

    UMAP needs three dimensions or more.
    """
    pcs = latent.principal_components(z)
    mixture = clusters.gaussian_mixture(pcs.scores, seed)
    if k is None:
        found = None if states is None else len(np.unique(states[states >= 0]))
        k = clusters.number_of_clusters(len(z), found, mixture)
    return LatentAnalysis(
        z,
        pcs,
        clusters.kmeans(z, k, seed),
        mixture,
        latent.umap_embedding(z, seed) if with_umap and z.shape[1] > 2 else None,
        states,
    )


def agreement(found: LatentAnalysis) -> dict[str, object]:
    """Compare the labels of the clusters with the states, by the adjusted Rand index; {} without states.

    The index is 1 for the same groups and 0 for chance (Hubert & Arabie 1985, J. Classif. 2:193).
    """
    if found.states is None:
        return {}
    from sklearn.metrics import adjusted_rand_score

    known = found.states >= 0
    state = found.states[known]
    return {
        "states": len(np.unique(state)),
        "kmeans": float(adjusted_rand_score(state, found.kmeans.labels[known])),
        "gmm": float(adjusted_rand_score(state, found.mixture.labels[known])),
    }


def particle_columns(particles: np.ndarray, found: LatentAnalysis) -> pd.DataFrame:
    """Tabulate the results with one row per particle.

    Columns: particle, kmeans, gmm, gmm_probability, pc1.., and if computed umap1, umap2.
    """
    columns = {
        "particle": particles,
        "kmeans": found.kmeans.labels,
        "gmm": found.mixture.labels,
        "gmm_probability": found.mixture.probability.astype(np.float32),
    }
    for number, scores in enumerate(found.pcs.scores.T[:TABLE_COMPONENTS], start=1):
        columns[f"pc{number}"] = scores
    if found.umap is not None:
        columns["umap1"], columns["umap2"] = found.umap.T
    return pd.DataFrame(columns)


def summary(found: LatentAnalysis, logvar: np.ndarray | None) -> dict[str, object]:
    """Collect the numbers of the analysis for summary.json."""
    spread = variances(found.z)
    numbers = {
        "particles": len(found.z),
        "zdim": found.z.shape[1],
        "explained_variance": found.pcs.explained[:TABLE_COMPONENTS],
        "active_dimensions": int((spread > ACTIVE_VARIANCE).sum()),
        "kmeans": {
            "clusters": len(found.kmeans.rows),
            "sizes": np.bincount(found.kmeans.labels),
            "centre_rows": found.kmeans.rows,
        },
        "gmm": {
            "components": found.mixture.components,
            "covariance": found.mixture.covariance,
            "sizes": np.bincount(found.mixture.labels),
            "bic": found.mixture.bic,
        },
    }
    if compared := agreement(found):
        numbers["agreement_with_states"] = compared
    if logvar is not None:
        numbers["posterior_to_prior_sd"] = float(np.exp(logvar / 2).mean())
    return numbers


def latent_answers(numbers: dict) -> list[Answer]:
    """Return what the analysis answers: how many latents are used, and the leak audit if it was made.

    numbers : content of the stage's summary
    """
    used, zdim = numbers["active_dimensions"], numbers["zdim"]
    text = f"{used} of {zdim} latent dimensions differ between particles."
    answers = [Answer("Latents", "fact" if used else "bad", text)]
    if numbers.get("agreement_with_states", {}).get("states", 1) > 1:
        answers.append(clusters_answer(numbers))
    return [*answers, audit_answer(numbers["leaks"])] if numbers.get("leaks") else answers


def clusters_answer(numbers: dict) -> Answer:
    """Say whether the clusters of the latents are the states, and why not.

    numbers : content of the stage's summary
    """
    compared, k, mixture = numbers["agreement_with_states"], numbers["kmeans"], numbers["gmm"]
    index, states = compared["kmeans"], compared["states"]
    measured = (
        f"{k['clusters']} k-means clusters of the latents agree with the {states} states "
        f"(adjusted Rand index {index:.2f})"
    )
    if index >= ALIKE:
        return Answer("Clusters", "good", f"{measured}: either may be selected by.")
    measured = measured.replace("agree with", "agree only in part with")
    if mixture["components"] == 1:
        why = "the latents form one cloud, which k-means divides arbitrarily"
    elif mixture["components"] < states:
        why = f"a Gaussian mixture sees {mixture['components']} groups in the latents, fewer than states"
    elif k["clusters"] != states:
        why = "their numbers differ"
    else:
        why = "k-means cuts groups of unlike size and shape"
    step = Step("Select by state rather than by cluster: held-out tilt images decided on the states.")
    return Answer("Clusters", "look", f"{measured}: {why}.", (step,))


def component_points(found: LatentAnalysis, component: int, on_data: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return ten latents along a component (0-based) and the rows of the particles nearest to them.

    The latents are on the axis, or with `on_data` those of the nearest particles.
    """
    points = found.pcs.on_axis(component, latent.percentile_scores(found.pcs.scores[:, component]))
    rows = latent.nearest_rows(points, found.z)
    return (found.z[rows] if on_data else points), rows


def write_component(folder: Path, points: np.ndarray, rows: np.ndarray, on_data: bool) -> None:
    """Write the latents of a traversal: z_percentiles.txt, and the particles' rows when on data."""
    write_table(folder / "z_percentiles.txt", points)
    if on_data:
        write_table(folder / "z_percentiles_ind.txt", rows, integers=True)


def write_clusters(folder: Path, found: clusters.Clusters) -> None:
    """Write labels.pkl (n,), centers.txt (k, zdim) and centers_ind.txt (k rows of the latents)."""
    write_pickle(folder / "labels.pkl", found.labels)
    write_table(folder / "centers.txt", found.centres)
    write_table(folder / "centers_ind.txt", found.rows, integers=True)


def write_table(path: Path, numbers: np.ndarray, integers: bool = False) -> None:
    """Write numbers as plain text, one row per line, atomically."""
    with atomic_path(path) as temporary:
        np.savetxt(temporary, numbers, fmt="%d" if integers else "%.7g")


def overview_figures(found: LatentAnalysis) -> dict[str, object]:
    """Draw the figures of the whole latent space, by file name."""
    x, y, names = latent_plots.plane(found.pcs)
    figures = {
        "z_pca_explainedvariance": latent_plots.explained_variance(found.pcs),
        "z_pca_scatter": latent_plots.density(x, y, names, "Latents: principal components"),
    }
    if found.z.shape[1] == 1:
        figures["z_hist"] = latent_plots.one_dimension(found.z[:, 0])
    panels = {"k-means": found.kmeans.labels, "Gaussian mixture (BIC)": found.mixture.labels}
    figures["z_pca_clusters"] = latent_plots.labelled(x, y, names, panels, "Latents: principal components")
    if found.umap is not None:
        u, v, axes = *found.umap.T, ("UMAP 1", "UMAP 2")
        figures["z_umap_scatter"] = latent_plots.density(u, v, axes, "Latents: UMAP")
        figures["z_umap_clusters"] = latent_plots.labelled(u, v, axes, panels, "Latents: UMAP")
    return figures


def cluster_figures(found: LatentAnalysis, tomograms: np.ndarray | None) -> dict[str, object]:
    """Draw the figures of the k-means clusters, by file name.

    tomograms : (n,) of the particles, if known, for cluster sizes by tomogram
    """
    rows, labels = found.kmeans.rows, found.kmeans.labels
    x, y, names = latent_plots.plane(found.pcs)
    title = "k-means centres (particles)"
    figures = {
        "z_pca_scatter_annotatekmeans": latent_plots.marked(x, y, names, rows, title),
        "z_pca_scatter_subplotkmeanslabel": latent_plots.each_cluster(
            x, y, names, labels, "k-means clusters"
        ),
    }
    if found.umap is not None:
        u, v, axes = *found.umap.T, ("UMAP 1", "UMAP 2")
        figures["z_umap_scatter_annotatekmeans"] = latent_plots.marked(u, v, axes, rows, title)
        figures["z_umap_scatter_subplotkmeanslabel"] = latent_plots.each_cluster(
            u, v, axes, labels, "k-means clusters"
        )
    if tomograms is None:
        tomograms = np.full(len(labels), "all")
    figures["tomogram_label_distribution"] = latent_plots.by_tomogram(
        labels, tomograms, "k-means cluster sizes by tomogram"
    )
    return figures


def component_figures(found: LatentAnalysis, component: int, rows: np.ndarray) -> dict[str, object]:
    """Draw the figures of the traversal along a component (0-based), by file name."""
    x, y, names = latent_plots.plane(found.pcs)
    title = f"PC{component + 1}: particles nearest to the ten points"
    figures = {"z_pca_scatter_annotatepca": latent_plots.marked(x, y, names, rows, title)}
    if found.umap is not None:
        u, v, axes = *found.umap.T, ("UMAP 1", "UMAP 2")
        figures["z_umap_scatter_annotatepca"] = latent_plots.marked(u, v, axes, rows, title)
        figures["z_umap_colorlatentpca"] = latent_plots.valued(
            u, v, axes, found.pcs.scores[:, component], f"PC{component + 1} score", "Latents: UMAP"
        )
    return figures
