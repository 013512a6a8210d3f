"""Configuration of a simulation: every parameter with unit and default, checked before any computation."""

import difflib
import math
import numbers
import types
import typing
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.text import read_yaml

DIALECTS = ("warp", "warptools", "both")
EXTRACTION = ("premultiplied", "dose_weighted", "scaled", "inverted")
STEPS = (*EXTRACTION, "cut_off")
CORE = "core"
DEFAULT_BOX = 32
DEFAULT_PIXEL_SIZE_A = 12.0
# With a larger mean number, neighbours often find no room around a particle.
MOST_NEIGHBOURS = 6
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Block:
    """One rigid part of the assembly: present or absent, fixed or rotating about a hinge.

    name : its chain in the model file
    mass : fraction of the whole assembly's mass (generated assemblies only)
    frequency : probability of being present; with a `host`, given that the host is present
    hinge_deg : largest angle of rotation; the angle of a particle is uniform between minus and plus this
    """

    name: str
    mass: float = 0.05
    frequency: float = 1.0
    host: str | None = None
    hinge_deg: float = 0.0


DEFAULT_BLOCKS = (
    Block("S1", mass=0.09, frequency=0.6),
    Block("S2", mass=0.06, frequency=0.5, host="S1"),
    Block("S3", mass=0.04, frequency=0.88),
    Block("S4", mass=0.07, frequency=0.12),
    Block("S5", mass=0.11, frequency=1.0, hinge_deg=30.0),
)


@dataclass(frozen=True)
class SimulationConfig:
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

    `extraction`: the operations on the stacks of the WarpTools dialect, of `STEPS`: multiplied by the CTF
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

    n_particles: int = 400
    box: int | None = None
    pixel_size: float | None = None
    snr: float = 0.1
    seed: int = 0
    n_tomograms: int = 4
    dialect: str = "both"
    tilt_max: float = 60.0
    tilt_step: float = 6.0
    total_dose: float = 120.0
    hidden_fraction: float = 0.05
    amplitude_loss: bool = True
    voltage_kV: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.07
    defocus_A: tuple[float, ...] = (20000.0, 40000.0)
    astigmatism_A: float = 400.0
    defocus_jitter_A: float = 150.0
    shift_px: float = 2.0
    resolution_A: float | None = None
    n_atoms: int = 5000
    diameter_A: float | None = None
    blocks: tuple[Block, ...] | None = None
    model: str | None = None
    maps: tuple[str, ...] = ()
    map_frequencies: tuple[float, ...] = ()
    extraction: tuple[str, ...] = EXTRACTION
    dose_b_factor_A2: float = 0.0
    pose_error_deg: float = 0.0
    pose_error_A: float = 0.0
    tilt_shift_A: float = 0.0
    defocus_error_A: float = 0.0
    neighbours: float = 0.0
    background_ratio: float = 0.0
    preferred_orientation: float = 0.0

    def plain(self) -> dict:
        """Return the parameters as builtin types, as in simulate.yaml and as accepted by `read_config`."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def read_config(path: str | Path | None, overrides: dict) -> SimulationConfig:
    """Read the configuration from a YAML file (or none); `overrides` that are not None win.

    Raises InputError for unknown keys, values of the wrong type, and values out of range.
    """
    values = {}
    if path is not None:
        values = read_yaml(path) or {}
        if not isinstance(values, dict):
            raise InputError(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    return config_from({**values, **{k: v for k, v in overrides.items() if v is not None}})


def config_from(values: dict) -> SimulationConfig:
    """Make a configuration from a mapping of builtin types; see `read_config`."""
    values = dict(values)
    if values.get("blocks") is not None:
        if not isinstance(values["blocks"], list | tuple):
            raise InputError("simulate: blocks: expected a list of blocks")
        values["blocks"] = tuple(_block(entry) for entry in values["blocks"])
    config = SimulationConfig(**_typed(SimulationConfig, values, "simulate"))
    _check(config)
    return config


def _block(entry: object) -> Block:
    if isinstance(entry, Block):
        return entry
    if not isinstance(entry, dict) or "name" not in entry:
        raise InputError(f"simulate: blocks: expected entries with a `name`, found {entry!r}")
    return Block(**_typed(Block, entry, f"simulate: block {entry['name']}"))


def _typed(cls: type, values: dict, where: str) -> dict:
    """Convert numbers in `values` to their declared types; raise InputError for a wrong key or type."""
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    typed = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise InputError(f"{where}: unknown key `{key}`{hint}")
        typed[key] = _value(value, hints[key], f"{where}: {key}")
    return typed


def _value(value: object, hint: object, where: str) -> object:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}: expected a list, found {value!r}")
        return tuple(_value(entry, typing.get_args(kind)[0], where) for entry in value)
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    hint_text = " (YAML reads 1e-3 as text: write 1.0e-3)" if kind is float and isinstance(value, str) else ""
    raise InputError(f"{where}: expected {KINDS[kind]}, found {value!r}{hint_text}")


def _check(config: SimulationConfig) -> None:
    """Raise InputError for the first value that cannot be simulated."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}

    def require(key: str, holds: bool, expected: str) -> None:
        found = list(values[key]) if isinstance(values[key], tuple) else values[key]
        _require(holds, key, found, expected)

    require("n_particles", config.n_particles > 0, "at least 1")
    require("n_tomograms", 1 <= config.n_tomograms <= config.n_particles, "between 1 and n_particles")
    even = config.box is None or (config.box >= 8 and config.box % 2 == 0)
    require("box", even, "an even number of at least 8 px")
    for name in ("pixel_size", "resolution_A", "diameter_A", "snr", "tilt_step", "voltage_kV"):
        require(name, values[name] is None or values[name] > 0, "above 0")
    for name in ("dose_b_factor_A2", "total_dose", "astigmatism_A", "defocus_jitter_A", "shift_px", "cs_mm"):
        require(name, values[name] >= 0, "0 or more")
    for name in ("pose_error_deg", "pose_error_A", "tilt_shift_A", "defocus_error_A", "background_ratio"):
        require(name, 0 <= values[name] < math.inf, "0 or more, finite")
    require("neighbours", 0 <= config.neighbours <= MOST_NEIGHBOURS, f"between 0 and {MOST_NEIGHBOURS}")
    require("preferred_orientation", 0 <= config.preferred_orientation <= 1, "between 0 and 1")
    has_noise = config.background_ratio == 0 or math.isfinite(config.snr)
    require("background_ratio", has_noise, "0, as there is no noise to compare with (snr is infinite)")
    require("tilt_max", 0 <= config.tilt_max < 90, "between 0 and 90 degrees")
    require("hidden_fraction", 0 <= config.hidden_fraction < 1, "between 0 and 1")
    require("amplitude_contrast", 0 <= config.amplitude_contrast <= 1, "between 0 and 1")
    require("dialect", config.dialect in DIALECTS, " or ".join(DIALECTS))
    require("extraction", set(config.extraction) <= set(STEPS), f"some of {', '.join(STEPS)}")
    ascending = len(config.defocus_A) == 2 and config.defocus_A[0] <= config.defocus_A[1]
    require("defocus_A", ascending, "[lowest, highest]")
    require("maps", not (config.model and config.maps), "no maps when a model is given")
    if config.maps and config.map_frequencies:
        n = len(config.maps)
        require("map_frequencies", len(config.map_frequencies) == n, f"{n} numbers, one per map")
        usable = min(config.map_frequencies) >= 0 and sum(config.map_frequencies) > 0
        require("map_frequencies", usable, "numbers of 0 or more, not all 0")
    _check_blocks(config)


