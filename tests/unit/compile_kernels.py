"""Compile the kernels of a network of width 512 for a card that need not be there: compile_kernels.py 90.

The number is the card's compute capability: 80 is an A100, 90 an H100. One line of JSON per kernel gives its
name, the bytes of shared memory, and what of the searched instructions its code has.
"""

import json
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tomohet.model.kernels import choice, encoding, last_layer, lower_gradient

HALF, FLOAT, INTEGERS = "*bf16", "*fp32", "*i64"
WIDTH, FREQUENCIES, COLUMNS = 512, 96, 200
ALIGNED = [["tt.divisibility", 16]]  # of pointers, as PyTorch allocates
SEARCHED = ("wgmma", "cp.async", "sin.approx", "ld.global.v4", "st.global.v4")


def compiled(kernel, types, constants, options, capability):
    """Compile a kernel for arguments of `types`, in the order of those that are not constants."""
    remaining = iter(types)
    signature = {name: "constexpr" if name in constants else next(remaining) for name in kernel.arg_names}
    aligned = {(place,): ALIGNED for place, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def kernels():
    """Yield every kernel with the types of its arguments, its constants and its options."""
    tile = {"ROWS": encoding.ROWS, "FREQUENCIES": encoding.FREQUENCIES, "TAIL": 8}
    constants = {"columns": COLUMNS, "half": FREQUENCIES, **tile}
    yield encoding._encode, [HALF, FLOAT, INTEGERS, FLOAT, "i32", "i32"], constants, {"num_warps": 4}
    for base in (False, True):
        rows = last_layer.VALUES // WIDTH
        constants = {"width": WIDTH, "BASE": base, "ROWS": rows, "COLUMNS": WIDTH, "TILES": last_layer.TILES}
        types = [HALF] * 3 + [FLOAT] * 5 + [HALF, FLOAT, "i32", "fp32"]
        yield last_layer._last_layer, types, constants, {"num_warps": 1}
    for sums in (False, True):
        module = lower_gradient
        tile = {"ROWS": module.ROWS, "COLUMNS": module.COLUMNS, "TILES": module.TILES}
        constants = {"width": WIDTH, "SUMS": sums, **tile}
        yield module._slope_and_sum, [HALF, HALF, FLOAT, "i32", "fp32"], constants, {"num_warps": 4}
        for name, way in choice.WAYS.items():
            if name == choice.FIRST:
                continue
            options = dict(way.keywords)
            tile = dict(zip(("ROWS", "COLUMNS", "INNER"), options.pop("tile"), strict=True))
            constants = {"inner": WIDTH, "width": WIDTH, "SUMS": sums, **tile}
            yield module._product, [HALF] * 4 + [FLOAT, "i32", "fp32"], constants, options


if __name__ == "__main__":
    for kernel, types, constants, options in kernels():
        done = compiled(kernel, types, constants, options, int(sys.argv[1]))
        found = [word for word in SEARCHED if word in done.asm["ptx"]]
        print(json.dumps({"kernel": kernel.__name__, "shared": done.metadata.shared, "found": found}))
