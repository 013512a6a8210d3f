"""The pre-flight check of a particle set: verdicts, numbers and pictures before any computing."""
