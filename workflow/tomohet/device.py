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
    """Whether the `torch.device` has instructions for products of bfloat16; without them they are slow."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
