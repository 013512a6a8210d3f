"""What stages have taken: in the user's own finished runs, and in the table of devices (`rates.yaml`)."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tomohet.errors import InputError
from tomohet.files.tables import read_csv
from tomohet.files.text import read_yaml
from tomohet.rounds import layout
from tomohet.rounds.schema import with_defaults
from tomohet.rounds.sizes import Sizes, dataset_sizes, round_sizes, sizes_read
from tomohet.rounds.tree import stage_options
from tomohet.rounds.work import DATASET, LAST, ROUND, jobs_of, work

TABLE = Path(__file__).with_name("rates.yaml")
SECTIONS = ("prepare", "train", "volumes", "convergence")
START_S = 5.0  # loading the libraries, reading tables

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """Seconds that a stage took for some work.

    device : name of the GPU or processor; "" where it is not known
    kind : cuda or cpu
    threads : of the processor
    where : in words, such as "the demo"
    dataset : of the user's own run; "" in the table
    """

    stage: str
    seconds: float
    work: float
    device: str
    kind: str
    threads: int
    where: str
    dataset: str = ""

    def seconds_for(self, work: float, faster: float = 1.0) -> float:
        """Return the seconds for other work, `faster` times as fast; what a start takes stays the same."""
        grows = max(self.seconds - START_S, 0.1 * self.seconds)
        return self.seconds - grows + grows * work / self.work / faster


def sections(config: dict, round_name: str | None = None) -> dict[str, dict]:
    """Return the options of the stages whose work depends on options, of the dataset or of a round."""
    return {name: stage_options(config, name, round_name) for name in SECTIONS}


def table_of_devices() -> list[Measurement]:
    """Read the measurements that come with the program."""
    found = []
    for run in read_yaml(TABLE):
        options = sections(with_defaults({"dataset": "x", "rounds": {"all": {}}, **run.get("options", {})}))
        sizes = Sizes(**run["sizes"])
        found += [
            Measurement(
                stage, seconds, work(stage, sizes, options),
                run["device"], run["kind"], run["threads"], run["data"],
            )
            for stage, seconds in run["seconds"].items()
        ]  # fmt: skip
    return found


def own_runs(results: Path, benchmarks: Path, device: str, threads: int) -> list[Measurement]:
    """Read what finished stages took in the runs of the user, of this and of other datasets.

    benchmarks : the folder in which the workflow notes seconds and memory of every job
    device, threads : of this machine, on which the runs are supposed to have been

    A dataset whose files cannot be read is left out, with a line in the log.
    """
    found = []
    for notes in sorted(benchmarks.glob("*/")):
        folder = results / notes.name
        if not (folder / layout.CONFIG).is_file():
            continue
        try:
            config = with_defaults(read_yaml(folder / layout.CONFIG))
            dataset = dataset_sizes(config, folder, read_all=False)
            rounds = round_sizes(config, folder, dataset)
            for name, sizes, stages in [
                (None, dataset, (*DATASET, *LAST)),
                *((name, sizes, ROUND) for name, sizes in rounds.items()),
            ]:
                options = sections(config, name)
                base = folder / (name or "")
                kind = _kind(base)
                for stage in stages:
                    seconds = _seconds(notes / (name or "") / f"{stage}.tsv", stage, base)
                    if seconds is not None and jobs_of(config, stage, name) == 1:
                        of_stage = sizes_read(stage, name, config, rounds) if name else sizes
                        amount = work(stage, of_stage, options)
                        where = "/".join(filter(None, (notes.name, name)))
                        found.append(
                            Measurement(stage, seconds, amount, device, kind, threads, where, notes.name)
                        )
        except (InputError, KeyError, TypeError, ValueError) as error:
            log.warning("%s: left out of the estimate (%s)", folder, error)
    return found


def _seconds(notes: Path, stage: str, base: Path) -> float | None:
    """Return the seconds of a finished job; a training that was interrupted counts all of its epochs."""
    if not notes.is_file():
        return None
    seconds = float(pd.read_csv(notes, sep="\t")["s"].mean())
    losses = layout.TRAIN_VAE.path(base, layout.LOSSES)
    if stage == "train_vae" and losses.is_file():
        seconds = max(seconds, START_S + float(read_csv(losses, {"seconds": "numbers"})["seconds"].sum()))
    return seconds


def _kind(base: Path) -> str:
    """Return the kind of device on which a round's models were fitted, from their logs."""
    for stage in (layout.TRAIN_VAE, layout.LINEAR):
        record = stage.path(base, "run.log")
        if record.is_file() and (match := re.search(r"processes on (\w+)", record.read_text())):
            return match[1]
    return "cpu"
