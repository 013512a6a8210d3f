"""Where tensors are computed."""

from tomohet.errors import InputError


def device_of(name: str):
    """The `torch.device` for a `--device` value.

    Raises InputError if CUDA is asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("--device cuda: PyTorch sees no CUDA device; use --device cpu or ask for a GPU")
    return torch.device("cuda" if name != "cpu" and available else "cpu")
