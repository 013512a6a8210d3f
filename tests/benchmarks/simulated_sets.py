"""Commands of the program run by the benchmarks, and simulated data sets made with them."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import yaml

from tomohet.cli import SCRIPTS


def command(name: str, *arguments, scripts: Path = SCRIPTS) -> float:
    """Run a command; returns its CPU seconds. Ends the program with its message where it fails.

    scripts: folder of the commands, of this version or of another one.
    """
    words = [sys.executable, str(scripts / f"{name}.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(scripts.parent)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def simulated(place: Path, *options, blocks: list[dict] | None = None, settings: dict | None = None) -> None:
    """Simulate to place/simulated and prepare the store place/prepared, unless it is there.

    options: of the command `simulate`; blocks: of its configuration, the default ones if None; settings:
    further keys of its configuration.
    """
    if (place / "prepared" / "store.yaml").is_file():
        return
    settings = (settings or {}) | ({} if blocks is None else {"blocks": blocks})
    if settings:
        place.mkdir(parents=True, exist_ok=True)
        config = place / "simulation.yaml"
        config.write_text(yaml.safe_dump(settings))
        options = [*options, "--config", config]
    command("simulate", "-o", place / "simulated", *options)
    command("prepare", place / "simulated" / "particles.star", "-o", place / "prepared")
