"""Tests of a particle file's statements on the images themselves: flag, filter, sign, hand.

Premultiplication. Data are y = p C V + p noise with p = 1 (raw), sign C (phase-flipped), C (premultiplied) or
|C|. Two questions separate the four: does the noise power follow C^2 (`spectrum.modulation`; no map is
needed), and do the phases carry the sign of C? The half-map FSC of the four answers the second one: beyond
the CTF's first zero, the two wrong hypotheses cancel. Two hypotheses with the same sign differ only in
weights and have nearly the same FSC, so the FSC cannot replace the spectrum.

Filter. The noise also shows any other filter that was multiplied in (`preflight.filters`).

Contrast. Reversing the sign of the data only reverses the map; FSC and likelihood stay the same. The prior
knowledge is that a particle is compact and denser than the ice. The centre of the images, with corrected CTF
signs, is therefore compared with the surroundings, and the map's skewness must agree.

Hand. Weak-phase projections of an object and of its mirror image under mirrored geometry are the same, so
images do not show the hand of the map. They do show whether defocus grows with depth as stated. With the
tilts' geometry known, that is the sign that RELION calls rlnTomoHand and Warp the defocus hand.

z are means over standard errors over particles, as normal deviates: with few particles Student's t is
converted to the z of equal probability. Chance gives |z| > 4 once in 16,000 data sets, |z| > 6 once in 500
million.
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tomohet.particles.preparation import image_signs
from tomohet.particles.table import ParticleSet
from tomohet.preflight.evidence import (
    DATA_WEIGHTS,
    HalfPair,
    back_project,
    contrast_score,
    depth_score,
    skewness,
)
from tomohet.preflight.filters import extraction_filter
from tomohet.preflight.finding import Finding
from tomohet.preflight.sample import LARGEST_BOX, Sample, draw_sample
from tomohet.preflight.spectrum import modulation, modulation_by_tomogram

PIXELS = 16_000_000  # of all sampled images together: 4,000 images of box 64
MOST_IMAGES = 10_000
LIKELY, DECISIVE = 4.0, 6.0  # thresholds of |z|; weak signals of a right flag stay below LIKELY
HAND_LIKELY, HAND_DECISIVE = 3.0, 5.0  # thresholds of |z|; one hand is tested, and evidence is rarely strong
RAW_SHARE, PREMULTIPLIED_SHARE = 0.4, 0.7
LEAST_DEPTH_A = 50.0
MOST_NAMED = 3  # tomograms named in a message


@dataclass(frozen=True)
class Hypotheses:
    """Findings, and the half maps' FSC and mean map for each of the four hypotheses `DATA_WEIGHTS`.

    fsc : name -> (frequency in 1/Å (s,), curve (s,))
    maps : name -> (d, d, d) float32 [z, y, x], with the sign that preparation will give the data
    pixel_size_A : of the maps
    """

    findings: list[Finding]
    fsc: dict[str, tuple[np.ndarray, np.ndarray]]
    maps: dict[str, np.ndarray]
    pixel_size_A: float
    n_particles: int
    n_images: int
    seconds: float


def examine(
    particle_set: ParticleSet, *, max_images: int | None = None, seed: int = 0, uninvert: bool = False
) -> Hypotheses:
    """Make all tests on a random sample of whole particles of at most `max_images` images.

    uninvert : preparation will keep the sign of all images (--uninvert-data)

    The default of `max_images` makes `PIXELS` pixels after cropping to `LARGEST_BOX`. Where flags differ
    between images, that of the majority is tested.

    Raises InputError for fewer than two particles, and for pixels that are not finite numbers.
    """
    start = time.process_time()
    if max_images is None:
        max_images = min(MOST_IMAGES, PIXELS // min(particle_set.box, LARGEST_BOX) ** 2)
    sample = draw_sample(particle_set, max_images=max_images, seed=seed)
    pairs = {name: back_project(sample, weight) for name, weight in DATA_WEIGHTS.items()}
    first = premultiplication(sample)
    is_premultiplied = sample.premultiplied if first.found == "undecided" else first.found == "premultiplied"
    name = "premultiplied" if is_premultiplied else "raw"
    findings = [
        first,
        extraction_filter(sample, is_premultiplied),
        contrast(sample, pairs[name], is_premultiplied, uninvert),
        hand(sample, is_premultiplied),
    ]
    sign = _sign(sample.premultiplied, uninvert)
    return Hypotheses(
        findings=findings,
        fsc={name: (pair.frequency_1_A, pair.fsc) for name, pair in pairs.items()},
        maps={name: (sign * pair.mean).astype(np.float32) for name, pair in pairs.items()},
        pixel_size_A=sample.pixel_size_A,
        n_particles=sample.n_particles,
        n_images=len(sample.particle),
        seconds=time.process_time() - start,
    )


def premultiplication(sample: Sample) -> Finding:
    """Test whether the noise power follows the square of the CTF, as the flag states, in all tomograms."""
    stated = "premultiplied" if sample.premultiplied else "raw"
    share, z = modulation(sample)
    if mixed := _mixed(sample, modulation_by_tomogram(sample), z):
        return mixed
    found = "undecided"
    if z > LIKELY and share > PREMULTIPLIED_SHARE:
        found = "premultiplied"
    if z < -LIKELY and share < RAW_SHARE:
        found = "raw"
    z = z if sample.premultiplied else -z
    text = f"{100 * share:.0f} % of the power at high frequency follows the CTF squared (z = {abs(z):.1f})"
    if found == "undecided":
        message = f"marked {stated}; {text}, which does not decide"
        return Finding(
            "premultiplication", stated, found, z, message, "compare the power spectrum with the CTF", "look"
        )
    message = f"marked {stated}, looks {found}: {text}"
    remedy = f"set rlnCtfDataAreCtfPremultiplied to {int(found == 'premultiplied')}, or extract again"
    return _finding("premultiplication", stated, found, z, message, remedy, DECISIVE)


def _mixed(sample: Sample, z_of_tomogram: dict[str, float], z: float) -> Finding | None:
    """Return the finding where some tomograms clearly agree with their flag and others clearly do not.

    None in all other cases.
    """
    marked = pd.Series(sample.params.ctf_premultiplied.numpy()).groupby(sample.tomogram).mean() > 0.5
    agreement = {name: one if marked[name] else -one for name, one in z_of_tomogram.items()}
    right = [name for name, one in agreement.items() if one > LIKELY]
    wrong = [name for name, one in agreement.items() if one < -LIKELY]
    if not (right and wrong):
        return None
    found = "raw" if marked[wrong[0]] else "premultiplied"
    names = ", ".join(wrong[:MOST_NAMED]) + (", ..." if len(wrong) > MOST_NAMED else "")
    strongest = min(agreement[name] for name in wrong)
    message = (
        f"{len(wrong)} tomograms contradict their flag, they look {found}: {names} "
        f"(z = {-strongest:.1f}); {len(right)} agree with it"
    )
    return Finding(
        "premultiplication", "premultiplied" if sample.premultiplied else "raw", "undecided", z,
        message, "extract all tomograms in the same way, or set rlnCtfDataAreCtfPremultiplied for each",
        "stop" if strongest <= -DECISIVE else "look",
    )  # fmt: skip


def contrast(sample: Sample, pair: HalfPair, premultiplied: bool, uninvert: bool = False) -> Finding:
    """Test whether the particle is light with the sign that preparation gives to data of this kind.

    pair : half maps under the same hypothesis
    premultiplied : whether the data are premultiplied (not what they state)
    """
    sign = _sign(premultiplied, uninvert)
    z = sign * contrast_score(sample, DATA_WEIGHTS["premultiplied" if premultiplied else "raw"])
    skew = sign * skewness(pair)
    kind = {True: "light protein", False: "dark protein"}
    found = "undecided"
    if abs(z) > LIKELY and z * skew > 0:
        found = kind[z > 0]
    rule = "kept" if sign > 0 else "inverted"
    reason = "as --uninvert-data requests" if uninvert else "the default"
    if premultiplied != sample.premultiplied:  # the sign follows the flag, which is wrong
        reason += f" for {'premultiplied' if premultiplied else 'raw'} images: once the flag is corrected"
    text = f"with the sign {rule}, {reason}, the centre of the images is"
    text += f" {'lighter' if z > 0 else 'darker'} than around it (z = {abs(z):.1f}, map skewness {skew:.2g})"
    if found == "undecided":
        return Finding(
            "contrast", kind[True], found, z, f"{text}: undecided", "look at a reconstruction", "look"
        )
    remedy = "extract again with light protein" if premultiplied else "give --uninvert-data"
    if uninvert and not premultiplied:
        remedy = "leave out --uninvert-data"
    return _finding("contrast", kind[True], found, z, text, remedy, DECISIVE)


def hand(sample: Sample, premultiplied: bool) -> Finding:
    """Test whether defocus grows with depth as the file states."""
    spread = float(np.std(sample.depth_A))
    if spread < LEAST_DEPTH_A:
        message = f"defocus hardly differs within a tilt image ({spread:.0f} Å): there is no hand to check"
        return Finding("hand", "none", "undecided", 0.0, message, "", "pass")
    z = depth_score(sample, premultiplied)
    text = f"depths of ±{spread:.0f} Å as stated against reversed: z = {z:+.1f}"
    if abs(z) < HAND_LIKELY:
        return Finding("hand", "as stated", "undecided", z, f"{text}, too weak to decide", "", "pass")
    found = "as stated" if z > 0 else "reversed"
    remedy = "reverse the defocus hand (rlnTomoHand; Warp's ts_defocus_hand) and extract again"
    return _finding("hand", "as stated", found, z, text, remedy, HAND_DECISIVE)


def _finding(name, stated, found, z, message, remedy, decisive) -> Finding:
    """Make a finding: pass when found equals stated; otherwise stop if decisive, else look."""
    if found == stated:
        return Finding(name, stated, found, z, message, "", "pass")
    return Finding(name, stated, found, z, message, remedy, "stop" if abs(z) >= decisive else "look")


def _sign(premultiplied: bool, uninvert: bool) -> int:
    """Return the factor that preparation gives the images."""
    return int(image_signs(np.array([premultiplied]), False if uninvert else None)[0])
