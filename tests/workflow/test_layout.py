"""The rules declare, and name as inputs, the folders and files of `rounds.layout` only."""

import re
from pathlib import Path

import pytest

from tomohet.rounds import layout

RULES = Path(__file__).resolve().parents[2] / "workflow" / "rules"
STAGES_OF_ROUNDS = (*layout.ROUND_STAGES, *layout.AFTER_TABLE, *layout.ON_REQUEST)
OF_DATASET = (layout.REPORT, layout.CONFIG, layout.LINEAGE, *layout.LINEAGE_FIGURES, layout.METHODS)
# Written beside a training's checkpoints, which Snakemake must not delete (`train.smk`).
UNDECLARED = {"{round}/train_vae/summary.json"}


def named(text: str) -> set[str]:
    """Paths of the results tree in a text of rules; a function's f-strings say {{round}} or {parent}."""
    paths = re.findall(r'"<results>/([^"]*)"', text)
    paths = {path.replace("{{", "{").replace("}}", "}").replace("{parent}", "{round}") for path in paths}
    return {path for path in paths if ".shares/" not in path}  # gone when several jobs' work is gathered


def outputs() -> tuple[set[str], set[str]]:
    """Files, and folders, that the rules declare as their outputs."""
    sections = [
        section
        for file in RULES.glob("*.smk")
        for section in re.findall(r"\n    output:\n(.*?)\n    \w+:", file.read_text(), re.DOTALL)
    ]
    folders = {
        path for section in sections for path in named("".join(re.findall(r"directory\((.*?)\)", section)))
    }
    return set().union(*map(named, sections)) - folders, folders


def declared(prefix: str, stages: tuple[layout.Stage, ...]) -> set[str]:
    """What the layout says the rules of stages declare: their files, or else their folder."""
    return {str(stage.path(Path(prefix), file)) for stage in stages for file in stage.files or ("",)}


def test_the_rules_declare_what_the_layout_names():
    files, folders = outputs()
    assert len(folders) > 5 and len(files) > 20
    of_rounds = declared("{round}", STAGES_OF_ROUNDS)
    assert files | folders == of_rounds | declared("", layout.DATASET_STAGES) | {*OF_DATASET}


@pytest.mark.parametrize("rules", sorted(RULES.glob("*.smk")), ids=lambda path: path.name)
def test_the_rules_name_nothing_else(rules):
    files, folders = outputs()
    by_layout = {"{round}/{stage.folder}", "{round}/{LINEAR.folder}/{name}"}
    assert named(rules.read_text()) <= files | folders | by_layout


def test_what_others_read_of_a_stage_is_declared_or_in_a_declared_folder():
    files, folders = outputs()
    for prefix, stages in (("", layout.DATASET_STAGES), ("{round}", STAGES_OF_ROUNDS)):
        for stage in stages:
            for file in filter(None, (stage.last, stage.summary, stage.by_particle, stage.by_volume)):
                path = stage.path(Path(prefix), file)
                assert {str(path), str(path.parent)} & (files | folders) or str(path) in UNDECLARED, path
