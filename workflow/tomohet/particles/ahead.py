"""Images of a store part by part on a device: the next part is read while a GPU works on this one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tomohet.particles.store import Store, complex_half_planes
from tomohet.physics.imaging import ImageParameters, image_parameters


def images_on(
    device: torch.device,
    store: Store,
    parts: Iterable[np.ndarray],
    examine: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Iterator[tuple[np.ndarray, Tensor, ImageParameters]]:
    """Yield for each part its image rows (m,), their half planes (m, n) complex64, and their parameters.

    parts : image rows of the store, (m,) each
    examine : is called with the half planes as stored (m, n, 2) and their rows, and may refuse them

    For a GPU one part is read ahead, in a thread of its own and into page-locked memory, from where it is
    copied without waiting for what the GPU computes. Errors of that thread are raised here.
    """
    ahead = device.type == "cuda"

    def read(rows: np.ndarray) -> tuple[np.ndarray, Tensor, ImageParameters]:
        stored = store.read(rows)
        if examine is not None:
            examine(stored, rows)
        held, params = torch.from_numpy(stored), image_parameters(store.images.iloc[rows])
        return (rows, held.pin_memory(), params.pinned()) if ahead else (rows, held, params)

    for rows, stored, params in _one_ahead(read, parts) if ahead else map(read, parts):
        on_device = stored.to(device, non_blocking=True)
        yield rows, complex_half_planes(on_device), params.to(device)


def _one_ahead(work: Callable, items: Iterable) -> Iterator:
    """Yield `work(item)` of each item in order, while the work of the next one is under way."""
    with ThreadPoolExecutor(1) as thread:
        coming: Future | None = None
        for item in items:
            following = thread.submit(work, item)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()
