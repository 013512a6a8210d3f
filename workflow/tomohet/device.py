"""Where tensors are computed."""

import os

from tomohet.errors import InputError


def device_of(name: str):
    """The `torch.device` for a `--device` value.

    Raises InputError if CUDA is asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("--device cuda: PyTorch sees no CUDA device; use --device cpu or ask for a GPU")
    if name == "cpu" or not available:
        return torch.device("cpu")
    # Of several processes on a node each has a card of its own.
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def fast_bfloat16(device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32: by tensor cores, AVX512-BF16, AMX.

    A CPU without such instructions emulates them, many times slower.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
