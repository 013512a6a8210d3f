"""Find the shortest path through the latents between chosen particles, always near observed particles."""

import argparse
import logging
import re
from pathlib import Path

from tomohet.cli import command, options

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("z", type=Path, help="latents (.pkl)")
    parser.add_argument(
        "--anchors",
        type=int,
        nargs="+",
        required=True,
        help="particles (rows of the latents) to pass, in order",
    )
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    parser.add_argument("--max-neighbors", type=int, default=10, help="nearest neighbours joined (10)")
    parser.add_argument(
        "--avg-neighbors", type=float, help="keep only the shortest edges, so many per particle on average"
    )
    options.add_plot_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the path's particles and latents, and figures of it."""
    from tomohet.analysis import latent, traversal
    from tomohet.errors import InputError
    from tomohet.files.leftovers import replacing
    from tomohet.files.pickles import load_latents

    z, _ = load_latents(args.z)
    traversal.check_anchors(args.anchors, len(z))
    latent.check_finite(z)
    graph = traversal.neighbour_graph(z, args.max_neighbors, args.avg_neighbors)
    path, broken = traversal.shortest_path(graph, args.anchors)
    for start, end in broken:
        log.warning("no path from particle %d to %d; try a larger --max-neighbors", start, end)
    if len(broken) == len(args.anchors) - 1:
        raise InputError(
            "no two successive anchors are joined; raise --max-neighbors or leave out --avg-neighbors"
        )
    log.info("path of %d particles: %s", len(path), " ".join(map(str, path)))
    with replacing(args.outdir, "graph_traversal"):
        write(args, z, graph, path)


def write(args: argparse.Namespace, z, graph, path) -> None:
    """The particles of the path, their latents, and figures of it in the latents' planes."""
    from tomohet.analysis import latent, latent_plots
    from tomohet.analysis.latent_analysis import write_table
    from tomohet.files.atomic import write_pickle

    write_table(args.outdir / "path_particle_indices.txt", path, integers=True)
    write_pickle(args.outdir / "path_particle_indices.pkl", path.tolist())
    write_pickle(args.outdir / "path_particle_embeddings.pkl", z[path])
    write_table(args.outdir / "z_path.txt", z[path])

    planes = {"latent": latent_plots.plane(latent.principal_components(z))}
    embedding = find_umap(args.z, len(z))
    if embedding is not None:
        planes["umap"] = (*embedding.T, ("UMAP 1", "UMAP 2"))
    for name, (x, y, axes) in planes.items():
        figures = {
            f"{name}_graph": latent_plots.graph(x, y, axes, graph, "Graph of latent neighbours"),
            f"{name}_graph_path": latent_plots.marked(x, y, axes, path, "Shortest path", joined=True),
        }
        latent_plots.save_all(figures, args.outdir, args.plot_format)


def find_umap(latents: Path, n: int):
    """The embedding (n, 2) that analyze made of these latents, or None."""
    from tomohet.files.pickles import load_array

    name = re.fullmatch(r"z(\.\d+)?\.train\.pkl", latents.name)
    path = latents.parent / f"analyze{(name and name[1]) or ''}" / "umap.pkl"
    embedding = load_array(path) if name and path.is_file() else None
    return embedding if embedding is not None and len(embedding) == n else None


if __name__ == "__main__":
    command(build_parser(), run)
