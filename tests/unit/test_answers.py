"""What the stages answer: levels, sentences, and steps that the program itself accepts."""

import pytest
import yaml

from tomohet.analysis.latent_analysis import latent_answers
from tomohet.analysis.maven.answers import unit_answers
from tomohet.analysis.siren.answers import block_answers
from tomohet.analysis.verdict import ANSWERS, convergence_answer
from tomohet.analysis.volume_analysis import components_answer
from tomohet.answers import Answer, Step, sentence, stated
from tomohet.commands.select import selection_answer
from tomohet.linear.answers import linear_answers, state_answers
from tomohet.particles.conditions import audit_answer
from tomohet.preflight.check import Check
from tomohet.preflight.page import input_answer
from tomohet.reconstruction.outputs import half_map_answer

LINEAR = {
    "verdict": "heterogeneity found: 2 components",
    "heterogeneity_found": True,
    "held_out_p_value": 2e-9,
    "poses": "poses are off by 1.9 degrees",
    "pose_errors": {"one_direction": False},
    "tilts": "tilt images are shifted by 3 Å",
    "tilt_shift_A": 0.0,
    "held_out_reliability": [0.9, 0.5],
    "components_clear_in_particles": 1,
    "surroundings_found": False,
    "leaks": [{"meaning": "mean dose", "verdict": "clean"}, {"meaning": "view", "verdict": "constant"}],
}
MAVEN = {
    "units": {
        "core": {"present": 1.0},
        "S2": {"present": 0.26},
        "S1": {"present": 0.55},
        "odd": {"present": None},
    },
    "dependencies": [{"unit": "S2", "requires": "S1"}],
    "queries": {"S1": "maven_S1 > 0.50", "S2": "maven_S2 > 0.50"},
    "alignment": None,
    "resolution_A": 30.0,
    "model_map_correlation": 0.96,
}
SIREN = {"n_blocks": 6, "randomised": {"n_blocks": 0}, "outlying_volumes": []}


def levels(answers):
    return {answer.subject: answer.level for answer in answers}


def test_a_summary_has_the_worst_level_and_the_steps_of_all_answers():
    steps = Step("Do this."), Step("Then this.", "a: 1", select="x > 1")
    said = stated(
        [Answer("A", "fact", "First."), Answer("B", "look", "B.", steps), Answer("C", "good", "C.")]
    )
    assert said["level"] == "look" and said["sentence"] == "First."
    assert said["next"] == [
        {"sentence": "Do this."},
        {"sentence": "Then this.", "text": "a: 1", "select": "x > 1"},
    ]
    assert [answer["subject"] for answer in said["answers"]] == ["A", "B", "C"]
    assert [
        answer.get("sure")
        for answer in stated([Answer("A", "fact", "A.", sure="p"), Answer("B", "fact", "")])["answers"]
    ] == ["p", None]
    assert stated([]) == {}


@pytest.mark.parametrize(("text", "said"), [("a b", "A b."), ("Done.", "Done."), ("", ".")])
def test_sentences_have_a_capital_and_a_full_stop(text, said):
    assert sentence(text) == said


def test_of_a_linear_model():
    found = linear_answers(LINEAR)
    good = {"Heterogeneity": "fact", "Held-out tilts": "good", "Poses": "good", "Leak audit": "good"}
    assert levels(found) == good and not any(answer.next for answer in found)
    moved = LINEAR | {"pose_errors": {"one_direction": True}, "tilt_shift_A": 3.0, "surroundings_found": True}
    assert levels(linear_answers(moved)) == good | {
        "Poses": "look",
        "Tilt images": "look",
        "Surroundings": "look",
    }
    assert found[0].sure == "p = 2e-09"
    assert "focus_mask" in linear_answers(moved)[2].next[0].sentence
    nothing = linear_answers(LINEAR | {"heterogeneity_found": False, "held_out_p_value": 0.4})
    assert levels(nothing)["Held-out tilts"] == "look" and "do not predict" in nothing[1].sentence
    assert "Add particles" in nothing[0].next[0].sentence
    none = linear_answers(LINEAR | {"heterogeneity_found": False, "held_out_p_value": None})
    assert levels(none)["Held-out tilts"] == "look" and "none could be held out" in none[1].sentence


