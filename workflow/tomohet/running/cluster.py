"""Checks of `doctor --slurm`: partitions and account of the profile, a short job, the shared file system."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.text import read_yaml
from tomohet.running.machine import REQUIREMENTS, Finding, slurm_profile
from tomohet.running.shared_disk import HERE, THERE, Speed, speed

WAIT_S = 60  # for a node, before the check says that none is free
JOB_MINUTES = 5
LATENCY_WAIT_S = 30  # of profiles/slurm: how long Snakemake waits for a finished job's files
LONGEST_BETWEEN_CHECKS_S = 180  # of Snakemake's Slurm plugin
CLOCKS_S = 2.0
SLOW_MB_S, SLOW_SMALL_MS = 100.0, 20.0
DAY_MIN = 1440  # `most_runtime` where the configuration says nothing


@dataclass(frozen=True)
class Site:
    """What a profile says of a cluster.

    account, partitions : those of the jobs
    status_command : what Snakemake asks for the state of its jobs, sacct or squeue; "" if it says nothing
    """

    account: str
    partitions: tuple[str, ...]
    status_command: str = ""


def profile_in_use() -> Path:
    """Return the user's profile `slurm`, or else the checkout's."""
    own = slurm_profile()
    return own if own.exists() else REQUIREMENTS.parents[1] / "profiles" / "slurm"


def site_of(profile: Path) -> Site:
    """Read account, partitions and status command in a profile, and in the partition file that it names.

    Raises InputError when the profile is missing.
    """
    path = profile / "config.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such profile; --profile names the folder of the one you use")
    given = read_yaml(path) or {}
    settings = [_pairs(given.get("default-resources"))]
    settings += [_pairs(of_rule) for of_rule in (given.get("set-resources") or {}).values()]
    names = [one["slurm_partition"] for one in settings if "slurm_partition" in one]
    if listed := given.get("slurm-partition-config"):
        names += list((read_yaml(Path(listed)) or {}).get("partitions") or {})
    return Site(
        str(settings[0].get("slurm_account", "")),
        tuple(dict.fromkeys(map(str, names))),
        str(given.get("slurm-status-command", "")),
    )


def _pairs(settings: dict | list | None) -> dict:
    """Return settings that are a mapping, or a list of `name=value`, as a mapping."""
    if isinstance(settings, list):
        return dict(str(one).split("=", 1) for one in settings)
    return settings or {}


def examine_cluster(profile: Path, folder: Path) -> list[Finding]:
    """Return all findings; `profile` is that of the jobs, `folder` the one for results."""
    if shutil.which("sbatch") is None:
        return [Finding("FAIL", "slurm", "no sbatch here: run this on a login node of the cluster")]
    site = site_of(profile)
    findings = [
        _account(site.account),
        _ended_jobs(site.status_command, _told("scontrol", "show", "config")),
    ]
    if not site.partitions:
        findings.append(Finding("note", "partition", f"{profile} names none: Slurm's default is used"))
    here = speed(folder)
    findings.append(_speed("this machine", here))
    for name in site.partitions or ("",):
        known = _partition(name)
        findings += known
        if all(finding.verdict != "FAIL" for finding in known):
            findings += _node(name, site.account, folder)
    return findings


def _told(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def _account(name: str) -> Finding:
    if shutil.which("sacctmgr") is None:
        return Finding("note", "account", "no sacctmgr here: whether the account is yours is not known")
    user = _told("id", "-un")
    found = sorted({*_told("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account").split()})
    if not found:
        return Finding("note", "account", f"Slurm lists no accounts of {user}")
    if name and name not in found:
        return Finding(
            "FAIL",
            "account",
            f"{name} is not yours; set slurm_account in the profile to {' or '.join(found)}",
        )
    return Finding("ok", "account", name or f"Slurm's default, of {', '.join(found)}")


def _ended_jobs(status_command: str, configuration: str) -> Finding:
    """Judge whether Snakemake learns of every end: squeue forgets ended jobs, sacct hides cancelled ones.

    configuration : what `scontrol show config` prints
    """
    if status_command != "squeue":
        text = (
            "Snakemake would wait for ever for a job that scancel has ended: "
            "set slurm-status-command: squeue in the profile"
        )
        return Finding("note", "ended jobs", text)
    known = re.search(r"^MinJobAge\s*=\s*(\d+)", configuration, re.MULTILINE)
    if known is None:
        return Finding("note", "ended jobs", "for how long squeue knows them (MinJobAge) is not known")
    text = f"squeue knows them for {known[1]} s (MinJobAge)"
    if int(known[1]) < LONGEST_BETWEEN_CHECKS_S:
        return Finding(
            "FAIL",
            "ended jobs",
            f"{text}, and Snakemake asks every {LONGEST_BETWEEN_CHECKS_S} s at the latest: set "
            "slurm-status-command: sacct in the profile, and stop Snakemake rather than cancel a single job",
        )
    return Finding("ok", "ended jobs", text)


def _partition(name: str) -> list[Finding]:
    """Check that a partition is there and up, and say the largest request that it takes."""
    rows = [
        row.split("|")
        for row in _told("sinfo", "-h", "-o", "%R|%a|%l|%m|%c|%G|%D").splitlines()
        if "|" in row
    ]
    if not rows:
        return [Finding("FAIL", "partition", "sinfo lists none: is the Slurm controller up?")]
    own = [row for row in rows if name in ("", row[0])]
    if not own:
        known = ", ".join(dict.fromkeys(row[0] for row in rows))
        return [
            Finding("FAIL", "partition", f"no {name}; set slurm_partition in the profile to one of {known}")
        ]
    label = name or "default"
    if all(row[1] != "up" for row in own):
        return [
            Finding("FAIL", "partition", f"{label} is {own[0][1]}; ask the administrators, or use another")
        ]
    memory_mb = max(int(re.sub(r"\D", "", row[3]) or 0) for row in own)
    minutes = max(_minutes(row[2]) for row in own)
    gpus = sorted({row[5] for row in own} - {"(null)"})
    text = (
        f"{label}: {sum(int(row[6]) for row in own)} nodes, up to {memory_mb:,} MB and {own[0][2]}, "
        f"{'GPUs ' + ', '.join(gpus) if gpus else 'no GPUs'}; in the configuration: most_mem_mb: {memory_mb}"
    )
    if minutes < DAY_MIN:
        text += f", most_runtime: {minutes:g}"
    return [Finding("ok", "partition", text)]


def _minutes(limit: str) -> float:
    """Return the minutes of a time limit such as 1-02:00:00, 02:00:00, 30:00 or infinite."""
    if not re.fullmatch(r"(\d+-)?[\d:]+", limit):
        return float("inf")
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts
    return int(days or 0) * DAY_MIN + hours * 60 + minutes + seconds // 60


def _node(partition: str, account: str, folder: Path) -> list[Finding]:
    """Run a short job in a partition: its GPU and clock, and the shared file system as the node sees it."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor.") as place:
        token = f"{os.getpid()} {time.time()}"
        (Path(place) / HERE).write_text(token)
        gpus = "(null)" not in _told("sinfo", "-h", *(["-p", partition] if partition else []), "-o", "%G")
        words = [
            "srun",
            "--quiet",
            "--ntasks=1",
            f"--time={JOB_MINUTES}",
            "--mem=2000",
            f"--immediate={WAIT_S}",
        ]
        words += [f"--partition={partition}"] if partition else []
        words += [f"--account={account}"] if account else []
        words += ["--gpus=1", "--nodes=1"] if gpus else []
        words += [sys.executable, "-m", "tomohet.running.shared_disk", place]
        started = time.time()
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=_environment())
        ended = time.time()
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return [Finding("FAIL", "job", f"in partition {partition or 'default'} it failed: {said}")]
        node = json.loads(done.stdout.strip().splitlines()[-1])
        if "error" in node:
            text = f"{node['node']} does not see {folder}: {node['error']}; use a folder that all nodes share"
            return [Finding("FAIL", "job", text)]
        seen_after = _seen_after(Path(place) / THERE, token)
    return [
        Finding("ok", "job", f"ran on {node['node']}, which reads what this machine has written"),
        *_gpu(node, gpus),
        _clock(node["node"], started - node["time"], node["time"] - ended),
        _latency(node["node"], seen_after),
        _speed(node["node"], Speed(**node["speed"])),
        *([] if node["home"] else [_home(node["node"], os.environ.get("XDG_CACHE_HOME", ""))]),
    ]


