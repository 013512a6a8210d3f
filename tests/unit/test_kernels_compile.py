"""Triton's compiler takes the kernels for cards that are not there: its interpreter accepts more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import interpreted  # noqa: F401  # skips without Triton
import pytest

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}  # bytes that a program can have


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile(capability, tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)  # the process compiles
    script = Path(__file__).with_name("compile_kernels.py")
    done = subprocess.run(
        [sys.executable, script, str(capability)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    names = [one["kernel"] for one in kernels]
    assert len(names) == 11 and set(names) == {"_encode", "_last_layer", "_slope_and_sum", "_product"}
    for one in kernels:
        assert one["shared"] <= SHARED_MEMORY[capability]
        # The approximate sine is wrong for phases of many turns.
        assert "sin.approx" not in one["found"]
        assert "st.global.v4" in one["found"]
        if one["kernel"] == "_product":
            assert "cp.async" in one["found"] and ("wgmma" in one["found"]) == (capability == 90)
        elif one["kernel"] != "_encode":
            assert "ld.global.v4" in one["found"]
