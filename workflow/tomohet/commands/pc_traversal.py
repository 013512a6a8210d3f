"""Write latents along principal components, to be decoded by eval_vol."""

import logging
from pathlib import Path

from tomohet.analysis.latent import principal_components
from tomohet.analysis.latent_analysis import write_table
from tomohet.analysis.traversal import component_scores, support
from tomohet.errors import InputError
from tomohet.files.leftovers import replacing
from tomohet.files.pickles import load_latents
from tomohet.options import PcTraversalOptions
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: PcTraversalOptions) -> None:
    """Write pc<i>.txt, one latent per row."""
    z, _ = load_latents(options.z)
    pcs = principal_components(z)
    known = pcs.scores.shape[1]
    if options.dim is not None and not 1 <= options.dim <= known:
        raise InputError(f"--dim {options.dim}: expected one of the components 1 to {known}")
    to_file = options.outdir.suffix == ".txt"
    if to_file and options.dim is None:
        raise InputError(
            f"-o {options.outdir}: a file holds one component; choose it with --dim, or give a folder"
        )

    def write(component: int, path: Path) -> None:
        """Write the latents along one component."""
        points = component_scores(
            pcs.scores[:, component], options.n, tuple(options.lim), options.use_percentile_spacing
        )
        counts = support(pcs, component, points)
        log.info("PC%d: particles nearest to each point: %s", component + 1, " ".join(map(str, counts)))
        write_table(path, pcs.on_axis(component, points))

    if options.dim is not None:  # a single named file; other files in the folder are kept
        write(options.dim - 1, options.outdir if to_file else options.outdir / f"pc{options.dim}.txt")
        return
    with replacing(options.outdir, "pc_traversal"):
        for component in range(known):
            write(component, options.outdir / f"pc{component + 1}.txt")
