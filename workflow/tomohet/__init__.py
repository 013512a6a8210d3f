"""tomohet: structural heterogeneity of cryo-ET particles, from tilt images to validated states."""

__version__ = "0.1.0"
