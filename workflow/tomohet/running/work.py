"""Environment of every command, for the command line, notebooks and tests."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from tomohet.options import Options
from tomohet.plots import house_style
from tomohet.running.logs import closing_log
from tomohet.running.outputs import holding_outputs


def command(run: Callable[..., Any]) -> Callable[..., Any]:
    """Make `run(options)` lock its output folders, close its logs, and draw in the house style."""

    @wraps(run)
    def held(options: Options) -> Any:
        with closing_log(), holding_outputs(options), house_style():
            return run(options)

    return held
