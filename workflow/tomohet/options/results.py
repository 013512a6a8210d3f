"""Options of the commands that look at results, and of those about the program itself."""

from pathlib import Path
from typing import Literal

from tomohet.options.base import POSITIONAL, Options, option
from tomohet.options.shared import DeviceOptions, SeedOptions, VolumeOptions

MODE_VOLUMES = "mode volumes"
LOOK = "look"


class ReportOptions(Options):
    """Write one self-contained HTML page about everything in a dataset's results folder."""

    epilog = "Stages that have not run are left out, so a report can be written any time."
    results: Path = option(..., "Results folder of one dataset, e.g. results/demo.", POSITIONAL)
    output: Path | None = option(
        None,
        "File to write (RESULTS/report.html).",
        "-o",
        "--output",
        metavar="HTML",
    )


class LineageOptions(Options):
    """Write where the particles of each round come from: queries, counts, digests, seeds, verdicts."""

    epilog = "Reads files alone. Stages that have not run are left out."
    results: Path = option(..., "Results folder of one dataset, e.g. results/demo.", POSITIONAL)
    folder: Path | None = option(
        None, "Folder of lineage.json, lineage.png and lineage.svg (RESULTS).", "-o", "--folder"
    )


class MethodsOptions(Options):
    """Write the methods paragraph of a dataset: what was done, with its numbers, versions, seeds, digests."""

    epilog = "Every number is read from a file of the results, which the last table names."
    results: Path = option(..., "Results folder of one dataset, e.g. results/demo.", POSITIONAL)
    output: Path | None = option(None, "File to write (printed).", "-o", "--output", metavar="MD")


class HandoverOptions(Options):
    """Collect a round's particles, maps and mask for other programs, with a README on how to go on."""

    round_dir: Path = option(..., "Results folder of the round, e.g. results/demo/bound.", POSITIONAL)
    outdir: Path | None = option(None, "Folder to write (ROUND_DIR/subset/handover).", "-o", "--outdir")


class ServeOptions(DeviceOptions):
    """Serve the report in a browser, with volumes at any latents and means of any particles on request."""

    epilog = (
        "Listens on 127.0.0.1 alone; the printed address holds a token. From another machine: "
        "ssh -L 8765:127.0.0.1:8765 HOST, and open the same address. Ctrl-C ends it."
    )
    results: Path = option(..., "Results folder of one dataset, e.g. results/demo.", POSITIONAL)
    port: int = option(8765, "Port on 127.0.0.1; 0 takes a free one.", ge=0, le=65535)
    folder: Path | None = option(None, "Folder of the maps that are reconstructed (RESULTS/served).")
    tomograms: Path | None = option(
        None,
        "Folder of reconstructed tomograms, NAME.mrc, NAME.rec or NAME_*.mrc, for slabs (none are shown).",
    )
    threads: int | None = option(None, "Threads of a computation (all cores).", metavar="N", ge=1)


class ProposeOptions(SeedOptions, DeviceOptions):
    """Propose rounds: divide a finished round's particles as long as maps differ and labels are stable."""

    epilog = "The proposal is text for the configuration: nothing runs until you add it."
    round_dir: Path = option(..., "Results folder of the round, e.g. results/demo/all.", POSITIONAL)
    store: Path | None = option(None, "Prepared store (default: prepared beside the round).")
    outdir: Path | None = option(None, "Output folder (ROUND_DIR/proposed).", "-o", "--outdir", metavar="DIR")
    depth: int = option(2, "Most divisions on the way to a proposed round.", ge=1, le=8)
    min_particles: int = option(50, "Fewest particles of a proposed round.", metavar="N", ge=10)


class StatusOptions(Options):
    """Say which stages of which rounds are done, running, failed or pending, and how long is left."""

    epilog = "Looks at files, and asks squeue why a job waits; what an edit makes run again: snakemake -n"
    configfile: Path = option(Path("config/config.yaml"), "Configuration.")
    results: Path = option(Path("results"), "Folder of the results.")
    logs: Path = option(Path("logs"), "Folder of the workflow's logs.")
    benchmarks: Path = option(Path("benchmarks"), "Folder in which the workflow notes what stages took.")


