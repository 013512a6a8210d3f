"""The pre-flight check of a particle set: verdicts, numbers and figures before any computing."""

from tomohet.preflight.check import Check, overall
from tomohet.preflight.page import write_validation
from tomohet.preflight.run import preflight
from tomohet.preflight.terminal import summary

__all__ = ["Check", "overall", "preflight", "summary", "write_validation"]
