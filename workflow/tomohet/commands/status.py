"""Print the stages of each round that are done, running, failed or pending, and how long is left."""

import shlex
from itertools import groupby

from tomohet.options import StatusOptions
from tomohet.rounds.config import read_config
from tomohet.rounds.jobs import Job, held, unfinished
from tomohet.rounds.progress import is_locked, progress, slurm_run
from tomohet.rounds.requests import estimated
from tomohet.rounds.tree import parents_first
from tomohet.rounds.units import duration
from tomohet.running.work import command

LONG_LINE = 160


@command
def run(options: StatusOptions) -> None:
    """Print a line for each stage, the jobs at work, those that failed and why, and the time left."""
    config = read_config(options.configfile)
    folder = options.results / config["dataset"]
    place = options.results.absolute().parent
    runs = is_locked(place)
    stages = progress(config, folder)
    n_done = sum(stage.state == "done" for stage in stages)
    print(f"{folder}: {n_done} of {len(stages)} stages done")
    if runs:
        unlock = f"snakemake --unlock --configfile {shlex.quote(str(options.configfile))}"
        name = slurm_run(place)
        print(
            "Snakemake is running here, or was killed; if it was, "
            + (f"end its jobs first: scancel --name {name}; then " if name else "")
            + f"release the folder{'' if name else ' first'}: {unlock}"
        )
    for name, group in groupby(stages, key=lambda stage: stage.round):
        print(f"\n{name or 'dataset'}")
        for stage in group:
            print(f"  {stage.name:<16} {stage.state}{f'; {stage.detail}' if stage.detail else ''}")
    rounds = parents_first(config["rounds"])
    begun = unfinished(config["dataset"], rounds, options.logs, options.benchmarks, runs)
    for state in ("running", "waiting", "stopped", "failed"):
        jobs = [job for job in begun if job.state == state]
        if jobs:
            print(f"\n{state}")
            print("\n".join(map(_line, jobs)))
    if n_done < len(stages):
        _print_time_left(config, options)


def _line(job: Job) -> str:
    since = f", {duration(job.idle_s)} ago" if job.state == "running" else ""
    name = "/".join(filter(None, (job.round, job.rule)))
    hint = held(job.line) if job.state == "waiting" else ""
    return f"  {name}: {job.line[:LONG_LINE]}{f'; {hint}' if hint else ''} ({job.log}{since})"


def _print_time_left(config: dict, options: StatusOptions) -> None:
    """Print the estimates of the jobs that have not ended well yet, added up as if one ran after another."""
    left = [
        one
        for (name, stage), one in estimated(config, options.results, options.benchmarks, 1).items()
        if not (options.benchmarks / config["dataset"] / name / f"{stage}.tsv").is_file()
    ]
    if left:
        shortest, longest = (sum(one.seconds * one.factor**sign for one in left) for sign in (-1, 1))
        print(
            f"\n{len(left)} jobs to come, one after another: {duration(sum(one.seconds for one in left))} "
            f"({duration(shortest)} to {duration(longest)}; tomohet estimate tells it for this machine)"
        )
