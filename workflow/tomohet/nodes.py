"""Several machines of a Slurm job: which of them this is, and where the processes meet.

The job step starts one task on every node (`srun --ntasks-per-node=1`), and each task starts one process per
GPU of its node (`processes.start_copies`).
"""

import os
import re
import subprocess
from typing import NamedTuple

from tomohet.errors import InputError

LOWEST_PORT, PORTS = 12_000, 20_000  # below the ports that systems give to other connections


class Node(NamedTuple):
    """One of the machines that do a job together.

    number, count : of this machine, from 0, and of all
    address, port : where process 0 of machine 0 waits for the others; port None finds a free one
    """

    number: int = 0
    count: int = 1
    address: str = "127.0.0.1"
    port: int | None = None


ONE_NODE = Node()


def this_node() -> Node:
    """Return this machine among the nodes of the Slurm job step that has started this process on each.

    Elsewhere, and in a step on one node, the machine is alone.

    Raises InputError for a step of several nodes with more than one task on a node, and where Slurm does not
    say the first node's address.
    """
    count = int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    if count == 1:
        return ONE_NODE
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", count))
    if tasks != count:
        raise InputError(
            f"srun has started {tasks} tasks on {count} nodes; expected one task on each, which starts a "
            "process for every GPU itself: add --ntasks-per-node=1 to the options of srun"
        )
    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_STEP_ID", 0))
    port = LOWEST_PORT + (101 * job + step) % PORTS  # the same on all nodes; steps of one job have their own
    return Node(
        int(os.environ["SLURM_NODEID"]), count, _first_address(os.environ["SLURM_STEP_NODELIST"]), port
    )


def _first_address(nodes: str) -> str:
    """Return the network address of the first of a list of nodes such as `gpu[3-4]`."""
    first = _scontrol("show", "hostnames", nodes).split()[0]
    found = re.search(r"NodeAddr=(\S+)", _scontrol("--oneliner", "show", "node", first))
    return found[1] if found else first


def _scontrol(*words: str) -> str:
    try:
        return subprocess.run(["scontrol", *words], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as failure:
        raise InputError(
            f"the nodes of this Slurm job cannot find each other: `scontrol {' '.join(words)}` failed "
            f"({failure}); ask the cluster's support to allow scontrol on compute nodes, or train on one node"
        ) from failure
