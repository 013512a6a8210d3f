"""The checked configuration, the names of folders, and helpers that several rules share."""

import os
import re
import shlex
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

WORKFLOW = Path(workflow.basedir, "workflow")
SCRIPTS = WORKFLOW / "scripts"

# The library is used from the checkout, here and in every job, on the cluster as well.
if str(WORKFLOW) not in sys.path:
    sys.path.insert(0, str(WORKFLOW))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(WORKFLOW), os.environ.get("PYTHONPATH")]))

from tomohet.errors import InputError
from tomohet.rounds.config import complete_config
from tomohet.rounds.flags import command_line
from tomohet.rounds.tree import stage_options

try:
    CONFIG = complete_config(config, source=" + ".join(workflow.configfiles))
except InputError as mistakes:
    raise WorkflowError(str(mistakes)) from None

ROUNDS = CONFIG["rounds"]
SIMULATED = CONFIG["particles"] is None

RESULTS = f"results/{CONFIG['dataset']}"
LOGS = f"logs/{CONFIG['dataset']}"
BENCHMARKS = f"benchmarks/{CONFIG['dataset']}"
ROUND = RESULTS + "/{round}"
ROUND_LOGS = LOGS + "/{round}"
ROUND_BENCHMARKS = BENCHMARKS + "/{round}"

PARTICLES = RESULTS + "/simulated/particles.star" if SIMULATED else CONFIG["particles"]
DATADIR = f"--datadir {CONFIG['datadir']}" if CONFIG["datadir"] else ""
STORE = RESULTS + "/prepared"


wildcard_constraints:
    round="|".join(map(re.escape, ROUNDS)),


# `logged FILE` copies a command's output to the terminal and to its log. It ignores the signals that end the
# command, so that what the command writes while it saves its work is not lost.
PATH_TO_PYTHON = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
shell.prefix(
    ("" if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method else PATH_TO_PYTHON)
    + "logged() {{ trap '' INT TERM; tee \"$1\"; }}; "
)


def options(stage):
    """A function of the wildcards giving the command-line options of one stage: its own slice of the config."""
    return lambda wildcards: command_line(stage, stage_options(CONFIG, stage, wildcards.get("round")))


def megabytes(first):
    """Memory that doubles when a job is tried again."""
    return lambda wildcards, attempt: first * 2 ** (attempt - 1)


def minutes(first, most=1440):
    """Time that doubles when a job is tried again, within a day."""
    return lambda wildcards, attempt: min(first * 2 ** (attempt - 1), most)


def latent_model(wildcards):
    """Folder of the model whose latents and volumes the round's analysis uses."""
    return f"{RESULTS}/{wildcards.round}/{CONFIG['latents']}"


# One request for the local counter and for Slurm: `gpu` alone might be spread over two nodes.
GPU = {"gpu": CONFIG["gpus"], "nodes": 1} if CONFIG["gpus"] else {}
