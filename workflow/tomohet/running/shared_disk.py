"""Speed of a file system, here and on a node of a cluster: large files, small files, and what is seen when.

`python -m tomohet.running.shared_disk FOLDER` measures where it runs and prints one line of JSON.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

LARGE_BYTES, BLOCK_BYTES = 64 << 20, 4 << 20
SMALL_FILES, SMALL_BYTES = 50, 4096
HERE, THERE = "written_here", "written_there"  # files by which two machines find out what they see


@dataclass(frozen=True)
class Speed:
    """MB/s of one large file, written with fsync and read back; milliseconds of a small file.

    small_ms : to create, write, fsync, rename, read and remove a file of 4 kB
    """

    write_mb_s: float
    read_mb_s: float
    small_ms: float


def speed(folder: Path) -> Speed:
    """Measure the file system of `folder`, which is left as it was."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor.") as place:
        large = Path(place) / "large"
        block = os.urandom(BLOCK_BYTES)
        start = time.perf_counter()
        with open(large, "wb") as file:
            for _ in range(LARGE_BYTES // BLOCK_BYTES):
                file.write(block)
            _synced(file)
        written = time.perf_counter()
        with open(large, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # not from the system's cache
            while file.read(BLOCK_BYTES):
                pass
        read = time.perf_counter()
        for number in range(SMALL_FILES):
            _small(Path(place) / str(number))
        end = time.perf_counter()
    megabytes = LARGE_BYTES / 1e6
    return Speed(
        megabytes / (written - start), megabytes / (read - written), 1e3 * (end - read) / SMALL_FILES
    )


def _small(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(bytes(SMALL_BYTES))
        _synced(file)
    renamed = path.rename(path.with_suffix(".renamed"))
    renamed.read_bytes()
    renamed.unlink()


def _synced(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _writable(folder: Path) -> bool:
    """Whether files can be written in a folder, or the folder be made."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


def on_node(folder: Path) -> dict:
    """Return what this node says: its name, time, GPUs, whether it sees the file `HERE`, and the speed.

    It also writes the file `THERE`, which the other machine waits for.
    """
    import torch

    try:
        seen = (folder / HERE).read_text()
    except OSError as error:
        return {"node": socket.gethostname(), "error": str(error)}
    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = {
        "node": socket.gethostname(),
        "time": time.time(),
        "seen": seen,
        "given": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "cards": cards,
        "driver": shutil.which("nvidia-smi") is not None,
        "home": _writable(Path.home()),
        "speed": asdict(speed(folder)),
    }
    (folder / THERE).write_text(seen)
    return found


if __name__ == "__main__":
    print(json.dumps(on_node(Path(sys.argv[1]))))
