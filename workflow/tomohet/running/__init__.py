"""What the commands need around their work: logs, folders of their own, several processes."""

from tomohet.running.logs import log_to
from tomohet.running.outputs import take_output
from tomohet.running.together import run_together
from tomohet.running.work import command

__all__ = ["command", "log_to", "run_together", "take_output"]
