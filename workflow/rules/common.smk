"""The checked configuration, the names of folders, and what several rules share."""

import re
import shlex
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

# The library is used from the checkout, here and in every job, on a cluster as well.
WORKFLOW = str(Path(workflow.basedir, "workflow"))
if WORKFLOW not in sys.path:
    sys.path.insert(0, WORKFLOW)

from tomohet.errors import InputError
from tomohet.rounds.config import complete_config
from tomohet.rounds.flags import command_line
from tomohet.rounds.inputs import linked_files, named_files, stack_digest
from tomohet.rounds.layout import LINEAR, MAVEN, ROUND_STAGES
from tomohet.rounds.machines import of_one_machine, of_training
from tomohet.rounds.tree import stage_options

try:
    CONFIG = complete_config(config, source=" + ".join(map(str, workflow.configfiles)))
except InputError as mistakes:
    raise WorkflowError(str(mistakes)) from None

ROUNDS = CONFIG["rounds"]
SIMULATED = CONFIG["particles"] is None


pathvars:
    results=f"results/{CONFIG['dataset']}",
    logs=f"logs/{CONFIG['dataset']}",
    benchmarks=f"benchmarks/{CONFIG['dataset']}",


wildcard_constraints:
    round="|".join(map(re.escape, ROUNDS)),


PARTICLES = "<results>/simulated/particles.star" if SIMULATED else CONFIG["particles"]
VOLUME_SERIES = "<results>/simulated/volumes.star" if SIMULATED else CONFIG["volume_series"]
# The STAR files that an optimisation set names: who reads the set reads them too.
PARTICLES_LINKED = [] if SIMULATED else linked_files(PARTICLES, CONFIG["datadir"])
VOLUME_SERIES_LINKED = [] if SIMULATED else linked_files(VOLUME_SERIES, CONFIG["datadir"])
# With refined poses, exports of a round wait for its own linear model; else they need none.
EXPORTED_POSES = "<results>/{round}/linear/poses.parquet" if CONFIG["export"]["refined_poses"] else []
MODEL = CONFIG["model"] or (["<results>/simulated/model.cif"] if SIMULATED else [])


# One request for the local counter and for Slurm.
ON_ONE_MACHINE, TRAINING = of_one_machine(CONFIG), of_training(CONFIG)
# For stages that gain from a GPU and use a single one.
ONE_GPU = {"gpu": 1, "nodes": 1} if CONFIG["gpus"] else {}

# In every rule's shell: `tomohet COMMAND` runs that script of workflow/scripts with the Python that runs
# Snakemake (under --sdm conda with the environment's), and `logged FILE` copies its output to the terminal and
# to the log. The latter ignores the signals that end a job, so that what the command says while it saves its
# work is kept.
PYTHON = (
    "python" if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method else sys.executable
)
# The training's program; on several machines srun starts it, which knows no shell functions.
TRAINER = f"{TRAINING.launcher} {shlex.quote(PYTHON)} -m tomohet.cli" if TRAINING.launcher else "tomohet"
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(WORKFLOW)}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; "
    f'tomohet() {{{{ {shlex.quote(PYTHON)} -m tomohet.cli "$@"; }}}}; '
    "logged() {{ trap '' INT TERM; tee \"$1\"; }}; "
)


def options(stage):
    """A function of the wildcards giving the command-line options of a stage: its own slice of the config."""
    return lambda wildcards: command_line(stage, stage_options(CONFIG, stage, wildcards.get("round")))


def named(stage):
    """A function of the wildcards giving the files that the options of a stage name, as inputs."""
    return lambda wildcards: named_files(stage, stage_options(CONFIG, stage, wildcards.get("round")))


# Parameters that come from the configuration are functions: Snakemake would look for wildcards in plain text.
def datadir(wildcards):
    """The folder of the stacks as an option."""
    return shlex.join(["--datadir", CONFIG["datadir"]] if CONFIG["datadir"] else [])


def stacks(wildcards):
    """A digest of the image stacks, a parameter of the jobs that read them, which run again when it changes.

    Thousands of stacks as inputs would make every dry run slow: Snakemake asks for several properties of each
    input, one after another, and keeps a record of each for each job. Name, size and time of change of 20,000
    stacks are read in half a second, a million rows of names in one or two, once in a run of Snakemake.
    """
    return "" if SIMULATED else stack_digest(PARTICLES, CONFIG["datadir"])


def megabytes(first):
    """Memory that grows when a job is tried again."""
    return lambda wildcards, attempt: first * attempt


def minutes(first, most=1440):
    """Time that doubles when a job is tried again, within a day."""
    return lambda wildcards, attempt: min(first * 2 ** (attempt - 1), most)


def parent_table(wildcards):
    """The table that a round selects from: its parent's, or the whole dataset's."""
    parent = ROUNDS[wildcards.round].get("parent")
    return f"<results>/{parent}/particles.parquet" if parent else "<results>/prepared/particles.parquet"


def selection(wildcards):
    """The query or the indices of a round as options of `select`."""
    given = ROUNDS[wildcards.round]
    flags = {"select": "--query", "indices": "--indices", "parent": "--parent"}
    return shlex.join(
        word for key in flags if given.get(key) is not None for word in (flags[key], given[key])
    )


def exported_poses(wildcards, input):
    """The refined poses that a round's exported files carry, as an option."""
    return shlex.join(["--with-refined-poses", input.poses] if input.poses else [])


def latent_model(wildcards):
    """The files of the model whose latents and volumes a round's analysis uses; the first lies in its folder."""
    if CONFIG["latents"] == "linear":
        return ["<results>/{round}/linear/weights.pkl"]
    return ["<results>/{round}/train_vae/weights.pkl", "<results>/{round}/convergence"]


def epoch(wildcards, input):
    """The epoch that convergence chose; the linear model's files have no number."""
    return "-1" if CONFIG["latents"] == "linear" else f"{input[1]}/convergence.json"


def masks_of(wildcards):
    """The masks to measure: `siren` for its blocks, a folder, or None for the chains of the model."""
    return stage_options(CONFIG, "maven", wildcards.round)["masks"]


def units(wildcards, input):
    """What is measured as options of `maven`."""
    if masks_of(wildcards):
        return shlex.join(["--masks", input.blocks or masks_of(wildcards)])
    return shlex.join(["--model", *input.model])


def has_units(round_name):
    """Whether there is anything whose occupancy can be measured."""
    return bool(MODEL) or stage_options(CONFIG, "maven", round_name)["masks"] is not None


def table_stages(wildcards):
    """The folders of the stages whose tables are joined; the linear model's is named by its file."""
    stages = [stage for stage in ROUND_STAGES if stage.adds_to_table and stage != LINEAR]
    if not has_units(wildcards.round):
        stages.remove(MAVEN)
    return [f"<results>/{{round}}/{stage.folder}" for stage in stages]
