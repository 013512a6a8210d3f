"""Occupancy of every piece of a model in every volume (after MAVEn)."""