@pytest.mark.parametrize(
    ("verdict", "level"), [("look", "look"), ("leak", "bad"), ("clean", "good"), ("constant", "good")]
)
def test_of_a_leak_audit(verdict, level):
    answer = audit_answer([{"meaning": "defocus: in Å", "verdict": verdict}])
    assert answer.level == level and ("defocus." in answer.sentence) == (level != "good")


def test_a_movement_of_the_whole_is_said_as_such():
    moved = {"nuisance": "movement", "meaning": "movement of the whole", "verdict": "look", "pc": 2.0}
    answer = audit_answer([moved, {"nuisance": "view", "meaning": "view", "verdict": "clean"}])
    assert answer.level == "look" and answer.sentence.startswith("Component 2 resembles a movement")
    both = audit_answer([moved, {"nuisance": "view", "meaning": "view", "verdict": "leak"}])
    assert both.level == "bad" and both.sentence.startswith("Latents may follow: view. Component 2")


def test_of_states():
    assert state_answers({"verdict": "undecided", "n_states": 3})[0].sentence == "Undecided."
    assert "3 states" in state_answers({"n_states": 3})[0].sentence


def test_of_units_that_come_and_go_the_most_balanced_first():
    first, second, model = unit_answers(MAVEN)
    assert (first.subject, first.sentence) == ("S1", "Present in 55% of particles.")
    assert second.sentence == "Present in 26% of particles; never there without S1."
    assert (first.next[0].name, first.next[0].select) == ("with_S1", "maven_S1 > 0.50")
    assert model.level == "good"
    assert unit_answers(MAVEN | {"model_map_correlation": 0.1})[-1].level == "look"
    assert unit_answers(MAVEN | {"units": {}})[0].sentence.startswith("No unit")


def test_the_side_of_a_unit_is_proposed_that_tells_most():
    shares = {"rare": 0.08, "common": 0.89, "even": 0.45}
    units = {unit: {"present": share, "sd": 0.3, "confused": 0.001} for unit, share in shares.items()}
    queries = {unit: f"maven_{unit} > 0.44" for unit in shares}
    said = unit_answers(MAVEN | {"units": units, "queries": queries, "dependencies": [], "n_particles": 400})
    steps = {answer.subject: answer.next[0] for answer in said[:3]}
    assert (steps["rare"].select, steps["rare"].other_select) == ("maven_rare > 0.44", "")
    assert (steps["common"].name, steps["common"].select) == ("without_common", "maven_common <= 0.44")
    assert "the 11% without it" in steps["common"].sentence and "round's again" in steps["common"].sentence
    assert steps["even"].select == "maven_even > 0.44" and steps["even"].other_select == "maven_even <= 0.44"
    assert [answer.sure for answer in said[:3]] == [
        "± 2%, 0.1% confused",
        "± 2%, 0.1% confused",
        "± 1%, 0.1% confused",
    ]


def test_a_unit_that_is_always_there_and_varies_may_move():
    units = {
        "core": {"present": 1.0, "mean": 1.0, "sd": 0.005},
        "arm": {"present": 1.0, "mean": 0.91, "sd": 0.054},
    }
    said = unit_answers(MAVEN | {"units": units})
    assert [answer.subject for answer in said[1:3]] == ["Moving unit", "Always present"]
    assert "arm is always there, with varying occupancy (0.91 ± 0.05)" in said[1].sentence
    assert "focus_mask" in said[1].next[0].sentence
    assert said[2].next[0].sentence.startswith("core: in all particles.")
    quiet = unit_answers(MAVEN | {"units": units | {"arm": {"present": 1.0, "mean": 1.0, "sd": 0.012}}})
    assert [answer.subject for answer in quiet[1:2]] == ["Always present"]


