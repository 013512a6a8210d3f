"""Find the shortest path through the latents between chosen particles, near observed particles."""

import logging
import re
from pathlib import Path

from tomohet.analysis import latent, latent_plots, traversal
from tomohet.analysis.latent_analysis import write_table
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.leftovers import replacing
from tomohet.files.pickles import load_array, load_latents
from tomohet.options import GraphTraversalOptions
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: GraphTraversalOptions) -> None:
    """Write the particles and latents of the path, and figures."""
    z, _ = load_latents(options.z)
    traversal.check_anchors(options.anchors, len(z))
    latent.check_finite(z)
    graph = traversal.neighbour_graph(z, options.max_neighbors, options.avg_neighbors)
    path, broken = traversal.shortest_path(graph, options.anchors)
    for start, end in broken:
        log.warning("no path from particle %d to %d; try a larger --max-neighbors", start, end)
    if len(broken) == len(options.anchors) - 1:
        raise InputError(
            "no two successive anchors are connected; raise --max-neighbors or omit --avg-neighbors"
        )
    log.info("path of %d particles: %s", len(path), " ".join(map(str, path)))
    with replacing(options.outdir, "graph_traversal"):
        write(options, z, graph, path)


def write(options: GraphTraversalOptions, z, graph, path) -> None:
    """Write the particles of the path, their latents, and figures of the path in latent space."""
    write_table(options.outdir / "path_particle_indices.txt", path, integers=True)
    write_pickle(options.outdir / "path_particle_indices.pkl", path.tolist())
    write_pickle(options.outdir / "path_particle_embeddings.pkl", z[path])
    write_table(options.outdir / "z_path.txt", z[path])

    planes = {"latent": latent_plots.plane(latent.principal_components(z))}
    embedding = find_umap(options.z, len(z))
    if embedding is not None:
        planes["umap"] = (*embedding.T, ("UMAP 1", "UMAP 2"))
    for name, (x, y, axes) in planes.items():
        figures = {
            f"{name}_graph": latent_plots.graph(x, y, axes, graph, "Graph of latent neighbours"),
            f"{name}_graph_path": latent_plots.marked(x, y, axes, path, "Shortest path", joined=True),
        }
        latent_plots.save_all(figures, options.outdir, options.plot_format)


def find_umap(latents: Path, n: int):
    """Return the embedding (n, 2) that `analyze` made of these latents, or None."""
    name = re.fullmatch(r"z(\.\d+)?\.train\.pkl", latents.name)
    path = latents.parent / f"analyze{(name and name[1]) or ''}" / "umap.pkl"
    embedding = load_array(path) if name and path.is_file() else None
    return embedding if embedding is not None and len(embedding) == n else None
