"""Particles and their tilt images.

Read from any STAR dialect, checked, filtered and prepared for computing.
"""
