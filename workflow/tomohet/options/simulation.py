"""Options of the simulator: every parameter of a simulation, with its unit and its default."""

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from tomohet.options.base import CONFIG_ONLY, Options, option
from tomohet.options.shared import DeviceOptions

# What an extraction program may do to its images.
Treatment = Literal["premultiplied", "dose_weighted", "scaled", "inverted", "cut_off"]
Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Block:
    """One rigid part of the assembly: present or absent, fixed or rotating about a hinge.

    name : its chain in the model file
    mass : fraction of the whole assembly's mass (generated assemblies only)
    frequency : probability of being present; with a `host`, given that the host is present
    hinge_deg : largest angle of rotation; the angle of a particle is uniform between minus and plus this
    """

    name: str
    mass: Annotated[float, Field(gt=0, lt=1)] = 0.05
    frequency: Annotated[float, Field(ge=0, le=1)] = 1.0
    host: str | None = None
    hinge_deg: Annotated[float, Field(ge=0, le=90)] = 0.0


class Simulation(Options):
    """Parameters of a simulation.

    Specimen: a generated assembly of `n_atoms` pseudo-atoms in a core and `blocks` (null: `DEFAULT_BLOCKS`),
    `diameter_A` wide (null: 0.65 of the box edge); or `model`, a PDB or mmCIF file whose chains are the units
    (`blocks` then names the chains that come and go, the others are always present; null: all but the
    heaviest come and go); or `maps`, MRC files drawn with `map_frequencies`, which also set box and pixel
    size. `box` and `pixel_size` null: 32 px, 12 Å. `resolution_A` of the density, null: 2.5 pixels.

    Imaging: `snr` is the mean over all images of the variance of the clean image inside the circle of
    diameter `box`, over the variance of the noise. The noise is white and the same for all images; `.inf`
    means no noise. A tomogram's defocus is uniform in `defocus_A`; each tilt adds a normal deviate of
    `defocus_jitter_A`. `total_dose` is in e-/Å^2. Each tilt of a tomogram but the first exposure is hidden
    with probability `hidden_fraction`. `shift_px`: largest offset of the picked position along each axis.
    `amplitude_loss`: multiply by cos(tilt), for the larger thickness of the tilted specimen.

    `extraction`: the operations on the stacks of the WarpTools dialect, of `Treatment`: multiplied by the CTF
    (premultiplied), by exp(-dose / 2 Nc) or, with `dose_b_factor_A2` above 0, exp(-B dose k^2 / 4)
    (dose_weighted), and by rlnCtfScalefactor, cos(tilt) (scaled); made light (inverted). The default is the
    same as in WarpTools; its --dont_premultiply and RELION's --no_ctf leave [inverted]. `cut_off`: the dose
    weight is 0 beyond the optimal dose, which the files do not state.

    Errors (0: none): for every particle the files state a rotation with a random error of rms angle
    `pose_error_deg`, and an origin with a normal error of `pose_error_A` along each axis, the same for all
    its tilts. For every tilt they state a defocus with a normal error of `defocus_error_A`. The content of
    every tilt image of every particle is shifted by a normal deviate of `tilt_shift_A` along x and along y,
    which the files do not state. See `simulation.errors`.

    Surroundings (0: none): `neighbours` is the mean number of other copies that touch a particle
    (`simulation.neighbours`). `background_ratio` is the variance of the structured background inside the
    circle, mean over all images, over that of the noise (`simulation.background`). Neither counts as signal
    in `snr`. `preferred_orientation` is the mean cosine of the angle between the viewing direction and the
    preferred one, 0 (uniform) to 1 (all alike), of a von Mises-Fisher distribution
    (`simulation.orientations`).
    """

    section = "simulation"
    n_particles: int = option(400, "Number of particles.", "--n-particles", "--particles", metavar="N", ge=1)
    box: int | None = option(
        None,
        "Edge of the images, even (default: 32, or the box of the given maps).",
        metavar="PX",
        unit="px",
        ge=8,
    )
    pixel_size: float | None = option(
        None, "Pixel size (default: 12, or that of the given maps).", metavar="A", unit="Å", gt=0
    )
    snr: float = option(
        0.1, "Variance of the clean images over that of the noise; inf (in YAML .inf) is no noise.", gt=0
    )
    seed: int = option(0, "Seed of all random numbers of the simulation.")
    n_tomograms: int = option(4, "Tomograms that the particles come from.", metavar="N", ge=1)
    dialect: Literal["warp", "warptools", "both"] = option(
        "both", "Files written: an image series (warp), a WarpTools optimisation set, or both."
    )
    tilt_max: float = option(60, "Largest tilt.", unit="degree", ge=0, lt=90)
    tilt_step: float = option(6, "Step between tilts.", metavar="DEG", unit="degree", gt=0)
    total_dose: float = option(120, "Dose after the last tilt.", unit="e⁻/Å²", ge=0)
    hidden_fraction: float = option(0.05, "Share of tilts marked as not usable.", ge=0, lt=1)
    amplitude_loss: bool = option(True, "Weaken images by the cosine of the tilt (thicker specimen).")
    voltage_kV: float = option(300, "Acceleration voltage.", unit="kV", gt=0)
    cs_mm: float = option(2.7, "Spherical aberration.", unit="mm", ge=0)
    amplitude_contrast: float = option(0.07, "Amplitude contrast.", ge=0, le=1)
    defocus_A: tuple[float, float] = option((20000, 40000), "Range of the tomograms' defocus.", unit="Å")
    astigmatism_A: float = option(400, "Astigmatism.", unit="Å", ge=0)
    defocus_jitter_A: float = option(150, "Deviation of each tilt's defocus.", unit="Å", ge=0)
    shift_px: float = option(2, "Largest offset of the picked position along each axis.", unit="px", ge=0)
    resolution_A: float | None = option(
        None, "Resolution of the density; null is 2.5 pixels.", unit="Å", gt=0
    )
    n_atoms: int = option(5000, "Pseudo-atoms of the invented assembly.", ge=20)
    diameter_A: float | None = option(
        None, "Width of the invented assembly; null is 0.65 of the box edge.", unit="Å", gt=0
    )
    blocks: tuple[Block, ...] | None = option(
        None,
        "Parts that come and go, each {name, mass, frequency, host, hinge_deg}: share of the mass, "
        "probability of being present (given its host, if it has one), largest rotation about its hinge "
        "(default: a built-in set of five).",
        CONFIG_ONLY,
    )
    model: Path | None = option(
        None, "PDB or mmCIF file to simulate instead of the invented assembly.", metavar="FILE"
    )
    maps: tuple[Path, ...] = option(
        (), "MRC maps to simulate instead of the invented assembly.", metavar="MRC"
    )
    map_frequencies: tuple[Weight, ...] = option(
        (), "Probability of each of the maps; none is equal.", metavar="F"
    )
    extraction: tuple[Treatment, ...] = option(
        ("premultiplied", "dose_weighted", "scaled", "inverted"),
        "What is done to the optimisation set's stacks, as WarpTools does: multiplied by CTF, dose weight "
        "and scale factor, contrast inverted. cut_off ends the dose weight at the optimal dose, which no "
        "file says.",
    )
    dose_b_factor_A2: float = option(
        0, "B of the dose weights, exp(-B dose k² / 4); 0 is Grant & Grigorieff's filter.", unit="Å²", ge=0
    )
    pose_error_deg: float = option(
        0,
        "Angle, root mean square, by which the files' rotation of a particle is wrong.",
        unit="degree",
        ge=0,
    )
    pose_error_A: float = option(
        0,
        "Standard deviation, along each axis in 3-D, by which the files' origin of a particle is wrong.",
        unit="Å",
        ge=0,
    )
    tilt_shift_A: float = option(
        0,
        "Standard deviation, along x and y, by which each tilt image's content is out of place: residual "
        "motion and misalignment.",
        unit="Å",
        ge=0,
    )
    defocus_error_A: float = option(
        0, "Standard deviation by which the files' defocus of each tilt is wrong.", unit="Å", ge=0
    )
    neighbours: float = option(
        0,
        "Mean number of other copies that touch a particle, as in polysomes and on membranes.",
        ge=0,
        le=6,
    )
    background_ratio: float = option(
        0,
        "Variance of the structured background (ice, cytosol) over that of the noise; needs a finite snr.",
        ge=0,
    )
    preferred_orientation: float = option(
        0,
        "Mean cosine between viewing direction and the preferred one: 0 is uniform, 1 is all alike.",
        ge=0,
        le=1,
    )

    def plain(self) -> dict:
        """Return the parameters as builtin types, as `read_config` takes them."""
        return self.model_dump(mode="json")


class SimulateOptions(Simulation, DeviceOptions):
    """Simulate tilt-series particles of a heterogeneous assembly, with their truth."""

    epilog = "Options win over the configuration file, which may hold the key `blocks` besides."
    outdir: Path = option(..., "Folder for all files.", "-o", "--outdir", metavar="DIR")
    config: Path | None = option(None, "File of `key: value` lines, the parameters below.", metavar="YAML")
