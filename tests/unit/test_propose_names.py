"""Names of proposed rounds: free, and the same again after the proposal was added to the configuration."""

import logging
from types import SimpleNamespace

import pytest
import yaml

from tomohet.errors import InputError
from tomohet.files.atomic import write_json
from tomohet.rounds.config import complete_config
from tomohet.rounds.propose import Node
from tomohet.rounds.propose_names import taken_names, with_free_names
from tomohet.rounds.propose_text import configuration_text


def node(name: str, *conditions: str, parts: tuple[Node, ...] = ()) -> Node:
    split = SimpleNamespace(sentence="why") if parts else None
    return Node(name, conditions, 60, (), split, "" if parts else "why not", parts)


HAS, HAS_NOT = "maven_S1 > 0.50", "maven_S1 <= 0.50"
WITH_BOTH = node("all_S1_S2", HAS, "maven_S2 > 0.50")
TREE = node(
    "all",
    parts=(
        node("all_S1", HAS, parts=(WITH_BOTH, node("all_S1_no-S2", HAS, "maven_S2 <= 0.50"))),
        node("all_no-S1", HAS_NOT),
    ),
)
AS_PROPOSED = ["all", "all_S1", "all_S1_S2", "all_S1_no-S2", "all_no-S1"]
BRANCH_RENAMED = ["all", "all_S1-2", "all_S1-2_S2", "all_S1-2_no-S2", "all_no-S1"]


def names(tree: Node) -> list[str]:
    return [one.name for one in tree.all()]


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "all").mkdir()
    return tmp_path


def configured(dataset, **rounds) -> dict:
    rounds = {"all": {}} | rounds
    (dataset / "config.yaml").write_text(yaml.safe_dump({"dataset": "d", "rounds": rounds}))
    return rounds


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"parent": "all", "select": HAS}, AS_PROPOSED),
        ({"parent": "all", "select": HAS, "train": {"epochs": 3}}, AS_PROPOSED),
        ({"parent": "all", "select": "maven_S1 > 0.60"}, BRANCH_RENAMED),
        ({"parent": "other", "select": HAS}, BRANCH_RENAMED),
        ({"parent": "all", "select": HAS, "sample": 20}, BRANCH_RENAMED),
        ({"parent": "all", "indices": "mine.pkl"}, BRANCH_RENAMED),
        (None, BRANCH_RENAMED),
    ],
)
def test_the_name_of_another_round_in_the_configuration_is_not_taken(dataset, given, expected, caplog):
    caplog.set_level(logging.INFO)
    configured(dataset, all_S1=given)
    assert names(with_free_names(TREE, taken_names(dataset))) == expected
    assert ("all_S1-2 is proposed instead" in caplog.text) == (expected is BRANCH_RENAMED)


def test_all_that_has_a_number_is_passed_over(dataset):
    other = {"parent": "all", "select": "gmm == 0"}
    configured(dataset, all_S1=other, **{"all_S1-2": other, "all_S1-3_S2": other})
    (dataset / "all_no-S1").write_text("a file of the user")
    found = names(with_free_names(TREE, taken_names(dataset)))
    assert found == ["all", "all_S1-3", "all_S1-3_S2-2", "all_S1-3_no-S2", "all_no-S1-2"]


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ({"parent": "all", "query": HAS, "steps": [{"text": f"query {HAS}"}]}, AS_PROPOSED),
        ({"parent": "all", "query": "gmm == 0", "steps": [{"text": "query gmm == 0"}]}, BRANCH_RENAMED),
        ({"parent": "all", "query": HAS, "steps": [{"text": HAS}, {"text": "sample 9"}]}, BRANCH_RENAMED),
        ({"parent": "all", "query": None, "steps": [{"text": "indices a.pkl"}]}, BRANCH_RENAMED),
        ({}, BRANCH_RENAMED),
    ],
)
def test_the_folder_of_a_round_that_the_configuration_lacks_is_not_overwritten(dataset, summary, expected):
    (dataset / "all_S1" / "subset").mkdir(parents=True)
    write_json(dataset / "all_S1" / "subset" / "summary.json", summary)
    configured(dataset)
    assert names(with_free_names(TREE, taken_names(dataset))) == expected


def test_a_proposal_that_was_added_is_proposed_again_in_the_same_words(dataset):
    configured(dataset, all_S1={"parent": "all", "select": "gmm == 0"})
    first = configuration_text(with_free_names(TREE, taken_names(dataset)), "round all")
    rounds = configured(
        dataset, all_S1={"parent": "all", "select": "gmm == 0"}, **yaml.safe_load(first)["rounds"]
    )
    assert set(complete_config({"dataset": "d", "rounds": rounds})["rounds"]) == {"all_S1", *BRANCH_RENAMED}
    again = configuration_text(with_free_names(TREE, taken_names(dataset)), "round all")
    assert again == first and "# all_S1-2, 60 particles, is divided. why." in first


def test_a_damaged_configuration_is_one_error(dataset):
    (dataset / "config.yaml").write_text("rounds: [")
    with pytest.raises(InputError, match="config.yaml"):
        taken_names(dataset)