def _environment() -> dict[str, str]:
    """Return the environment of a job that finds this checkout's library."""
    library = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))}


def _gpu(node: dict, asked: bool) -> list[Finding]:
    if not asked:
        return []
    if node["cards"]:
        return [Finding("ok", "gpu", f"{node['node']}: PyTorch sees {', '.join(node['cards'])}")]
    why = "install a PyTorch with CUDA (make install)" if node["driver"] else "the node has no nvidia-smi"
    text = f"{node['node']}: Slurm gave GPU '{node['given']}', but PyTorch sees none: {why}"
    return [Finding("note", "gpu", f"{text}; stages would compute on the processor")]


def _clock(name: str, behind_s: float, ahead_s: float) -> Finding:
    """Judge the clock of a node, read while a job ran: it lies between this machine's before and after.

    behind_s, ahead_s : by how much it was before the first, and after the second
    """
    for off_s, where in ((behind_s, "behind"), (ahead_s, "ahead")):
        if off_s > CLOCKS_S:
            text = (
                f"{name} is {off_s:.0f} s or more {where}: Snakemake may run jobs again; set the clocks (NTP)"
            )
            return Finding("note", "clock", text)
    return Finding("ok", "clock", f"{name} has the time of this machine")


def _seen_after(path: Path, token: str) -> float:
    """Wait until a file that a node has written is seen here with its content; return the seconds."""
    start = time.monotonic()
    while time.monotonic() - start < 2 * LATENCY_WAIT_S:
        if path.is_file() and path.read_text() == token:
            break
        time.sleep(0.1)
    return time.monotonic() - start


