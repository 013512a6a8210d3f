"""Checks of `doctor`: Python, packages, PyTorch, memory, disk and Slurm on this machine."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

import tomohet

REQUIREMENTS = Path(tomohet.__file__).resolve().parents[2] / "envs" / "requirements.txt"
OLDEST_PYTHON, FIRST_UNTESTED_PYTHON = (3, 11), (3, 14)
LITTLE_MEMORY_GB = 8
LITTLE_DISK_GB = 10


@dataclass(frozen=True)
class Finding:
    """One line of the report; `verdict` is ok, note (works, with a remark) or FAIL."""

    verdict: str
    subject: str
    text: str


def examine(folder: Path) -> list[Finding]:
    """Return all findings; `folder` is the folder for results."""
    return [_python(), *_packages(), _torch(), _memory(), _disk(folder), *_slurm()]


def _python() -> Finding:
    version = sys.version.split()[0]
    fits = OLDEST_PYTHON <= sys.version_info[:2] < FIRST_UNTESTED_PYTHON
    return Finding("ok" if fits else "FAIL", "python", f"{version} ({sys.executable}); 3.11 to 3.13 work")


def _packages() -> list[Finding]:
    """Compare the installed packages with the exact versions of the tests (envs/requirements.txt).

    A tomohet that was installed by pip has no such file; its packages are compared with the required
    versions.
    """
    if not REQUIREMENTS.is_file():
        return _needed_packages()
    findings = []
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", REQUIREMENTS.read_text(), flags=re.MULTILINE)
    for name, wanted in pins:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding("FAIL", "packages", f"{name} {wanted} is not installed"))
            continue
        if found.split("+")[0] != wanted:
            findings.append(Finding("note", "packages", f"{name} is {found}; tested with {wanted}"))
    return findings or [Finding("ok", "packages", f"all {len(pins)} at their exact versions")]


def _needed_packages() -> list[Finding]:
    needed = [Requirement(text) for text in importlib.metadata.requires("tomohet") or []]
    findings = []
    for one in needed:
        if one.marker is not None and not one.marker.evaluate():
            continue
        try:
            found = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding("FAIL", "packages", f"{one} is not installed"))
            continue
        if not one.specifier.contains(found, prereleases=True):
            findings.append(Finding("FAIL", "packages", f"{one.name} is {found}; expected {one.specifier}"))
    return findings or [Finding("ok", "packages", "all required packages, at supported versions")]


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("FAIL", "torch", f"cannot be imported: {error}")
    if not torch.cuda.is_available():
        built = "built without CUDA" if torch.version.cuda is None else "no GPU or driver found"
        return Finding("note", "torch", f"{torch.__version__} on {os.cpu_count()} CPUs; no CUDA ({built})")
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    return Finding("ok", "torch", f"{torch.__version__}, CUDA {torch.version.cuda}: {names}")


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if cpuinfo.is_file()
        else None
    )
    return found[1].strip() if found else platform.processor() or os.uname().machine


def _memory() -> Finding:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    verdict = "ok" if gigabytes >= LITTLE_MEMORY_GB else "note"
    return Finding(verdict, "memory", f"{gigabytes:.0f} GB; the demo needs 4")


def _disk(folder: Path) -> Finding:
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding("FAIL", "disk", f"{existing} is not writable")
    free = shutil.disk_usage(existing).free / 1e9
    verdict = "ok" if free >= LITTLE_DISK_GB else "note"
    return Finding(
        verdict, "disk", f"{free:.0f} GB free in {existing}; a prepared store is as large as its stacks"
    )


def slurm_profile() -> Path:
    """Return the folder of the user's own profile `slurm`, which need not exist."""
    return Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "snakemake" / "slurm"


def _slurm() -> list[Finding]:
    if shutil.which("sbatch") is None:
        return [Finding("note", "slurm", "no sbatch here; needed only for --profile slurm")]
    profiles = slurm_profile()
    if not profiles.exists():
        return [Finding("note", "slurm", f"sbatch found, but no profile {profiles}; `make install` links it")]
    accounting = (
        "" if shutil.which("sacct") else "; no sacct: add slurm-status-command: squeue to the profile"
    )
    return [
        Finding("ok", "slurm", f"sbatch found, profile {profiles.resolve()}{accounting}; --slurm checks more")
    ]
