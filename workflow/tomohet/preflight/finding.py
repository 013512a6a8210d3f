"""The result of one test on the images."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one test on the images.

    name : "premultiplication", "extraction filter", "contrast" or "hand"
    stated : the answer that the file states (or implies)
    found : the answer from the images, or "undecided"
    z : strength in standard deviations, positive for the stated answer
    """

    name: str
    stated: str
    found: str
    z: float
    message: str
    remedy: str
    verdict: Literal["pass", "look", "stop"]
