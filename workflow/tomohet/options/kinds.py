"""Types of values that several options share."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

Dialect = Literal[
    "auto",
    "warp",
    "cryosrpnt",
    "cryodrgn",
    "nextpyp",
    "tomodrgn_preprocessed",
    "cistem",
    "warptools",
    "relion",
]
MaskKind = Literal["none", "sphere", "tight", "soft"]
Encoding = Literal["geom_ft", "geom_full", "geom_lowf", "geom_nohighf", "linear_lowf", "gaussian", "none"]
Pooling = Literal["concatenate", "max", "mean", "median", "set_encoder"]
BetaSchedule = Literal["a", "b", "c", "d", "e"]
Condition = Literal["view", "defocus", "tomogram", "tilts", "noise"]

# Marks text that a configuration may write as a number, such as a level or a width.
OR_NUMBER = "or a number"
NumberOrText = Annotated[str, OR_NUMBER]


def _part(value: object) -> object:
    if not isinstance(value, str):
        return value
    number, slash, of = value.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ValueError("expected I/N with I from 1 to N, such as 2/8")
    return int(number), int(of)


Part = Annotated[tuple[int, int], BeforeValidator(_part)]


class FileUnless:
    """Marks text that names a file, unless it is one of some words."""

    def __init__(self, *words: str) -> None:
        self.words = words
