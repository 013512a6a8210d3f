"""Check this machine: Python, packages, PyTorch and CUDA, memory, disk, Slurm."""

from tomohet.errors import InputError
from tomohet.options import DoctorOptions
from tomohet.running.cluster import examine_cluster, profile_in_use
from tomohet.running.machine import examine
from tomohet.running.work import command


@command
def run(options: DoctorOptions) -> None:
    """Print one line per finding."""
    findings = examine(options.folder)
    if options.slurm:
        findings += examine_cluster(options.profile or profile_in_use(), options.folder.resolve())
    for finding in findings:
        print(f"{finding.verdict:<5} {finding.subject:<10} {finding.text}")
    failed = [finding.subject for finding in findings if finding.verdict == "FAIL"]
    if failed:
        mend = "; `make install` in the checkout repairs the packages" if "packages" in failed else ""
        raise InputError(f"not ready: {', '.join(dict.fromkeys(failed))}{mend}")
