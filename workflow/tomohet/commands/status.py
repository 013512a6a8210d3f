"""Print the stages of each round that are done, running or pending."""

import shlex
from itertools import groupby

from tomohet.options import StatusOptions
from tomohet.rounds.config import read_config
from tomohet.rounds.progress import is_locked, progress
from tomohet.running.work import command


@command
def run(options: StatusOptions) -> None:
    """Print one line for the dataset and one for each round."""
    config = read_config(options.configfile)
    stages = progress(config, options.results / config["dataset"])
    n_done = sum(stage.state == "done" for stage in stages)
    print(f"{options.results / config['dataset']}: {n_done} of {len(stages)} stages done")
    if is_locked(options.results.absolute().parent):
        print(
            "Snakemake is running here, or was killed; if it was, release the folder first: "
            f"snakemake --unlock --configfile {shlex.quote(str(options.configfile))}"
        )
    for name, group in groupby(stages, key=lambda stage: stage.round):
        print(f"\n{name or 'dataset'}")
        for stage in group:
            print(f"  {stage.name:<16} {stage.state}")
