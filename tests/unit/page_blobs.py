"""Arrays out of a report's page."""

import re
import zlib
from base64 import b64decode

import numpy as np


def decoded(element: str, dtype) -> np.ndarray:
    """Values of one of `Blobs.elements`, of the type that the caller names."""
    raw = np.frombuffer(zlib.decompress(b64decode(re.search(">([^<]*)<", element)[1])), np.uint8)
    if "data-planes" in element:
        raw = raw.reshape(np.dtype(dtype).itemsize, -1).T
    return np.frombuffer(raw.tobytes(), dtype)
