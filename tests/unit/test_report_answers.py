"""The first screen of the report says what the stages have said."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import yaml

from fake_results import make_results, write_json
from tomohet.answers import Answer, Step, stated
from tomohet.report.answers import SUPPORT, answers, support, verdict
from tomohet.report.collect import collect

INPUT = Answer("Input", "look", "Odd.", (Step("Read validation/validation.html."),))
PARTICLES = Answer("Particles", "fact", "Heterogeneity found.")
HELD_OUT = Answer("Held-out tilts", "good", "The latents predict held-out tilt images.")
UNITS = [
    Answer(
        unit,
        "fact",
        f"Present {unit}.",
        (Step("A round.", name=f"with_{unit}", select=f"maven_{unit} > 0.50"),),
    )
    for unit in ("S1", "S2", "S3")
]
CONVERGENCE = Answer(
    "Convergence", "look", "Still changing.", (Step("Train longer.", "train: {epochs: 12}"),)
)
SUMMARIES = {
    "linear": {"heterogeneity_found": True} | stated([PARTICLES, HELD_OUT]),
    "maven": stated(UNITS),
    "convergence": stated([CONVERGENCE]),
}


def results(validation=INPUT, queries=(), **changes):
    summaries = defaultdict(dict, SUMMARIES | changes)
    rounds = [SimpleNamespace(name="all", query=None, summaries=summaries)]
    rounds += [SimpleNamespace(name=f"r{i}", query=query, summaries={}) for i, query in enumerate(queries)]
    return SimpleNamespace(validation=stated([validation]), rounds=rounds)


def test_facts_are_found_levels_are_trust_and_steps_are_next():
    said = answers(results())
    assert [line.subject for line in said["found"]] == ["Particles", "S1", "S2", "S3"]
    assert {line.subject: line.level for line in said["trust"]} == {
        "Input": "look",
        "Held-out tilts": "good",
        "Convergence": "look",
    }
    assert [line.text for line in said["next"]] == [
        "",
        "train: {epochs: 12}",
        'with_S1: {parent: "all", select: "maven_S1 > 0.50"}',
        'with_S2: {parent: "all", select: "maven_S2 > 0.50"}',
        'with_S3: {parent: "all", select: "maven_S3 > 0.50"}',
    ]


def test_a_round_is_proposed_with_the_one_to_compare_it_with():
    step = Step("Both.", "", "with_A", "maven_A > 0.5", "without_A", "maven_A <= 0.5")
    said = answers(results(maven=stated([Answer("A", "fact", "Present.", (step,))])))
    text = next(line.text for line in said["next"] if line.text.startswith("with"))
    assert yaml.safe_load(text) == {
        "with_A": {"parent": "all", "select": "maven_A > 0.5"},
        "without_A": {"parent": "all", "select": "maven_A <= 0.5"},
    }


def test_how_sure_a_finding_is_stands_beside_it_in_the_tint_of_its_test():
    sure = Answer("Heterogeneity", "fact", "Particles differ.", sure="p = 5e-17")
    for level in ("good", "look"):
        held_out = Answer("Held-out tilts", level, "Said.")
        said = answers(results(linear=SUMMARIES["linear"] | stated([sure, held_out])))
        first, second, *_ = said["found"]
        assert (first.sure, first.sure_level) == ("p = 5e-17", level)
        assert (second.sure, second.sure_level) == ("", "fact")


def test_a_new_stage_is_heard_without_being_named():
    states = stated([Answer("Number of states", "fact", "3 states (2 to 4).", sure="2 to 4")])
    control = stated([Answer(SUPPORT, "look", "Weak: not reproduced.", (Step("Add particles."),))])
    said = answers(results(**{"how many": states, "control of subset": control}))
    assert "Number of states" in [line.subject for line in said["found"]]
    assert said["trust"][0].level == "look" and SUPPORT in [line.subject for line in said["trust"]]
    assert "Add particles." in [line.sentence for line in said["next"]]
    rounds = results(**{"control of subset": control}).rounds
    assert support(rounds[0]).sentence.startswith("Weak") and support(results().rounds[0]) is None


def test_a_round_that_is_there_is_not_proposed_again():
    said = answers(results(queries=["maven_S1 > 0.5 and kmeans == 2"]))
    assert [line.text[:7] for line in said["next"][2:]] == ["with_S2", "with_S3"]


def test_where_no_particles_differ_units_are_noise():
    said = answers(results(linear=SUMMARIES["linear"] | {"heterogeneity_found": False}))
    assert [line.subject for line in said["found"]] == ["Particles"]
    assert not any("select" in line.text for line in said["next"])


def test_the_tree_has_a_verdict_for_each_round_that_was_fitted():
    rounds = results(queries=["a > 1"]).rounds
    assert verdict(rounds[0]).level == "good" and verdict(rounds[0]).sentence == PARTICLES.sentence
    rounds[1].summaries = defaultdict(dict)
    assert verdict(rounds[1]) is None


def test_stages_that_have_not_run_say_nothing():
    assert answers(SimpleNamespace(validation={}, rounds=[])) == {}
    empty = SimpleNamespace(name="all", query=None, summaries=defaultdict(dict))
    assert answers(SimpleNamespace(validation={}, rounds=[empty])) == {"found": [], "trust": [], "next": []}


def test_what_is_proposed_is_yaml_whatever_the_names():
    step = Step("A round.", name="with_A__1_", select='`maven_A "1"` > 0.5')
    said = answers(results(maven=stated([Answer('A "1"', "fact", "Present.", (step,))])))
    text = next(line.text for line in said["next"] if line.text.startswith("with"))
    assert yaml.safe_load(text) == {"with_A__1_": {"parent": "all", "select": '`maven_A "1"` > 0.5'}}


@pytest.mark.parametrize(
    "odd", ["text", 3, [1, "a", None], {"a": [2]}, None, [{"sentence": 3}, {"level": "odd"}]]
)
def test_summaries_of_another_shape_end_in_no_traceback(odd):
    summary = dict.fromkeys(("answers", "next", "level", "sentence", "heterogeneity_found"), odd)
    found = results(linear=summary, maven=summary, siren=summary, states=summary, convergence=summary)
    found.validation = summary
    answers(found)
    verdict(found.rounds[0])


def test_a_verdict_on_a_subset_is_read_whether_or_not_a_stage_names_its_file(tmp_path):
    found = make_results(tmp_path / "fake", n=60, rounds=("all", "bound"))
    said = stated([Answer(SUPPORT, "good", "Supported: reproduced in independent half maps (p = 0.002).")])
    write_json(found / "bound" / "subset" / "support.json", said)
    tree = {round_.name: support(round_) for round_ in collect(found).rounds}
    assert tree["all"] is None
    assert tree["bound"].level == "good" and tree["bound"].sentence.startswith("Supported")