class EstimateOptions(DeviceOptions):
    """Estimate time, memory and disk of every stage of a configuration, before anything runs."""

    epilog = "Times come from your own finished runs where there are any, else from measured devices."
    configfile: Path = option(..., "Configuration.", POSITIONAL)
    results: Path = option(Path("results"), "Folder of the results.")
    benchmarks: Path = option(Path("benchmarks"), "Folder in which the workflow notes what stages took.")


class Subtomo2chimeraxOptions(VolumeOptions, DeviceOptions):
    """Write ChimeraX scenes of particles in their tomograms: markers, one map, or particles' own volumes."""

    starfile: Path = option(..., "Volume series or optimisation set (.star).", POSITIONAL)
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
    mode: Literal["volumes", "volume", "markers"] = option(
        "markers",
        "Spheres with an arrow along each particle's z axis, the surface of one map for all, or a volume for "
        "each particle decoded from its latent.",
    )
    ind: Path | None = option(None, "Particles (0-based rows) to show (all).", metavar="PKL")
    table: Path | None = option(
        None,
        "Show the particles of this particle table, found by name; instead of --ind.",
        metavar="PARQUET",
    )
    tomoname: str | None = option(None, "Only this tomogram (all).")
    tomo_id_col_override: str | None = option(None, "Column that names the tomogram.", metavar="COLUMN")
    star_angpix_override: float | None = option(None, "Pixel size of coordinates, Å.", metavar="A")
    vol_path: Path | None = option(None, "Mode volume: the map.")
    weights: Path | None = option(None, "Weights of the training.", section=MODE_VOLUMES)
    config: Path | None = option(None, "The training's config.pkl.", section=MODE_VOLUMES)
    zfile: Path | None = option(
        None,
        "Latents (.pkl), one row per particle shown, or of the file.",
        section=MODE_VOLUMES,
    )
    skip_vol: bool = option(False, "Take the volumes of an earlier run.", section=MODE_VOLUMES)
    marker_radius_angstrom: float = option(100, "Radius of markers, Å.", section=LOOK)
    vol_render_level: float = option(0.5, "Isosurface level.", section=LOOK)
    coloring_labels: Path | None = option(
        None,
        "A label per particle (one colour).",
        metavar="PKL",
        section=LOOK,
    )
    color_by: str | None = option(
        None,
        "Column of --table that colours particles: labels, or numbers, which are cut into 10 intervals.",
        metavar="COLUMN",
        section=LOOK,
    )
    colormap: str | None = option(None, "Matplotlib map for the labels (house palette).", section=LOOK)


class CleanupOptions(Options):
    """Delete a training's old checkpoints, latents or volumes; analysed epochs and the newest stay."""

    workdir: Path = option(..., "Training folder.", POSITIONAL)
    weights: bool = option(False, "Delete weights.N.pkl.")
    zfiles: bool = option(False, "Delete z.N.train.pkl and z.N.test.pkl.")
    volumes: bool = option(False, "Delete all .mrc files in and below the folder.")
    test: bool = option(False, "Only list what would be deleted.")


class ViewConfigOptions(Options):
    """Print the parameters of a trained model (config.pkl), safely."""

    workdir: Path = option(..., "Training folder, or a config.pkl itself.", POSITIONAL)


class ImportTomodrgnOptions(Options):
    """Open a run of tomoDRGN 1.0: its weights and latents, in a folder that tomohet's commands accept."""

    epilog = "No code in the run's files is executed. OUTDIR is then a workdir for eval_vol and analyze."
    run_dir: Path = option(..., "Output folder of tomodrgn train_vae or train_nn.", POSITIONAL)
    outdir: Path = option(..., "Folder to write.", "-o", "--outdir")


class DoctorOptions(Options):
    """Check this machine: Python, packages, PyTorch and CUDA, memory, disk, Slurm."""

    epilog = "Exit status 1 when something necessary fails."
    folder: Path = option(Path("."), "Where results will be written (here).")
    slurm: bool = option(
        False,
        "Check the cluster too: the profile's partitions and account, a short job in each partition, its GPU "
        "and clock, and the shared file system from here and from the node.",
    )
    profile: Path | None = option(
        None, "Folder of the profile that --slurm checks (your profile slurm, or the checkout's)."
    )


class AssessOptions(SeedOptions):
    """Compare latents, clusters, occupancies and maps of a round with the truth of their simulation."""

    truth: Path = option(..., "The truth.npz of the simulation.")
    round_dir: Path = option(..., "Results folder of the round.")
    store: Path | None = option(None, "Prepared store (default: prepared beside the round).")
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
