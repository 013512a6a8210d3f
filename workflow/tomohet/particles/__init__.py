"""Particles and their tilt images: read from any STAR dialect, checked, filtered, prepared for computing."""
