"""Particles placed back into their tomograms, as ChimeraX scenes."""
