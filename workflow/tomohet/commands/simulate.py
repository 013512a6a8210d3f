"""Simulate tilt-series particles of a heterogeneous assembly, and write the truth."""

from pathlib import Path

from tomohet.device import device_of
from tomohet.files.overwriting import refuse_overwriting_inputs
from tomohet.options import SimulateOptions
from tomohet.options.simulation import Simulation
from tomohet.running.work import command
from tomohet.simulation.config import read_config
from tomohet.simulation.simulate import WRITTEN, simulate


@command
def run(options: SimulateOptions) -> Path:
    """Read the configuration and simulate; return the output folder."""
    given = options.model_fields_set & set(Simulation.model_fields)
    config = read_config(options.config, {name: getattr(options, name) for name in given})
    inputs = [file for file in (options.config, config.model, *(config.maps or ())) if file]
    refuse_overwriting_inputs([options.outdir / name for name in WRITTEN], inputs)
    simulate(config, options.outdir, device_of(options.device))
    return options.outdir
