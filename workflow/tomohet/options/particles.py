"""Options of the commands that read, check, prepare and write particle files."""

from pathlib import Path
from typing import Literal

from tomohet.options.base import POSITIONAL, Options, option
from tomohet.options.kinds import Dialect
from tomohet.options.selection import Selection
from tomohet.options.shared import ParticleOptions, SeedOptions


class ValidateOptions(SeedOptions):
    """Check a particle file before any computing: what is in it, what is kept, and what cannot be right."""

    particles: Path = option(..., "STAR file: image series or optimisation set.", POSITIONAL)
    outdir: Path = option(..., "Folder of validation.json and .html.", "-o", "--outdir")
    datadir: Path | None = option(
        None, "Folder in which the image stacks are found (the STAR file's folder)."
    )
    source_software: Dialect = option(
        "auto",
        "Dialect of the STAR file.",
    )
    symmetry_expanded: bool = option(
        False,
        "The file is symmetry-expanded: each particle occurs several times, in poses that its point group"
        " relates; copies stay together in half sets and tests (default: such a file is asked about).",
    )
    rescale: float | None = option(
        None,
        "Pixel size to which `prepare` will bring all images (default: that of the images).",
        metavar="PIXEL_SIZE",
    )
    uninvert_data: bool = option(
        False,
        "`prepare` will keep the contrast of the images (default: inverted unless CTF-premultiplied).",
    )
    volume_series: Path | None = option(
        None,
        "STAR file of the same particles with 3-D positions, to find near-duplicates.",
        metavar="STAR",
    )
    max_images: int | None = option(
        None,
        "Images in that sample (default: as many as take seconds).",
        metavar="N",
        ge=2,
    )
    no_images: bool = option(
        False,
        "Check the tables alone; otherwise CTF flag, contrast and hand are tested on a sample of the "
        "images, and a stop ends the workflow.",
    )


class PrepareOptions(ParticleOptions, SeedOptions):
    """Prepare a dataset: read all tilt images once, transform them, and store them for every later stage."""

    particles: Path = option(..., "STAR file: image series or optimisation set.", POSITIONAL)
    outdir: Path = option(..., "Folder of the store.", "-o", "--outdir")
    dtype: Literal["float32", "float16"] = option(
        "float32",
        "Precision of the store on disk; float16 halves its size.",
    )
    invert_data: bool = option(False, "Change the sign of all images, CTF-premultiplied ones too.")
    rescale: float | None = option(
        None,
        "Pixel size to which all images are brought, not finer than any of theirs (default: that of the "
        "images).",
        metavar="PIXEL_SIZE",
        unit="Å",
        gt=0,
    )
    poses_from: Path | None = option(
        None,
        "STAR file of the same particles, as another program gave it back: its angles and shifts replace "
        "those of the input. Images are recognised by stack and section, else by their particle's name.",
        metavar="STAR",
    )
    box: int | None = option(
        None,
        "Box after --rescale, even (default: keeps the field of view).",
        metavar="PX",
        unit="px",
        ge=4,
    )


class DownsampleOptions(Options):
    """Crop images, volumes or whole datasets to a smaller box in Fourier space; STAR files follow."""

    input: Path = option(
        ...,
        "Stack (.mrcs), list of stacks (.txt), volume (--is-vol), image series or optimisation set.",
        POSITIONAL,
    )
    downsample: int = option(..., "New box, px.", "-D", "--downsample", metavar="BOX")
    output: Path = option(
        ...,
        "File to write: .mrcs, .mrc; .star writes a whole dataset with new stacks beside it.",
        "-o",
        "--output",
    )
    source_software: Dialect = option(
        "auto",
        "Dialect of the STAR file.",
    )
    batch_size: int = option(5000, "Images in memory at a time.", metavar="N", ge=1)
    is_vol: bool = option(False, "The input is a volume.")
    chunk: int | None = option(None, "Images per output file, listed in a .txt.", metavar="N", ge=1)
    lazy: bool = option(False, "Accepted; images are always read as needed.")
    datadir: Path | None = option(None, "Folder in which the stacks are found.")
    write_tiltseries_starfile: bool = option(
        False,
        "With -o .mrcs and a STAR file: write an image series of the new images too, named after -o.",
    )


