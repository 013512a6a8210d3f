"""Comparison of the filter multiplied into the images with the stated one (`particles.measured_filter`)."""

import numpy as np
import torch

from tomohet.particles.extraction_filter import ShellSums
from tomohet.particles.measured_filter import MeasuredFilter, judged
from tomohet.particles.preparation import Preparation
from tomohet.preflight.finding import Finding
from tomohet.preflight.sample import Sample

NAME = "extraction filter"


def extraction_filter(sample: Sample, premultiplied: bool) -> Finding:
    """Compare dose weights, their cut-off and the scale factor, as stated and as measured.

    premultiplied : whether the images are premultiplied (not what they state)

    A difference that `prepare` can correct is a "look". `prepare` cannot correct raw images with dose
    weights, because they are divided by their own noise.
    """
    treated = sample.params.ctf_premultiplied
    rows = np.flatnonzero(
        (treated == sample.premultiplied).numpy() & (sample.params.scale_factor != 0).numpy()
    )
    params = sample.params.take(torch.as_tensor(rows))
    params = params._replace(ctf_premultiplied=torch.full((len(rows),), premultiplied))
    chunks = [(np.arange(len(rows)), sample.data[rows])]
    window = Preparation().window_of(sample.box)
    measured = judged(ShellSums.of(chunks, params, sample.half_plane, sample.particle[rows], window))
    if premultiplied:
        return of_premultiplied(measured)
    if measured.end_A is not None:
        text = (
            f"raw images that end at {measured.end_A:.3g} Å, as after a low-pass filter or an interpolation"
        )
        return Finding(
            NAME, "raw only", "undecided", 0.0, text, "extract from unfiltered tilt images", "look"
        )
    if measured.verdict == "unknown":
        text = f"raw images, but their noise follows no known filter (power off by {measured.misfit:.0%})"
        return Finding(NAME, "raw only", "undecided", 0.0, text, "", "pass")
    found = "undecided" if measured.found is None else measured.found.name.replace("CTF", "raw")
    if measured.verdict != "wrong" or measured.found.kind == "none":
        text = "raw images: their noise shows no filter that fades with the dose"
        return Finding(NAME, "raw only", "raw only", measured.z, text, "", "pass")
    text = f"raw images, but their noise fades with the dose: {found} (z = {measured.z:.1f})"
    return Finding(
        NAME, "raw only", found, -measured.z, text,
        "extract from tilt images that have not been dose-weighted", "look",
    )  # fmt: skip


def of_premultiplied(measured: MeasuredFilter) -> Finding:
    """Return the finding on premultiplied images."""
    stated = measured.stated.name
    found = measured.found.name if measured.verdict in ("right", "wrong") else "undecided"
    sign = -1 if measured.verdict == "wrong" else 1
    program = "look up what the extraction program applied"
    remedy = {
        "wrong": f"`prepare` uses the filter that was found; {program}",
        "unknown": f"`prepare` uses the measured filter; {program}",
    }.get(measured.verdict, "")
    if measured.end_A is not None:
        remedy = f"{program}, or extract without it"
    verdict = "look" if remedy else "pass"
    return Finding(NAME, stated, found, sign * measured.z, measured.message, remedy, verdict)
