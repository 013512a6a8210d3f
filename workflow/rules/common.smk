"""The checked configuration, the names of folders, and what several rules share."""

import re
import shlex
import sys
from functools import cache
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
from tomohet.rounds.flags import command_line, query_of_all, selection_line
from tomohet.rounds.inputs import linked_files, named_files, selection_files, stack_digest
from tomohet.rounds.layout import LINEAR, MAVEN, ROUND_STAGES
from tomohet.rounds.machines import of_one_machine, of_several_machines
from tomohet.rounds.requests import estimated, request
from tomohet.rounds.tree import stage_options, stage_start
from tomohet.rounds.work import jobs_of

try:
    CONFIG = complete_config(config, source=" + ".join(map(str, workflow.configfiles)))
except InputError as mistakes:
    raise WorkflowError(str(mistakes)) from None

ROUNDS = CONFIG["rounds"]
# Rounds that ask for a proposal.
PROPOSING = [name for name, given in ROUNDS.items() if "auto" in given]
SIMULATED = CONFIG["particles"] is None


pathvars:
    results=f"results/{CONFIG['dataset']}",
    logs=f"logs/{CONFIG['dataset']}",
    benchmarks=f"benchmarks/{CONFIG['dataset']}",


wildcard_constraints:
    round="|".join(map(re.escape, ROUNDS)),
    share=r"\d+-of-\d+",


PARTICLES = "<results>/simulated/particles.star" if SIMULATED else CONFIG["particles"]
VOLUME_SERIES = "<results>/simulated/volumes.star" if SIMULATED else CONFIG["volume_series"]
# The STAR files that an optimisation set names: who reads the set reads them too.
PARTICLES_LINKED = [] if SIMULATED else linked_files(PARTICLES, CONFIG["datadir"])
VOLUME_SERIES_LINKED = [] if SIMULATED else linked_files(VOLUME_SERIES, CONFIG["datadir"])
# Exported poses are those that were prepared: another program's, if it gave the particles back.
POSED = None if SIMULATED else CONFIG["prepare"]["poses_from"]
POSED_LINKED = linked_files(POSED, CONFIG["datadir"])
# With refined poses, exports of a round wait for its own linear model; else they need none.
EXPORTED_POSES = "<results>/{round}/linear/poses.parquet" if CONFIG["export"]["refined_poses"] else []
MODEL = CONFIG["model"] or (["<results>/simulated/model.cif"] if SIMULATED else [])


# One request for the local counter and for Slurm. Its `cards` are what `with_cards` reads (jobs.sh), also where
# they are 0.
ON_ONE_MACHINE, ON_MACHINES = of_one_machine(CONFIG), of_several_machines(CONFIG)
# For stages that gain from a GPU and use a single one.
ONE_GPU = of_one_machine(CONFIG | {"gpus": min(1, CONFIG["gpus"])}).resources

# In every rule's shell: `tomohet COMMAND` runs that script of workflow/scripts with the Python that runs
# Snakemake (under --sdm conda with the environment's). `logged LOG ATTEMPT COMMAND` runs a command and copies its
# output to the terminal and to the log; the copying ignores the signals that end a job, so that what the command
# says while it saves its work is kept.
#
# A mistake of the user (status 1 after a line `error: ...`, `tomohet.errors.InputError`) is the same in every
# attempt. Snakemake tries any failed job again, so `logged` keeps the line beside the log, and a second attempt
# ends with that line at once.
#
# `with_cards N COMMAND` gives a command N GPUs of this machine that no other job has.
PYTHON = (
    "python" if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method else sys.executable
)
# The program of a stage on several machines: srun starts it, which knows no shell functions.
LAUNCHED = (
    f"{ON_MACHINES.launcher} {shlex.quote(PYTHON)} -m tomohet.cli" if ON_MACHINES.launcher else "tomohet"
)
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(WORKFLOW)}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; "
    f'tomohet() {{{{ {shlex.quote(PYTHON)} -m tomohet.cli "$@"; }}}}; '
    f". {shlex.quote(str(Path(WORKFLOW, 'rules', 'jobs.sh')))}; "
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


@cache
def estimates_for(threads):
    """The estimates of all stages by round and name, worked out once in a run of Snakemake."""
    return estimated(CONFIG, Path("results"), Path("benchmarks"), threads)


