"""Write latents along principal components, for eval_vol to decode."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("z", type=Path, help="latents (.pkl)")
    parser.add_argument(
        "-o", "--outdir", type=Path, required=True, help="output folder, or with --dim a file name (.txt)"
    )
    parser.add_argument("--dim", type=int, help="only this principal component, from 1 (all)")
    parser.add_argument("-n", type=int, default=10, help="points per component (10)")
    parser.add_argument(
        "--lim", type=float, nargs=2, default=(5, 95), metavar=("LOW", "HIGH"), help="percentiles (5 95)"
    )
    parser.add_argument(
        "--use-percentile-spacing", action="store_true", help="space points evenly in percentile, not score"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Write pc<i>.txt, one latent per row."""
    from tomohet.analysis.latent import principal_components
    from tomohet.analysis.latent_analysis import write_table
    from tomohet.analysis.traversal import component_scores, support
    from tomohet.errors import InputError
    from tomohet.files.leftovers import replacing
    from tomohet.files.pickles import load_latents

    z, _ = load_latents(args.z)
    pcs = principal_components(z)
    known = pcs.scores.shape[1]
    if args.dim is not None and not 1 <= args.dim <= known:
        raise InputError(f"--dim {args.dim}: there are components 1 to {known}")
    to_file = args.outdir.suffix == ".txt"
    if to_file and args.dim is None:
        raise InputError(
            f"-o {args.outdir}: a file takes one component; name it with --dim, or give a folder"
        )

    def write(component: int, path: Path) -> None:
        """The latents along one component."""
        points = component_scores(
            pcs.scores[:, component], args.n, tuple(args.lim), args.use_percentile_spacing
        )
        counts = support(pcs, component, points)
        log.info("PC%d: particles nearest to each point: %s", component + 1, " ".join(map(str, counts)))
        write_table(path, pcs.on_axis(component, points))

    if args.dim is not None:  # one file that is asked for by name, beside whatever others
        write(args.dim - 1, args.outdir if to_file else args.outdir / f"pc{args.dim}.txt")
        return
    with replacing(args.outdir, "pc_traversal"):
        for component in range(known):
            write(component, args.outdir / f"pc{component + 1}.txt")


if __name__ == "__main__":
    command(build_parser(), run)
