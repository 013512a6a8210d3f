"""How often each answer of a stage is wrong, as far as that was measured on simulated data.

A false alarm is a finding, or a level *look* or *bad*, where the truth has nothing to find; a miss is the
reverse. The numbers are those of `docs/benchmarks.md` and `tests/benchmarks/README.md`, whose commands
measure them again.
"""

from typing import NamedTuple

UNIT = "a unit of the model"  # the subject of MAVEn's answers is the unit's name


class Rate(NamedTuple):
    """Measured errors of the answers of one subject.

    text : false alarms and misses in words
    source : document and section with the measurement; "" where there is none
    """

    text: str
    source: str = ""


NOT_MEASURED = Rate("not measured")
_DETECTION = Rate(
    "false alarms in 0 of 76 sets of identical particles (20 alone, 6 with wrong poses, 50 with neighbours "
    "and background as well): at most 4 % with 95 % confidence; two states missed in 0 of 12 sets at SNR "
    "0.01 and 0.03, in 2 of 13 at SNR 0.005, in 4 of 6 at SNR 0.003",
    "docs/benchmarks.md; tests/benchmarks/README.md: Linear model, Wrong poses",
)
_STATES = Rate(
    "“discrete” said wrongly of 0 of 10 sets of motions; of sets of discrete states missed in 0 of 10 at "
    "SNR 0.05, in 5 of 5 at SNR 0.005 (“undecided”)",
    "tests/benchmarks/README.md: Linear model, states and taught networks against the oracle",
)
_POSES = Rate(
    "errors found in 0 of 10 sets of identical particles whose poses were right; at SNR 0.01 a moving arm "
    "was taken for errors (their one direction tells); errors of 1° missed in 5 of 5 sets with neighbours "
    "at SNR 0.05, of 1° to 3° in 15 of 15 at SNR 0.01",
    "tests/benchmarks/README.md: Wrong poses",
)
_BLOCKS = Rate(
    "a false block in 0 of 160 ensembles without blocks and in 0 of 24 with blocks; by the rule phi none "
    "of nine pieces missed, by the rule siren those in 70 % and 90 % of volumes",
    "tests/benchmarks/README.md: SIREn",
)
_UNITS = Rate(
    "presence of four blocks never confused in 6 runs at SNR 0.05 (AUC 1.000); a false dependency in 0 of "
    "6 runs, the true one missed in 0 of 6",
    "tests/benchmarks/README.md: Occupancies of every particle",
)
_NETWORK = Rate(
    "designed for one false “better” in 44 trainings; not measured",
    "workflow/tomohet/linear/significance.py: BETTER_SE",
)

# Subject of the answer -> rate; `tests/unit/test_report_rates.py` demands one for each answer of the package.
RATES = {
    "Heterogeneity": _DETECTION,
    "Held-out tilts": _DETECTION,
    "Poses": _POSES,
    "Tilt images": Rate(
        "no shifts found in aligned images with other faults (one seed each); shifts of 4 and 8 Å found "
        "(one seed)",
        "tests/benchmarks/README.md: Misaligned tilt images",
    ),
    "Surroundings": Rate(
        "designed for one false alarm in 1,000 data sets; not measured",
        "workflow/tomohet/linear/significance.py: SURROUNDINGS_SE",
    ),
    "States": _STATES,
    "Number of states": Rate(
        "one structure called more than one in 0 of 15 sets; of two to four states the number was right in "
        "27 of 30 sets and within the range in all at SNR 0.05, and a lower bound in 15 of 15 at SNR 0.01; "
        "a motion is divided too, and was called discrete in 0 of 15 sets",
        "tests/benchmarks/README.md: Number of states",
    ),
    "Blocks": _BLOCKS,
    "Randomised volumes": _BLOCKS,
    "Moving part": NOT_MEASURED,
    "Volumes": NOT_MEASURED,
    UNIT: _UNITS,
    "Units": _UNITS,
    "Always present": NOT_MEASURED,
    "Moving unit": NOT_MEASURED,
    "Atomic model": NOT_MEASURED,
    "Network": _NETWORK,
    "Convergence": Rate(
        "the epoch used loses more than 5 % of the best epoch's accuracy in 0 of 18 trainings from the "
        "linear model, in 1 of 3 with 30 particles, and in 1 of 11 from nothing (none called converged); "
        "under-trained epochs called converged: 0 of 296; overfitting called in 1 training, which did; "
        "without held-out tilts not calibrated",
        "tests/benchmarks/README.md: Convergence",
    ),
    "Latents": NOT_MEASURED,
    "Leak audit": NOT_MEASURED,
    "Half maps": NOT_MEASURED,
    "Input": NOT_MEASURED,
    "Subset": Rate("a count, which cannot be wrong"),
    "Subset against control": Rate(
        "supported by chance: 0 of 180 random subsets, 0 of 360 that noise selected, 0 of 360 that follow "
        "the viewing direction; true subsets missed: 0 to 25 % where the block has 4 to 8 % of the mass, all "
        "with 2 %, 95 % at SNR 0.01",
        "tests/benchmarks/README.md: Subsets against controls",
    ),
    "Orientation coverage": NOT_MEASURED,
    "Map and decoded volume": NOT_MEASURED,
    "Clusters": NOT_MEASURED,
    "Proposed rounds": Rate(
        "one structure divided: 0 of 4 sets, 0 of 9 parts; true tree of nested blocks: 11 of 11",
        "tests/benchmarks/README.md: Proposed rounds",
    ),
}


def rates_of(stage: str, subjects: list[str]) -> list[Rate | None]:
    """Return the rate of each answer of a stage; of several in a row that are equal, only the last."""
    rates = [rate_of(stage, subject) for subject in subjects]
    return [rate if rate != after else None for rate, after in zip(rates, [*rates[1:], None], strict=False)]


def rate_of(stage: str, subject: str) -> Rate:
    """Return how often an answer is wrong; MAVEn's answers about a unit have the unit's name as subject."""
    return RATES.get(subject, RATES[UNIT] if stage == "maven" else NOT_MEASURED)
