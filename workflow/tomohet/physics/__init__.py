"""The physics of a tilt image, as pure functions on tensors: orientation, CTF, dose, Fourier slices, maps."""
