"""Files of weights, which `model.load.read_weights` reads."""

import io
from pathlib import Path

import torch

from tomohet.files.atomic import atomic_path


def save_weights(path: Path, content: dict) -> None:
    """Write tensors and plain values atomically; the same content gives the same bytes.

    The file is first made in memory: `torch.save` turns the error of a full disk into one of its own, and
    writes the temporary name into the file.

    Raises OSError when the disk is full.
    """
    made = io.BytesIO()
    torch.save(content, made)
    with atomic_path(path) as temporary:
        temporary.write_bytes(made.getbuffer())
