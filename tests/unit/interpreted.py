"""Triton's kernels in tests: on a card where there is one, else in Triton's interpreter on the CPU.

Import this module before the kernels: they read on import whether they are interpreted.
"""

import os

import pytest
import torch

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"
try:
    from triton.language import bfloat16, float32
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle  # noqa: F401  # tests take the first
except ImportError:
    if os.environ.get("TOMOHET_REQUIRE_TRITON") == "1":
        raise
    pytest.skip("no Triton: pip install --no-deps -r envs/kernels.txt", allow_module_level=True)


@pytest.fixture(autouse=True)
def products_of_bfloat16(monkeypatch):
    """Let the interpreter multiply numbers in bfloat16: it keeps them as integers, and multiplies these."""
    product = InterpreterBuilder.create_dot

    def widened(factor):
        if factor.dtype.scalar != bfloat16:
            return factor
        return TensorHandle((factor.data.astype("uint32") << 16).view("float32"), float32)

    monkeypatch.setattr(
        InterpreterBuilder,
        "create_dot",
        lambda self, a, b, *rest: product(self, widened(a), widened(b), *rest),
    )
