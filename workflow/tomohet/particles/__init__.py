"""Particles and their tilt images: reading of any STAR dialect, checks, selection and preparation."""
