"""Structural blocks that come and go together in an ensemble of volumes, without a model (after SIREn)."""
