"""What the linear model and the states answer, from the numbers in their summaries."""

from tomohet.answers import Answer, Step, sentence
from tomohet.particles.conditions import audit_answer

MORE_DATA = Step("Add particles or tilt images: at this number nothing is confirmed.")
FINER_STATES = Step("Add particles or tilt images to tell finer states apart.")
MOVING_PART = Step(
    "Find the part that moves: it is a shell in the map of where particles differ (linear/variability.mrc). "
    "Fit the linear model again inside a mask around it (linear: {focus_mask: FILE})."
)


def linear_answers(numbers: dict) -> list[Answer]:
    """Return the answers of a linear model: heterogeneity, held-out tilts, poses, leak audit.

    numbers : content of the stage's summary
    """
    found = numbers["heterogeneity_found"]
    answers = [
        Answer("Heterogeneity", "fact", _detection(numbers), () if found else (MORE_DATA,), _p(numbers)),
        Answer("Held-out tilts", "good" if found else "look", _held_out(numbers)),
        poses_answer(numbers),
    ]
    if numbers["tilt_shift_A"]:
        answers.append(Answer("Tilt images", "look", sentence(numbers["tilts"])))
    if numbers["surroundings_found"]:
        answers.append(
            Answer(
                "Surroundings",
                "look",
                "Neighbouring tilt images of a particle are more alike than the model explains: something "
                "beside the particle is in the images.",
            )
        )
    if numbers["leaks"]:
        answers.append(audit_answer(numbers["leaks"]))
    return answers


def _detection(numbers: dict) -> str:
    n, clear = len(numbers["held_out_reliability"]), numbers["components_clear_in_particles"]
    if not (numbers["heterogeneity_found"] and n):
        return sentence(numbers["verdict"])
    components = f"{n} component{'s' if n > 1 else ''}"
    clearly = f"along {clear} of them single particles can be assigned"
    return f"Particles differ: held-out tilt images confirm {components}; {clearly}."


def _held_out(numbers: dict) -> str:
    p = numbers["held_out_p_value"]
    if p is None:
        return "No particle has three tilt images, so none could be held out: nothing is confirmed."
    verb = "predict" if numbers["heterogeneity_found"] else "do not predict"
    return f"The latents {verb} held-out tilt images (p = {p:.1g})."


def _p(numbers: dict) -> str:
    p = numbers["held_out_p_value"]
    return "not tested" if p is None else f"p = {p:.1g}"


def poses_answer(numbers: dict) -> Answer:
    """Judge the poses: pose errors along one direction may be a moving part."""
    one_direction = numbers["pose_errors"].get("one_direction")
    if not one_direction:
        return Answer("Poses", "good", sentence(numbers["poses"]))
    return Answer("Poses", "look", sentence(numbers["poses"]), (MOVING_PART,))


def state_answers(numbers: dict) -> list[Answer]:
    """Return the answers of the states: their number with its range; discrete, continuous or undecided."""
    if "verdict" not in numbers:
        return [Answer("States", "fact", f"{numbers['n_states']} states, as asked for.")]
    answers = [Answer("States", "fact", sentence(numbers["verdict"]))]
    if "number_of_states" in numbers and numbers["kind"] != "no heterogeneity":
        text, sure = _number_of_states(numbers), numbers["number_of_states_sure"]
        steps = (FINER_STATES,) if numbers.get("finer_states_missed") else ()
        answers.append(Answer("Number of states", "fact", text, steps, sure))
    return answers


def _number_of_states(numbers: dict) -> str:
    """Say the number, and why it differs from the number of components."""
    text = sentence(numbers["number_of_states"])
    states, components = numbers["n_states"], numbers["n_components"]
    if numbers["kind"] == "continuous":
        return f"{text} Each is a stretch of a continuum."
    if numbers["kind"] == "undecided" and states > 1:
        return f"{text} They may be stretches of a continuum: held-out tilts do not tell."
    if states == components + 1 or states == 1:
        return text
    count = f"{components} component{'s' if components > 1 else ''}"
    if states > components + 1:
        return f"{text} Pieces that vary independently along {count} combine to many states."
    return f"{text} Along some of the {count} particles vary without distinct states."
