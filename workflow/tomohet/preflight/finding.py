"""One question put to the images, and their answer."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One question put to the images.

    name: "premultiplication", "extraction filter", "contrast" or "hand". stated, found: what the file says
    (or implies) and what the images say, or "undecided". z: strength in standard deviations, positive for
    what is stated.
    """

    name: str
    stated: str
    found: str
    z: float
    message: str
    remedy: str
    verdict: Literal["pass", "look", "stop"]