def test_blocks_that_exclude_each_other_are_a_part_that_moves_by_so_many_angstroms():
    places = {1: (0.0, 0.0, 0.0), 2: (30.0, 40.0, 0.0), 3: (5.0, 0.0, 0.0)}
    blocks = [
        {
            "id": i,
            **dict(zip(("x_A", "y_A", "z_A"), place, strict=True)),
            "excludes": {1: "2,12", 2: "1"}.get(i, ""),
        }
        for i, place in places.items()
    ]
    said = block_answers(SIREN | {"blocks": blocks})
    moving = [answer for answer in said if answer.subject == "Moving part"]
    assert len(moving) == 1 and "Blocks 1 and 2 exclude each other, 50 Å apart" in moving[0].sentence
    step = moving[0].next[0]
    assert (step.select, step.other_select) == ("siren_1 > 0.5", "siren_2 > 0.5")


def test_of_blocks():
    assert levels(block_answers(SIREN)) == {"Blocks": "fact", "Randomised volumes": "good"}
    doubtful = SIREN | {"randomised": {"n_blocks": 2}, "outlying_volumes": [3]}
    assert levels(block_answers(doubtful)) == {
        "Blocks": "fact",
        "Randomised volumes": "look",
        "Volumes": "look",
    }
    assert levels(block_answers(SIREN | {"n_blocks": 0, "randomised": None})) == {"Blocks": "fact"}


@pytest.mark.parametrize("verdict", ANSWERS)
def test_of_convergence(verdict):
    answer = convergence_answer(verdict, 5)
    assert (answer.level == "good") == (verdict == "converged")
    for step in answer.next:
        assert yaml.safe_load(step.text) == {"train": {"epochs": 12}}
    assert not any(step.text for step in convergence_answer(verdict, -1).next)
    assert ("No tilt images" in answer.sentence) == (verdict in ("converged", "still changing"))
    judged = convergence_answer(verdict, 5, best=3, used=3)
    assert "No tilt images" not in judged.sentence
    assert ("epoch 3 is used" in judged.sentence) == (verdict not in ("nothing learnt", "collapsed"))
    epochs = {"overfitting": 4, "converged": None, "collapsed": None}.get(verdict, 12)
    assert [yaml.safe_load(step.text)["train"]["epochs"] for step in judged.next] == (
        [epochs] if epochs else []
    )


def test_of_latents_and_volumes():
    used = {"active_dimensions": 3, "zdim": 8, "leaks": [{"meaning": "view", "verdict": "look"}]}
    assert levels(latent_answers(used)) == {"Latents": "fact", "Leak audit": "look"}
    assert latent_answers({"active_dimensions": 0, "zdim": 8})[0].level == "bad"
    assert "2 of the components hold 95%" in components_answer({"explained_variance": [0.75, 0.2]}).sentence
    assert "first 2 components hold 60%" in components_answer({"explained_variance": [0.4, 0.2]}).sentence


@pytest.mark.parametrize(("n", "level"), [(400, "fact"), (218, "fact"), (0, "bad")])
def test_of_a_selection(n, level):
    answer = selection_answer({"n_particles": n, "n_parent": 400, "parent": "all"})
    assert answer.level == level and bool(answer.next) == (n == 0)


@pytest.mark.parametrize(
    ("resolution_A", "level"), [(24.1, "good"), (12.0, "good"), (100.0, "bad"), (float("nan"), "bad")]
)
def test_of_half_maps(resolution_A, level):
    numbers = {"resolution_A": resolution_A, "pixel_size_A": 5.0, "n_particles": 1000}
    assert half_map_answer(numbers).level == level


def test_of_the_input():
    passed, look, stop = (
        Check(name=v, verdict=v, message=f"says {v}", remedy="") for v in ("pass", "look", "stop")
    )
    assert input_answer([passed]) == Answer("Input", "good", "All 1 checks of the input passed.")
    assert input_answer([passed, look]).level == "look"
    worst = input_answer([passed, look, stop])
    assert worst.level == "bad" and worst.sentence == "Stop: says stop. Look: says look." and worst.next
