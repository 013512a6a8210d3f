"""Arrays inside an HTML page: deflated, in base64, each in an inert script element, read when needed."""

import base64
import zlib
from dataclasses import dataclass, field

import numpy as np

TYPES = {
    "float32": "f4",
    "float64": "f8",
    "uint8": "u1",
    "uint16": "u2",
    "int16": "i2",
    "int32": "i4",
}


@dataclass
class Blobs:
    """The arrays of one page; `add` returns the identifier by which the page's script requests an array."""

    elements: list[str] = field(default_factory=list)

    def add(self, values: np.ndarray, planes: bool = False) -> str:
        """Store an array of one of `TYPES`, little-endian, in C order.

        planes : store the first bytes of all values, then all second bytes, and so on. Measured values then
            deflate further: their leading bytes are alike.
        """
        kind = TYPES[values.dtype.name]
        raw = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        width = values.dtype.itemsize
        if planes and width > 1:
            raw = np.frombuffer(raw, np.uint8).reshape(-1, width).T.tobytes()
        coded = base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
        name = f"blob-{len(self.elements)}"
        order = ' data-planes="yes"' if planes and width > 1 else ""
        self.elements.append(
            f'<script type="application/octet-stream" id="{name}" data-kind="{kind}"{order}>{coded}</script>'
        )
        return name

    @property
    def n_bytes(self) -> int:
        """Number of characters that these arrays take in the page."""
        return sum(map(len, self.elements))
