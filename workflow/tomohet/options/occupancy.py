"""Options of SIREn and MAVEn."""

from pathlib import Path
from typing import Annotated, Literal

from tomohet.options.base import option
from tomohet.options.kinds import FileUnless, NumberOrText
from tomohet.options.shared import (
    DeviceOptions,
    ParticleMapsOptions,
    PartsOptions,
    PlotOptions,
    SeedOptions,
)

LEVEL = "level"
UNITS = "densities and masks of the model's units"
ANALYSIS = "analysis"

# A level, or a CSV table of them.
Level = Annotated[
    NumberOrText,
    FileUnless("auto", "solvent", "volume", "own-solvent", "own-maximum", "cnn"),
]


class SirenOptions(PlotOptions, SeedOptions, DeviceOptions, ParticleMapsOptions, PartsOptions):
    """Find structural blocks that come and go together in an ensemble of volumes, without a model."""

    epilog = "The folder of blocks serves `maven --masks` as it is."
    volumes: Path = option(
        ...,
        "Folder of <name>_<number>.mrc files, or one stack of volumes; z.pkl and assignment.parquet of "
        "choose_volumes beside them tell how independent they are, and how many particles each stands "
        "for.",
    )
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
    rule: Literal["phi", "siren"] = option(
        "phi",
        "How voxels are linked: by an exact test and their correlation phi, or by SIREn's published rule.",
    )
    blocks: Path | None = option(
        None,
        "Folder of masks block_<id>.mrc, drawn or edited by hand, to expand (default: blocks are found).",
        metavar="DIR",
    )
    weights: Literal["population", "equal"] = option(
        "population",
        "Count each volume as often as particles are assigned to it (population), or once (equal).",
    )
    engine: Literal["auto", "popcount", "matrix"] = option(
        "auto",
        "Count by bits or by matrix products, with the same result; auto takes products on a GPU.",
    )
    level: Level = option(
        "auto",
        "Density above which a voxel is on. One height above solvent for all volumes: auto, solvent (5 "
        "sigma) or volume (that encloses --mass-kda); each volume's own: own-solvent, own-maximum (0.19 of "
        "its peak) or cnn; a number; or a CSV table with columns volume and level.",
        section=LEVEL,
    )
    mass_kda: float | None = option(
        None,
        "Molecular mass, for --level volume.",
        metavar="KDA",
        unit="kDa",
        section=LEVEL,
        gt=0,
    )
    cnn_weights: Path | None = option(
        None,
        "File with the weights of SIREn's network, for --level cnn.",
        metavar="FILE",
        section=LEVEL,
    )


class MavenOptions(PlotOptions, SeedOptions, DeviceOptions, ParticleMapsOptions, PartsOptions):
    """Measure the occupancy of every unit of a model, or every mask, in every volume and every particle."""

    epilog = (
        "occupancies.csv holds MAVEn's numbers (mask sum / sum of the reference density, on the volumes' "
        "own grey scale); volumes.parquet and particles.parquet hold the calibrated ones, 0 = absent and "
        "1 = present."
    )
    one_of = (("model", "masks"),)
    volumes: Path = option(..., "Folder of <name>_<number>.mrc files, or one stack of volumes.")
    model: tuple[Path, ...] | None = option(
        None,
        "PDB or mmCIF files, aligned to the volumes.",
        metavar="FILE",
    )
    masks: Path | None = option(None, "Folder of masks (.mrc), such as siren's blocks.", metavar="DIR")
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
    resolution: float | None = option(
        None,
        "Resolution at which the model becomes densities (default: 2.5 pixels).",
        metavar="A",
        unit="Å",
        section=UNITS,
        gt=0,
    )
    units: Annotated[str, FileUnless("chain", "label", "entity")] = option(
        "chain",
        "What is measured: chain, label, entity, or a CSV table with columns unit, file, chain, label, "
        "first, last, residues, threshold, colour.",
        section=UNITS,
    )
    no_hydrogens: bool = option(
        False,
        "Leave out hydrogen atoms.",
        section=UNITS,
    )
    no_waters: bool = option(False, "Leave out water.", section=UNITS)
    density_mode: Literal["chimerax", "integrated"] = option(
        "chimerax",
        "Densities as ChimeraX's molmap makes them, or integrated over each voxel.",
        section=UNITS,
    )
    model_origin: Literal["header", "centre"] = option(
        "header",
        "Where the model's coordinates count from: the maps' header origin, or their centre voxel.",
        section=UNITS,
    )
    align: Literal["auto", "check", "fit", "off"] = option(
        "auto",
        "Does the model lie in the volumes? auto: move it only if it is clearly wrong (shifted, wrong "
        "hand, wrong origin, or found by a search over all rotations); check: say so and move nothing; "
        "fit: always search and refine; off: do not ask.",
        section=UNITS,
    )
    mask_threshold: float | None = option(
        None,
        "Density at which a mask begins (default: RELION's 0.01, or a fifth of the unit's peak if that is "
        "lower).",
        metavar="T",
        section=UNITS,
    )
    mask_extend: NumberOrText = option(
        "0",
        "Grow the masks: pixels, or Å as in 10A.",
        metavar="L",
        section=UNITS,
    )
    mask_soft_edge: NumberOrText = option(
        "0",
        "Soft edge of the masks: pixels, or Å as in 10A.",
        metavar="L",
        section=UNITS,
    )
    scale: Literal["modes", "present", "percentile", "none"] = option(
        "modes",
        "What 0 and 1 are: a unit's own two modes where it has two, else solvent and the level of present"
        " units; the latter for all units; MAVEn's percentiles; the volumes' own grey scale.",
        section=ANALYSIS,
    )
    no_background: bool = option(
        False,
        "Do not subtract the solvent around the structure.",
        section=ANALYSIS,
    )
    binarise: str | None = option(
        None,
        "Count the voxels at or above a level instead of summing density: auto, a number, or a CSV table "
        "with columns volume and level (or SIREn's predictions.csv).",
        metavar="LEVEL",
        section=ANALYSIS,
    )
    classes: int | None = option(
        None,
        "Groups of volumes (default: the number with the best silhouette).",
        metavar="N",
        section=ANALYSIS,
        ge=1,
    )
    unit_groups: int | None = option(
        None,
        "Groups of units (default: the number with the best silhouette).",
        metavar="N",
        section=ANALYSIS,
        ge=1,
    )
