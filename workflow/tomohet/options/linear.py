"""Options of the half maps, the linear model, the states, and the test of subsets."""

from pathlib import Path
from typing import Literal

from tomohet.options.base import POSITIONAL, option
from tomohet.options.kinds import Condition
from tomohet.options.shared import DeviceOptions, ParticleOptions, PlotOptions, PosesOptions, SeedOptions

RECONSTRUCTION = "reconstruction"


class BackprojectVoxelOptions(ParticleOptions, PosesOptions, PlotOptions, SeedOptions, DeviceOptions):
    """Reconstruct a map and its half maps from tilt images by weighted backprojection."""

    epilog = (
        "Writes map, map_filt, half1, half2 and mask (.mrc), fsc.csv, reconstruction.json and figures "
        "into -o FOLDER; X.mrc, X_filt.mrc, X_half1.mrc, X_half2.mrc, X_FSC.pkl and so on for -o X.mrc."
    )
    particles: Path = option(
        ...,
        "STAR file (image series or optimisation set) or prepared store.",
        POSITIONAL,
    )
    output: Path = option(..., "Output folder, or file of the map.", "-o", "--output", metavar="FOLDER|X.mrc")
    recon_dose_weight: bool = option(
        False,
        "Model the radiation damage: the attenuation by the dose at each frequency.",
        section=RECONSTRUCTION,
    )
    recon_tilt_weight: bool = option(
        False, "Model the loss of signal with the cosine of the tilt.", section=RECONSTRUCTION
    )
    half_by: Literal["particle", "tilt"] = option(
        "particle",
        "Half maps from halves of the particles (the input's half sets if it has them), or of each "
        "particle's tilts.",
        section=RECONSTRUCTION,
    )
    wiener: float | None = option(
        None,
        "Regulariser as a fraction of each shell's mean weight (default: the Wiener filter of the FSC).",
        metavar="F",
        section=RECONSTRUCTION,
        gt=0,
    )
    refine_poses: Path | None = option(
        None,
        "poses.parquet of train_linear: where that model found errors (and ran without --no-refine-"
        "poses), refine the poses of each half set by a linear model of that half alone. --poses takes "
        "poses that all particles together have refined, which raises the FSC.",
        metavar="FILE",
        section=RECONSTRUCTION,
    )
    mask: Path | None = option(
        None,
        "MRC mask for the FSC (default: drawn around the density).",
        metavar="MRC",
        section=RECONSTRUCTION,
    )
    lowpass: float | None = option(
        None,
        "Low-pass of the filtered map (default: the resolution of the half maps).",
        metavar="A",
        unit="Å",
        section=RECONSTRUCTION,
        gt=0,
    )
    flip: bool = option(False, "Reverse the z axis (handedness).", section=RECONSTRUCTION)


class TrainLinearOptions(ParticleOptions, PlotOptions, SeedOptions, DeviceOptions):
    """Fit a linear latent model: a mean map, a few basis maps and closed-form latents."""

    particles: Path = option(..., "Prepared store, or STAR file.", POSITIONAL)
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
    zdim: int | None = option(
        None,
        "Number of basis maps, the eigenvolumes (default: as many as the held-out tilt images confirm, at "
        "most 10).",
        metavar="N",
        ge=1,
    )
    iterations: int = option(
        40,
        "Most iterations of expectation-maximisation, which ends when the latents have settled.",
        "-n",
        "--iterations",
        ge=1,
    )
    max_frequency: float = option(
        0.25,
        "Highest spatial frequency used.",
        metavar="F",
        unit="1/px",
        gt=0,
        le=0.5,
    )
    structure_may_follow: tuple[Condition, ...] = option(
        (),
        "Conditions of imaging that structure may follow. A component that a condition explains by half "
        "or more is not counted, unless the condition is listed here: tomogram, where the tomograms are "
        "of different samples.",
    )
    focus_mask: Path | None = option(
        None,
        "MRC mask, from 0 to 1, of the part of the particle in which differences are asked for, in the "
        "box and pixel size of the prepared images. Differences outside are nuisance: a few maps outside "
        "take them up, and their latents are integrated out of tests, latents and states. The network "
        "that the model teaches is not confined to the mask (default: the whole particle).",
        metavar="MRC",
    )
    refine_poses: bool = option(
        True,
        "Use poses as refined by the linear model, where it finds that they have errors: for the states, "
        "the network and the round's half maps, in which each half set is refined by itself. Without it "
        "these stages use the poses that the input states.",
    )
    warm_start: Path | None = option(
        None,
        "Output folder of train_linear on particles that include these: expectation-maximisation starts from "
        "its latents, as its training tilts give them.",
        metavar="DIR",
    )
    multigpu: bool = option(
        False,
        "Share the particles among all visible GPUs (no effect with one, or on a CPU).",
    )


class StatesOptions(ParticleOptions, PlotOptions, SeedOptions, DeviceOptions):
    """Find discrete states: sort particles into maps, and say whether a continuum would fit them better."""

    particles: Path = option(..., "Prepared store, or STAR file.", POSITIONAL)
    linear: Path = option(..., "Output folder of train_linear.", metavar="DIR")
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
    states: int | None = option(
        None,
        "Number of states (default: as many as the held-out tilt images tell from each other).",
        metavar="N",
        ge=1,
    )
    most: int = option(12, "Maximum number of states considered.", metavar="N", ge=1)


class SupportOptions(ParticleOptions, PlotOptions, SeedOptions, DeviceOptions):
    """Test whether a subset differs from the other particles by more than chance and noise explain."""

    epilog = (
        "Writes support.json with the verdict (supported, weak, not supported), control.png and the "
        "difference in standard deviations of its noise; with --maps also local resolution, orientation "
        "coverage and 3-D FSC, and with --workdir the FSC with the decoded volume."
    )
    one_of = (("members", "groups"),)
    particles: Path = option(
        ..., "Prepared store, or STAR file; --ind-ptcls gives the particles to compare.", POSITIONAL
    )
    linear: Path = option(..., "Output folder of train_linear on these particles.", metavar="DIR")
    outdir: Path = option(..., "Output folder.", "-o", "--outdir")
    members: Path | None = option(None, "A .pkl of the indices of the subset's particles.", metavar="PKL")
    groups: Path | None = option(
        None,
        "Instead of one subset: a table with the columns particle and --column; each of the 24 largest "
        "groups is compared with all others.",
        metavar="PARQUET",
    )
    column: str = option("state", "Column of --groups, of whole numbers.")
    query: str | None = option(
        None,
        "Query that selected the members. If it compares only what the particle file states (tomogram, "
        "positions, number of tilts), their images did not select them, and held-out tilts need not confirm "
        "the difference (default: selected by images).",
    )
    maps: Path | None = option(
        None, "Folder of the members' half maps, as backproject_voxel writes them.", metavar="DIR"
    )
    flip: bool = option(
        False, "Whether the half maps were written with --flip; other maps are flipped alike."
    )
    workdir: Path | None = option(
        None, "Output folder of train_vae or train_linear on these particles.", metavar="DIR"
    )
    epoch: str = option("latest", "Epoch, latest, -1 (final files) or the path of a convergence.json.")
