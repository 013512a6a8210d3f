"""What to simulate: every parameter, its unit and its default, checked before anything is computed."""

import difflib
import math
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from pydantic import ValidationError

from tomohet.errors import InputError
from tomohet.files.text import read_yaml
from tomohet.options.simulation import Block
from tomohet.options.simulation import Simulation as SimulationConfig

__all__ = ["Block", "SimulationConfig", "config_from", "read_config"]

CORE = "core"
DEFAULT_BOX = 32
DEFAULT_PIXEL_SIZE_A = 12.0
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
}
BLOCK_KEYS = [field.name for field in fields(Block)]


DEFAULT_BLOCKS = (
    Block("S1", mass=0.09, frequency=0.6),
    Block("S2", mass=0.06, frequency=0.5, host="S1"),
    Block("S3", mass=0.04, frequency=0.88),
    Block("S4", mass=0.07, frequency=0.12),
    Block("S5", mass=0.11, frequency=1.0, hinge_deg=30.0),
)


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
    """Return the configuration in a mapping of builtin types; see `read_config`."""
    _refuse_unknown(values, SimulationConfig.model_fields, "simulate")
    blocks = values.get("blocks")
    for entry in blocks if isinstance(blocks, list | tuple) else ():
        if isinstance(entry, dict):
            _refuse_unknown(entry, BLOCK_KEYS, f"simulate: block {entry.get('name')}")
    try:
        config = SimulationConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(_explained(error)) from None
    _check(config)
    return config


def _refuse_unknown(values: dict, known: Collection[str], where: str) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise InputError(
                f"{where}: unknown key `{key}`" + (f"; did you mean `{near[0]}`?" if near else "")
            )


def _explained(error: ValidationError) -> str:
    """Describe the first mistake: where, what was expected, what was found."""
    first = error.errors()[0]
    where = ": ".join(str(part) for part in first["loc"])
    words = first.get("ctx", {})
    limits = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    expected = [f"{text} {words[limit]:g}" for limit, text in limits.items() if limit in words]
    kind = next((text for name, text in KINDS.items() if first["type"].startswith(name)), first["msg"])
    found = first["input"]
    return f"simulate: {where}: expected {' '.join(expected) or kind}, found {found!r}"


def _check(config: SimulationConfig) -> None:
    """Raise InputError for the first value that cannot be simulated."""
    values = dict(config)

    def require(key: str, holds: bool, expected: str) -> None:
        found = list(values[key]) if isinstance(values[key], tuple) else values[key]
        _require(holds, key, found, expected)

    require("n_tomograms", config.n_tomograms <= config.n_particles, "between 1 and n_particles")
    require("box", config.box is None or config.box % 2 == 0, "an even number of at least 8 px")
    for name in ("pose_error_deg", "pose_error_A", "tilt_shift_A", "defocus_error_A", "background_ratio"):
        require(name, math.isfinite(values[name]), "0 or more, finite")
    has_noise = config.background_ratio == 0 or math.isfinite(config.snr)
    require("background_ratio", has_noise, "0, as there is no noise to compare with (snr is infinite)")
    ascending = config.defocus_A[0] <= config.defocus_A[1]
    require("defocus_A", ascending, "[lowest, highest]")
    require("maps", not (config.model and config.maps), "no maps when a model is given")
    if config.maps and config.map_frequencies:
        n = len(config.maps)
        require("map_frequencies", len(config.map_frequencies) == n, f"{n} numbers, one per map")
        require("map_frequencies", sum(config.map_frequencies) > 0, "numbers of 0 or more, not all 0")
    _check_blocks(config)


def _check_blocks(config: SimulationConfig) -> None:
    blocks = DEFAULT_BLOCKS if config.blocks is None else config.blocks
    names = [block.name for block in blocks]
    for i, block in enumerate(blocks):
        where, free = f"blocks: {block.name}", block.name not in names[:i] and block.name != CORE
        _require(free, where, block.name, f"a name of its own, other than {CORE}")
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
