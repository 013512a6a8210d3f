"""Where the images of a training are held, and how they reach the device in time.

They are held on the device if they fit. Else they are held in the machine's memory, from where batches are
copied ahead. Else they stay in the store's file, and one window of batches (`order`) is read while the window
before it is used. Images are held, read and copied in the store's own precision, and become float32 on the
device. The place changes speed and memory use, but not one bit of the results.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tomohet.device import free_memory, sent
from tomohet.options.training import LoadingOptions, ReadingOptions
from tomohet.particles.store import Store

log = logging.getLogger(__name__)

Place = Literal["device", "memory", "file"]
WHERE: dict[Place, str] = {
    "device": "held on the device",
    "memory": "held in memory, copied to the device batch by batch",
    "file": "read from the store's file window by window",
}
# The rest of the memory belongs to the network, its workspace and other programs.
SHARE_OF_MEMORY = 0.5
PIECE_BYTES = 16 * 2**20  # read by one thread at a time


@dataclass(frozen=True)
class Loading:
    """How images are read that are not held on the device.

    lazy : leave them in the file, even if memory would hold them
    workers : reader threads
    ahead : batches made ready before they are asked for
    persistent : keep the threads from one pass over the images to the next
    pinned : copy to a GPU from page-locked memory, which does not hold up the processor
    """

    lazy: bool = False
    workers: int = 1
    ahead: int = 2
    persistent: bool = False
    pinned: bool = False

    @classmethod
    def of(cls, options: ReadingOptions) -> "Loading":
        """Take the settings from the options of the command line."""
        return cls(
            lazy=options.lazy,
            workers=max(options.num_workers, 1),
            ahead=cls.ahead if options.prefetch_factor is None else options.prefetch_factor,
            persistent=isinstance(options, LoadingOptions) and options.persistent_workers,
            pinned=options.pin_memory,
        )


USUAL = Loading()


def place_for(n_bytes: int, device: torch.device, lazy: bool) -> Place:
    """Choose where to hold `n_bytes` of images, given the free memory of the device and of the machine."""
    if lazy:
        return "file"
    if n_bytes < SHARE_OF_MEMORY * free_memory(device):
        return "device"
    if device.type != "cpu" and n_bytes < SHARE_OF_MEMORY * free_memory(torch.device("cpu")):
        return "memory"
    return "file"


class Ready(NamedTuple):
    """One batch on the device.

    index : (m,) numbers of its images
    stored : (m, n, 2) their half planes as stored
    copied : event after which a copy on its own stream is complete; None without one
    """

    index: Tensor
    stored: Tensor
    copied: torch.cuda.Event | None


class StoredImages:
    """The half-planes of some images of a store, addressed by their numbers 0 ... m-1.

    Parameters
    ----------
    rows : (m,) image rows in the store
    place : where they are held; None decides by `place_for`
    needed : (k,) ascending numbers of the images that will be asked for, None for all; no others are held

    """

    def __init__(
        self,
        store: Store,
        rows: np.ndarray,
        device: torch.device,
        loading: Loading = USUAL,
        place: Place | None = None,
        needed: np.ndarray | None = None,
    ) -> None:
        self._store, self._rows, self.device, self.loading = store, rows, device, loading
        self._file_rows = store.data_rows[rows]
        self._shape, self._dtype = store.data.shape[1:], torch.from_numpy(np.empty(0, store.data.dtype)).dtype
        self.bytes_per_image = store.data.strides[0]
        held = rows if needed is None else rows[needed]
        self._number_held = None if needed is None else _inverse(needed, len(rows))
        n_bytes = len(held) * self.bytes_per_image
        self.place: Place = place or place_for(n_bytes, device, loading.lazy)
        self._pinned = loading.pinned and device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._kept: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        pinned = " from page-locked memory" if self._pinned and self.place != "device" else ""
        log.info("%d images, %.3g GB: %s%s", len(held), n_bytes / 1e9, WHERE[self.place], pinned)
        self._held: Tensor | None = None
        if self.place != "file":
            self._held = self._loaded(held, device if self.place == "device" else torch.device("cpu"))

    @property
    def bytes_held(self) -> int:
        """Bytes of the images that are held on the device or in memory."""
        return 0 if self._held is None else self._held.numel() * self._held.element_size()

    def batches(self, windows: Iterable[list[np.ndarray]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (m,) image numbers and stored half planes (m, n, 2) of each batch, on the device.

        windows: lists of batches, each batch the numbers of its images; one list is read at once. While a
        batch is in use, the next batches are made ready and the next window is read.
        """
        if self.place == "device":
            for batch in (batch for window in windows for batch in window):
                index = sent(batch, self.device)
                held = index if self._number_held is None else sent(self._among_held(batch), self.device)
                yield index, self._held[held]
            return
        with self._threads() as (readers, makers):
            waiting: deque[Future] = deque()
            for batch in self._sources(windows, readers):
                waiting.append(makers.submit(self._ready, *batch))
                if len(waiting) > self.loading.ahead:
                    yield self._received(waiting.popleft().result())
            while waiting:
                yield self._received(waiting.popleft().result())

    def _sources(self, windows, readers) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield for each batch an array of half planes, its images' positions in it, and their numbers."""
        if self.place == "memory":
            for batch in (batch for window in windows for batch in window):
                yield self._held.numpy(), self._among_held(batch), batch
            return
        coming = (self._begin(window, readers) for window in windows)
        window = next(coming, None)
        while window is not None:
            batches, values, places, reading = window
            for piece in reading:
                piece.result()
            window = next(coming, None)
            for batch, place in zip(batches, places, strict=True):
                yield values, place, batch

    def _among_held(self, numbers: np.ndarray) -> np.ndarray:
        """Return the places of images among those that are held."""
        return numbers if self._number_held is None else self._number_held[numbers]

    def _begin(self, window: list[np.ndarray], readers: ThreadPoolExecutor):
        """Start to read a window.

        Returns its batches, the array that is filled in file order, the positions of each batch's images in
        that array, and the pieces being read.
        """
        numbers = np.concatenate(window)
        in_file = np.argsort(self._file_rows[numbers], kind="stable")
        place = np.empty_like(in_file)
        place[in_file] = np.arange(len(in_file))
        values = np.empty((len(numbers), *self._shape), self._store.data.dtype)
        rows = self._rows[numbers[in_file]]
        reading = [
            readers.submit(self._store.read, rows[part], values[part]) for part in self._pieces(len(rows))
        ]
        return window, values, np.split(place, np.cumsum([len(batch) for batch in window])[:-1]), reading

    def _ready(self, values: np.ndarray, places: np.ndarray, batch: np.ndarray) -> Ready:
        """Gather a batch's images and send them to the device, in a thread of its own."""
        if self._copies is None:
            return Ready(torch.from_numpy(batch), self._gathered(values, places), None)
        with torch.cuda.stream(self._copies):  # and its device: a thread starts with the first one
            stored = self._gathered(values, places).to(self.device, non_blocking=True)
            return Ready(sent(batch, self.device), stored, self._copies.record_event())

    def _gathered(self, values: np.ndarray, places: np.ndarray) -> Tensor:
        gathered = torch.empty((len(places), *self._shape), dtype=self._dtype, pin_memory=self._pinned)
        np.take(values, places, axis=0, out=gathered.numpy(), mode="clip")  # any other mode copies twice
        return gathered

    def _received(self, batch: Ready) -> tuple[Tensor, Tensor]:
        """Hand the batch over to the stream that computes."""
        if batch.copied is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(batch.copied)
            batch.index.record_stream(stream)
            batch.stored.record_stream(stream)
        return batch.index, batch.stored

    @contextmanager
    def _threads(self) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
        """Provide two pools of threads, one for reading and one for gathering batches.

        Gathering has its own pool because it must not wait until a window is read.
        """
        workers, completed = self.loading.workers, False
        pools = self._kept or (ThreadPoolExecutor(workers, "read"), ThreadPoolExecutor(workers, "gather"))
        try:
            yield pools
            completed = True
        finally:
            self._kept = pools if completed and self.loading.persistent else None
            if self._kept is None:
                for pool in pools:
                    pool.shutdown(cancel_futures=True)

    def _loaded(self, rows: np.ndarray, where: torch.device) -> Tensor:
        """Read the images of `rows` (k,), (k, n, 2) as stored, piece by piece."""
        held = torch.empty((len(rows), *self._shape), dtype=self._dtype, device=where)

        def load(part: slice) -> None:
            if where.type == "cpu":
                self._store.read(rows[part], held[part].numpy())
            else:
                held[part] = torch.from_numpy(self._store.read(rows[part])).to(where)

        with ThreadPoolExecutor(self.loading.workers) as pool:
            list(pool.map(load, self._pieces(len(rows))))
        return held

    def _pieces(self, n: int) -> list[slice]:
        """Divide n images into pieces of some megabytes."""
        step = max(1, PIECE_BYTES // self.bytes_per_image)
        return [slice(start, start + step) for start in range(0, n, step)]


def _inverse(numbers: np.ndarray, n: int) -> np.ndarray:
    """Return (n,) the place of each of 0 ... n-1 in `numbers`; -1 for those that are not there."""
    places = np.full(n, -1)
    places[numbers] = np.arange(len(numbers))
    return places
