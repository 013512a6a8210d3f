"""The whole pre-flight check: the tables, a sample of the images, and their tests of the flags."""

from tomohet.errors import InputError
from tomohet.particles.copies import one_of_each
from tomohet.particles.table import ParticleSet
from tomohet.preflight.check import Check
from tomohet.preflight.checks import validate
from tomohet.preflight.hypotheses import examine
from tomohet.preflight.image_sample import check_images, sample_images
from tomohet.preflight.page import Evidence
from tomohet.preflight.spectrum import power_spectrum
from tomohet.preflight.tilts import TiltSchemes, tilt_schemes


def preflight(
    particle_set: ParticleSet,
    *,
    rescale_A: float | None = None,
    look_at_images: bool = True,
    max_images: int | None = None,
    seed: int = 0,
    uninvert: bool = False,
) -> tuple[list[Check], TiltSchemes, Evidence]:
    """Make all checks; return them, the tilts from the poses, and the evidence from the images.

    rescale_A : the pixel size to which all images will be resampled
    max_images, uninvert : of `hypotheses.examine`
    """
    schemes = tilt_schemes(particle_set)
    checks = validate(particle_set, rescale_A=rescale_A, schemes=schemes)
    if not look_at_images:
        return checks, schemes, Evidence()
    particle_set = one_of_each(particle_set)  # copies have the same pixels
    sample = sample_images(particle_set)
    if sample is None or len(particle_set.pixel_sizes_A) > 1:
        checks.append(
            Check("images", "look", "stacks of several grids: the images were not examined",
                  "validate the prepared or downsampled images instead")
        )  # fmt: skip
        return checks, schemes, Evidence()
    checks += check_images(sample)
    if not sample.statistics["finite"].all():
        return checks, schemes, Evidence(sample)
    try:
        hypotheses = examine(particle_set, max_images=max_images, seed=seed, uninvert=uninvert)
        spectrum = power_spectrum(particle_set, seed=seed)
    except InputError as problem:
        checks.append(Check("CTF and contrast", "look", str(problem), "they were not tested on the images"))
        return checks, schemes, Evidence(sample)
    checks += [Check(f.name, f.verdict, f.message, f.remedy) for f in hypotheses.findings]
    return checks, schemes, Evidence(sample, spectrum, hypotheses)