class FilterStarOptions(Options):
    """Write a subset of a STAR file, chosen by indices, labels or tomogram, in the dialect it came in."""

    input: Path = option(..., "STAR file.", POSITIONAL)
    output: Path = option(..., "STAR file, or folder, to write.", "-o", "--output")
    starfile_type: Literal["imageseries", "volumeseries", "optimisation_set"] | None = option(
        None,
        "Kind of input (default: found out from the file).",
    )
    action: Literal["keep", "drop"] = option("keep", "Fate of the selection.")
    ind: Path | None = option(None, "Indices of the selected (0-based).", metavar="PKL")
    ind_type: Literal["particle", "image"] = option(
        "particle",
        "What indices and labels count: particles, or the images (rows) of an image series.",
    )
    particles: Path | None = option(
        None,
        "File whose particles --ind counts, when it is not the input: particles are joined by name "
        "(rlnGroupName, rlnTomoParticleName), or by row where a file has no names.",
        metavar="STAR",
    )
    datadir: Path | None = option(
        None,
        "Folder in which the image stacks are found; names that would not lead to them from the new file "
        "become absolute.",
    )
    with_refined_poses: Path | None = option(
        None,
        "poses.parquet of train_linear: write the refined poses of the particles that it lists, if it "
        "says that poses have errors; the store must have been prepared from the input (with --particles:"
        " from that file, of the same refinement as the input).",
        metavar="PARQUET",
    )
    labels: Path | None = option(None, "Label of each particle or image.", metavar="PKL")
    labels_sel: tuple[int, ...] | None = option(None, "Labels to select.", metavar="N")
    tomogram: str | None = option(
        None,
        "Write one file more for this tomogram, or for each (all).",
        metavar="NAME",
    )
    tomo_id_col: str = option(
        "_rlnMicrographName",
        "Column that names the tomogram (_rlnMicrographName; rlnTomoName of optimisation sets).",
        metavar="COLUMN",
    )


class SelectOptions(Selection):
    """Select particles by a query on a particle table, or by a file of indices or labels."""

    epilog = "Example: select results/demo/all/particles.parquet --query 'kmeans in [0, 2]' --explain"
    exclusive = (("query", "indices", "labels"),)
    section = ""
    table: Path = option(..., "Particle table: <round>/particles.parquet or a prepared store's.", POSITIONAL)
    query: str | None = option(
        None,
        "Condition on the table's columns, in pandas' words; also "
        'in_polygon("pc1", "pc2", [[x, y], ...]). None: every particle.',
    )
    output: Path | None = option(None, "Indices of the selected particles.", "-o", "--output", metavar="PKL")
    summary: Path | None = option(None, "Also write the counts.", metavar="JSON")
    parent: str | None = option(None, "Name of the round the table belongs to, for the summary.")
    explain: bool = option(
        False,
        "Print how many particles each condition and each step keeps, of each tomogram, state and cluster; "
        "-o is optional then.",
    )


class ParticleTableOptions(Options):
    """Join everything known about the particles of a round into one table."""

    store: Path = option(..., "Prepared store.", POSITIONAL)
    ind_ptcls: Path = option(..., "Particles of the round.", metavar="PKL")
    round_dir: Path = option(..., "Folder of the round's stages.")
    volume_series: Path | None = option(
        None,
        "3-D positions of the particles, where the store has none.",
        metavar="STAR",
    )
    parent_table: Path | None = option(
        None,
        "Table of the parent round: its axes (UMAP, components) become columns parent_umap1, parent_pc1, ...",
        metavar="PARQUET",
    )
    output: Path = option(..., "The table.", "-o", "--output", metavar="PARQUET")
