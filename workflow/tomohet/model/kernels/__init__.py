"""Kernels for a GPU, in Triton's language: passes over activations that PyTorch makes one by one, in one.

`tomohet.model.sweep` is the reference, and does the work on CPUs. These modules import Triton, which comes
with the CUDA build of PyTorch. So they are imported on a GPU alone (`tomohet.model.sweep.sweep_class`), and
by the tests, which run them on a CPU in Triton's interpreter.

No kernel adds to memory that another program writes. Sums over rows are partial sums of blocks of rows, which
PyTorch adds up, so the same input gives the same bits.
"""