def needs(stage):
    """Memory and time that a stage asks for, from the sizes of the data, and the number of its attempt."""

    def asked(wildcards, attempt, threads):
        estimate = estimates_for(threads).get((wildcards.get("round", ""), stage))
        jobs = jobs_of(CONFIG, stage, wildcards.get("round"))
        return request(stage, estimate, CONFIG["most_mem_mb"], CONFIG["most_runtime"], attempt, jobs)

    return {
        "mem_mb": lambda wildcards, attempt, threads: asked(wildcards, attempt, threads).mem_mb,
        "runtime": lambda wildcards, attempt, threads: asked(wildcards, attempt, threads).runtime,
        "attempt": lambda wildcards, attempt: attempt,
    }


def shares(stage, suffix=""):
    """A function of the wildcards giving the outputs of the jobs that divide a stage; none for a single job."""

    def paths(wildcards):
        jobs = jobs_of(CONFIG, stage, wildcards.round)
        if jobs == 1 or wildcards.get("share"):  # a share needs no others
            return []
        numbers = range(1, jobs + 1)
        return [f"<results>/{{round}}/{stage}.shares/{number}-of-{jobs}{suffix}" for number in numbers]

    return paths


def decoded_by_several(wildcards):
    """Whether several jobs decode the volumes of a round."""
    return jobs_of(CONFIG, "volumes", wildcards.round) > 1


def part(wildcards):
    """The share of one of several jobs as an option."""
    return f"--part {wildcards.share.replace('-of-', '/')}"


def gathered(wildcards, input):
    """The folders that hold the shares of several jobs, as an option."""
    return shlex.join(["--parts", *input.shares] if input.shares else [])


def parent_table(wildcards):
    """The table that a round selects from: its parent's, or the whole dataset's."""
    parent = ROUNDS[wildcards.round].get("parent")
    return f"<results>/{parent}/particles.parquet" if parent else "<results>/prepared/particles.parquet"


def axes_of_parent(wildcards):
    """The parent's table, whose axes a round's table shows too; none for a round without a parent."""
    return parent_table(wildcards) if ROUNDS[wildcards.round].get("parent") else []


def selection(wildcards):
    """What chooses the particles of a round, as options of `select`."""
    given = ROUNDS[wildcards.round]
    parent = [] if given.get("parent") is None else ["--parent", given["parent"]]
    return f"{shlex.join(parent)} {selection_line(given)}"


def counted_particles(wildcards, input):
    """The file whose particles the indices count, as an option, where another is exported."""
    return shlex.join(["--particles", str(input.counted)] if input.counted else [])


def exported_poses(wildcards, input):
    """The refined poses that a round's exported files carry, as an option."""
    return shlex.join(["--with-refined-poses", input.poses] if input.poses else [])


def teacher(wildcards):
    """The linear model from which a round's network starts: its own, or that of the round it begins with."""
    parent, _ = stage_start(CONFIG, "train", wildcards.round)
    return f"<results>/{parent}/linear/weights.pkl" if parent else []


def warm_network(wildcards):
    """The weights of the parent's network, with which a round's network begins."""
    _, parent = stage_start(CONFIG, "train", wildcards.round)
    return f"<results>/{parent}/train_vae/weights.pkl" if parent else []


def warm_linear(wildcards):
    """The files of the parent's linear model, at whose latents a round's begins; the first lies in its folder."""
    if stage_options(CONFIG, "linear", wildcards.round)["init"] != "parent":
        return []
    files = ("weights.pkl", "held_out.npz", "config.pkl", "summary.json")
    return of_parent(*(f"<results>/{{round}}/{LINEAR.folder}/{name}" for name in files))(wildcards)


def latent_model(wildcards):
    """The files of the model whose latents and volumes a round's analysis uses; the first lies in its folder."""
    if CONFIG["latents"] == "linear":
        return ["<results>/{round}/linear/weights.pkl"]
    return ["<results>/{round}/train_vae/weights.pkl", "<results>/{round}/convergence"]


def of_parent(*paths):
    """A function of the wildcards giving paths of a round, which name {round}, for its parent instead."""
    return lambda wildcards: [
        path.replace("{round}", str(ROUNDS[wildcards.round].get("parent"))) for path in paths
    ]


def query(wildcards):
    """What chose a round's particles as an option, where queries alone did."""
    asked = query_of_all(ROUNDS[wildcards.round])
    return shlex.join([] if asked is None else ["--query", asked])


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
