"""Simulated tilt-series particles of a heterogeneous assembly, with their ground truth."""