def _latency(name: str, seconds: float) -> Finding:
    text = f"a file of {name} is seen here after {seconds:.1f} s"
    if seconds > LATENCY_WAIT_S / 2:
        return Finding(
            "note", "files", f"{text}; set latency-wait in the profile to {4 * seconds:.0f} or more"
        )
    return Finding("ok", "files", text)


def _speed(name: str, found: Speed) -> Finding:
    text = (
        f"{name}: writes {found.write_mb_s:.0f} MB/s, reads {found.read_mb_s:.0f} MB/s, "
        f"{found.small_ms:.1f} ms for a small file"
    )
    advice = []
    if min(found.write_mb_s, found.read_mb_s) < SLOW_MB_S:
        advice.append(
            "images are read slowly: ask for memory that holds them, or copy the store to a fast disk"
        )
    if found.small_ms > SLOW_SMALL_MS:
        advice.append(
            "files are opened slowly: use few stacks of many particles, and seconds-between-status-checks"
        )
    return Finding("note" if advice else "ok", "disk", "; ".join([text, *advice]))


def _home(name: str, cache: str) -> Finding:
    """Judge a node whose home folder cannot be written; Snakemake in its jobs needs one, or a cache."""
    text = f"{name}: the home folder cannot be written"
    if cache:
        return Finding("ok", "home", f"{text}; caches go to XDG_CACHE_HOME, {cache}")
    return Finding(
        "FAIL",
        "home",
        f"{text}, and Snakemake's jobs fail there: before you start Snakemake, export XDG_CACHE_HOME with a "
        "folder that all nodes share",
    )