def _check_blocks(config: SimulationConfig) -> None:
    blocks = DEFAULT_BLOCKS if config.blocks is None else config.blocks
    names = [block.name for block in blocks]
    for i, block in enumerate(blocks):
        where, free = f"blocks: {block.name}", block.name not in names[:i] and block.name != CORE
        _require(free, where, block.name, f"a name of its own, other than {CORE}")
        _require(0 <= block.frequency <= 1, f"{where}: frequency", block.frequency, "between 0 and 1")
        _require(0 < block.mass < 1, f"{where}: mass", block.mass, "a fraction between 0 and 1")
        _require(0 <= block.hinge_deg <= 90, f"{where}: hinge_deg", block.hinge_deg, "0 to 90 degrees")
        known = block.host is None or block.host in names[:i]
        _require(known, f"{where}: host", block.host, "a block listed before it")
    moving = [block.name for block in blocks if block.hinge_deg > 0]
    _require(len(moving) <= 1, "blocks", moving, "at most one block with hinge_deg")
    if config.model or config.maps:
        return
    total = math.fsum(block.mass for block in blocks)
    _require(total < 0.8, "blocks: sum of masses", round(total, 3), "below 0.8, the rest being the core")
    _require(config.n_atoms >= 20 * (len(blocks) + 1), "n_atoms", config.n_atoms, "20 or more per unit")


def _require(holds: bool, key: str, found: object, expected: str) -> None:
    if not holds:
        raise InputError(f"simulate: {key}: expected {expected}, found {found}")
