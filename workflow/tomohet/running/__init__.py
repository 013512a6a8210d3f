"""Execution environment of commands: logs, exclusive output folders, several processes."""
