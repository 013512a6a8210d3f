"""The first screen of the report says what the stages have said."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tomohet.analysis import verdict as judging
from tomohet.report.answers import answers
from tomohet.report.round_section import held_out_directions

UNITS = {"S1": {"present": 0.55}, "S2": {"present": 0.26}, "core": {"present": 1.0}, "odd": "text"}
QUERIES = {"S1": "maven_S1 > 0.50", "S2": "maven_S2 > 0.50"}
SUMMARIES = {
    "linear": {
        "verdict": "heterogeneity found: 2 components",
        "heterogeneity_found": True,
        "held_out_p_value": 2e-9,
        "poses": "poses are off by 1.9 degrees",
        "leaks": [
            {"meaning": "mean dose", "verdict": "clean"},
            {"meaning": "defocus: in Å", "verdict": "look"},
        ],
    },
    "maven": {
        "units": UNITS,
        "queries": QUERIES,
        "dependencies": [{"unit": "S2", "requires": "S1"}],
    },
    "convergence": {"verdict": "still changing", "epoch": 5},
}


def results(validation="pass", queries=(), **changes):
    summaries = defaultdict(dict, SUMMARIES | changes)
    rounds = [SimpleNamespace(name="all", query=None, summaries=summaries)]
    rounds += [SimpleNamespace(name=f"r{i}", query=query, summaries={}) for i, query in enumerate(queries)]
    return SimpleNamespace(validation={"verdict": validation}, rounds=rounds)


def test_what_was_found_whether_to_trust_it_and_what_is_next():
    said = answers(results())
    assert [(a.subject, a.sentence) for a in said["found"]] == [
        ("Particles", "Heterogeneity found: 2 components."),
        ("S1", "Present in 55% of the particles."),
        ("S2", "Present in 26% of the particles; never there without S1."),
    ]
    levels = {a.subject: a.level for a in said["trust"]}
    assert levels == {
        "Input": "good",
        "Held-out tilts": "good",
        "Poses": "good",
        "Leak audit": "look",
        "Convergence": "look",
    }
    assert "Latents may follow: defocus." in [a.sentence for a in said["trust"]]
    assert [a.text for a in said["next"]] == [
        'with_S1: {parent: "all", select: "maven_S1 > 0.50"}',
        'with_S2: {parent: "all", select: "maven_S2 > 0.50"}',
        "train: {epochs: 12}",
    ]


def test_a_round_that_is_there_is_not_proposed_again():
    said = answers(results(queries=["maven_S1 > 0.5 and kmeans == 2"]))
    assert said["next"][0].text.startswith("with_S2")


@pytest.mark.parametrize(("verdict", "level"), [("look", "look"), ("stop", "bad")])
def test_what_the_input_check_raised_is_told_and_to_be_read(verdict, level):
    said = answers(results(verdict))
    assert said["trust"][0].level == level and "validation.html" in said["next"][0].sentence


def test_nothing_found_is_an_answer():
    none = {"verdict": "no heterogeneity found", "heterogeneity_found": False, "held_out_p_value": 0.4}
    said = answers(results(linear=none, convergence={}))
    assert [a.sentence for a in said["found"]] == ["No heterogeneity found."]  # units vary by noise
    assert "A round" not in [a.subject for a in said["next"]]
    assert said["trust"][1].level == "look" and "do not predict" in said["trust"][1].sentence
    assert "Add particles" in said["next"][0].sentence


def test_stages_that_have_not_run_say_nothing():
    assert answers(SimpleNamespace(validation={}, rounds=[])) == {}
    empty = SimpleNamespace(name="all", query=None, summaries=defaultdict(dict))
    assert answers(SimpleNamespace(validation={}, rounds=[empty])) == {"found": [], "trust": [], "next": []}


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        ("converged", "good"),
        ("still changing", "look"),
        ("too few epochs to judge", "look"),
        ("collapsed", "bad"),
    ],
)
def test_every_verdict_on_convergence_has_its_level(verdict, level):
    assert f'"{verdict}"' in Path(judging.__file__).read_text()
    (said,) = [
        a for a in answers(results(convergence={"verdict": verdict}))["trust"] if a.subject == "Convergence"
    ]
    assert said.level == level


def test_what_is_proposed_is_yaml_whatever_the_names():
    odd = {"units": {'A "1"': {"present": 0.5}}, "queries": {'A "1"': '`maven_A "1"` > 0.5'}}
    text = next(a.text for a in answers(results(maven=odd))["next"] if a.text)
    assert yaml.safe_load(text) == {"with_A__1_": {"parent": "all", "select": '`maven_A "1"` > 0.5'}}


@pytest.mark.parametrize("odd", ["text", 3, [1, "a", None], {"a": [2]}, None])
def test_summaries_of_another_shape_end_in_no_traceback(odd):
    keys = (
        "verdict",
        "held_out_p_value",
        "poses",
        "pose_errors",
        "leaks",
        "units",
        "queries",
        "dependencies",
    )
    summary = dict.fromkeys((*keys, "n_blocks", "epoch"), odd)
    answers(results(linear=summary, maven=summary, siren=summary, states=summary, convergence=summary))
    found = results()
    found.validation = {"verdict": "look", "checks": odd}
    answers(found)


def test_particles_without_held_out_tilts_confirm_nothing():
    linear = {"verdict": "heterogeneity cannot be judged: why", "heterogeneity_found": False}
    said = answers(results(linear=linear | {"held_out_p_value": None}))
    assert [a.sentence for a in said["found"]] == ["Heterogeneity cannot be judged: why."]
    (held_out,) = [a for a in said["trust"] if a.subject == "Held-out tilts"]
    assert held_out.level == "look" and "none could be held out" in held_out.sentence
    assert "A round" not in [a.subject for a in said["next"]]


def test_directions_that_are_confirmed_have_a_colour_of_their_own():
    chart = held_out_directions({"held_out_moments": [9.0, 4.0, -1.0], "components_confirmed": 2})
    (series,) = chart["series"]
    assert series["y"] == [9.0, 4.0, -1.0]
    assert series["colours"][0] == series["colours"][1] != series["colours"][2]
    assert held_out_directions({"held_out_moments": [1.0], "components_confirmed": None}) is None
    assert held_out_directions({}) is None
