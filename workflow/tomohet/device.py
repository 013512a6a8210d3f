"""Device on which tensors are computed, and its free memory."""

import os
import resource
from pathlib import Path

from tomohet.errors import InputError


def device_of(name: str):
    """Return the `torch.device` for a `--device` value.

    Raises InputError if CUDA is requested and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("--device cuda: PyTorch sees no CUDA device; use --device cpu or ask for a GPU")
    if name == "cpu" or not available:
        return torch.device("cpu")
    # Each of several processes on a node has its own GPU; Slurm may show each process none but its own.
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def fast_bfloat16(device) -> bool:
    """Tell whether the device multiplies bfloat16 matrices faster than float32.

    It does by tensor cores, AVX512-BF16 or AMX. A CPU without such instructions emulates them, many times
    slower.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def sent(numbers, device):
    """Copy a small numpy array to a tensor on the device, without waiting for running computations."""
    import torch

    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def free_memory(device) -> int:
    """Return the bytes that this process may still allocate on a `torch.device`.

    For the machine's memory this is what is available without swapping and within the limits of the job
    (control groups, as set by Slurm and containers) and of `ulimit`, divided evenly among the processes of
    one run.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    memory = _kilobytes(Path("/proc/meminfo"))
    available = min([memory["MemAvailable"], *_room_in_control_groups()])
    own = min([available // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), *_room_under_ulimit()])
    return max(own, 0)


def _kilobytes(table: Path) -> dict[str, int]:
    """Read entries like `MemFree: 123 kB` of a kernel file, in bytes."""
    rows = (line.replace(":", "").split() for line in table.read_text().splitlines())
    return {row[0]: int(row[1]) * 1024 for row in rows if row[-1:] == ["kB"]}


def _room_under_ulimit() -> list[int]:
    """Return the bytes left below the soft limits of this process."""
    used = _kilobytes(Path("/proc/self/status"))
    limits = ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"))
    return [
        resource.getrlimit(kind)[0] - used[name]
        for kind, name in limits
        if resource.getrlimit(kind)[0] != resource.RLIM_INFINITY
    ]


def _room_in_control_groups() -> list[int]:
    """Return the bytes left below the memory limits of the control groups (version 1 or 2) of this process.

    Cached files count as used there, although the kernel frees them when needed.
    """
    room = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            root, files = Path("/sys/fs/cgroup"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = root / place.lstrip("/")
        while group.is_relative_to(root):
            room += _room_in(group, *files)
            group = group.parent
    return room


def _room_in(group: Path, limit: str, used: str, cached: str) -> list[int]:
    """Return the bytes left below one control group's limit; empty when it has none."""
    try:
        largest, now = (group / limit).read_text().strip(), int((group / used).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:  # another name in this container, or a group without this controller
        return []
    return [] if largest == "max" else [int(largest) - now + int(statistics.get(cached, 0))]
