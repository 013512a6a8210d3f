"""What surrounds every command, whoever calls it: the command line, a notebook, a test."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from tomohet.options import Options
from tomohet.running.outputs import holding_outputs


def command(run: Callable[..., Any]) -> Callable[..., Any]:
    """Make `run(options)` hold its output folders while it works."""

    @wraps(run)
    def held(options: Options) -> Any:
        with holding_outputs(options):
            return run(options)

    return held
