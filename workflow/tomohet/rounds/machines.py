"""Which GPUs the jobs of a configuration ask for, on how many machines, and how their commands start."""

from typing import NamedTuple

THREADS_PER_GPU = 2  # of a stage on several machines: one computes, one reads


class Request(NamedTuple):
    """What one job asks of Snakemake and Slurm.

    resources : of the rule; `cards` are those of this machine that the job waits for (`jobs.sh`)
    several : the option of a command that shares its work among GPUs, or nothing
    launcher : words before the command's program, which start it once on every machine; empty on one machine
    """

    resources: dict[str, int | str]
    several: str
    launcher: str = ""


def of_one_machine(config: dict) -> Request:
    """Return the request of a stage that uses the GPUs of one machine."""
    gpus = min(config["gpus"], _per_machine(config))
    # `gpu` alone might be spread over two machines.
    asked: dict[str, int | str] = {"gpu": gpus, "nodes": 1} if gpus else {}
    return Request({"cards": gpus} | asked, "--multigpu" if gpus > 1 else "")


def of_several_machines(config: dict) -> Request:
    """Return the request of a stage that may use several machines: the linear model, the network.

    The keys are those of snakemake-executor-plugin-slurm: with `mpi`, the job's own command calls srun. One
    task on every machine starts a process per GPU (`tomohet.nodes`). When one fails, srun ends the others.
    """
    each = _per_machine(config)
    nodes = config["gpus"] // each if each else 0
    if nodes < 2:
        return of_one_machine(config)
    threads = THREADS_PER_GPU * each
    resources = {
        "cards": 0,
        "gpu": config["gpus"],
        "nodes": nodes,
        "tasks": nodes,
        "mpi": "srun",
        "cpus_per_task": threads,
    }
    # The plugin would take `tasks` for a number per GPU; and 16 GPUs of two machines shall be 8 of each.
    resources |= {"tasks_per_gpu": 0, "slurm_extra": f"--gpus-per-node={each}"}
    launcher = (
        f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --cpus-per-task={threads} "
        f"--gpus-per-node={each} --kill-on-bad-exit=1"
    )
    return Request(resources, "--multigpu", launcher)


def machine_mistakes(config: dict) -> list[str]:
    """Return a line where the GPUs are no whole number of machines."""
    gpus, each = config.get("gpus", 0), config.get("gpus_per_node")
    if not isinstance(gpus, int) or not isinstance(each, int) or each < 1 or gpus <= each or gpus % each == 0:
        return []
    return [
        f"gpus: found {gpus}, expected a multiple of gpus_per_node ({each}), for a whole number of machines; "
        f"write {gpus // each * each} or {-(-gpus // each) * each}"
    ]


def _per_machine(config: dict) -> int:
    return config["gpus_per_node"] or config["gpus"]
