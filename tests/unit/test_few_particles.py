"""Verdicts from a few particles: false positives are as rare as with many."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tomohet.particles.dialects import read_particles
from tomohet.particles.scores import normal_deviate, z_over_particles
from tomohet.preflight.evidence import DATA_WEIGHTS, contrast_score
from tomohet.preflight.hypotheses import DECISIVE, LIKELY
from tomohet.preflight.sample import draw_sample

N_TILTS = 5


@pytest.mark.parametrize("n", [2, 3, 5])
def test_z_of_few_particles_is_a_normal_deviate(n):
    """In 6,000 data sets without effect, the fractions beyond 1, 2 and 3 are those of a normal deviate."""
    draws = np.random.default_rng(0).normal(size=(6000, n))
    z = np.array([z_over_particles(one, np.arange(n)) for one in draws])
    for limit, expected in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        assert (np.abs(z) > limit).mean() == pytest.approx(expected, rel=0.05, abs=0.002)


def test_z_of_students_t():
    """Values of Student's t and of the normal distribution at equal probability, from printed tables."""
    # One-sided 0.025: t = 12.706 with 1, 4.303 with 2, 2.776 with 4 degrees of freedom; z = 1.960.
    for t, n in ((12.706, 2), (4.303, 3), (2.776, 5)):
        spread = np.linspace(-1, 1, n)
        mean = t * spread.std(ddof=1) / np.sqrt(n)
        assert z_over_particles(mean + spread, np.arange(n)) == pytest.approx(1.960, abs=1e-3)
        assert z_over_particles(-mean + spread, np.arange(n)) == pytest.approx(-1.960, abs=1e-3)
    many = np.random.default_rng(0).normal(0.05, 1, 100_000)
    assert z_over_particles(many, np.arange(100_000)) == pytest.approx(
        many.mean() / many.std(ddof=1) * np.sqrt(100_000), rel=2e-3
    )
    assert normal_deviate(0.0, -1) < -37 and z_over_particles(np.ones(3), np.zeros(3, int)) == 0


@pytest.mark.parametrize("n", [2, 3, 5])
def test_noise_has_no_contrast(tiny, n):
    """Of 200 data sets of pure noise, 5 tilts each; before, 1 to 30 % were "decisive"."""
    particle_set = read_particles(tiny / "particles.star")
    images = particle_set.images
    chosen = images[(images["particle"] < n) & (images.groupby("particle").cumcount() < N_TILTS)]
    few = replace(particle_set, images=chosen.reset_index(drop=True))
    sample = draw_sample(few, max_images=n * N_TILTS, seed=0)
    assert len(sample.particle) == n * N_TILTS
    draw = torch.Generator().manual_seed(n)
    data = torch.view_as_complex(torch.randn(200, *sample.data.shape, 2, generator=draw))
    z = np.array([contrast_score(replace(sample, data=one), DATA_WEIGHTS["raw"]) for one in data])
    assert (np.abs(z) > DECISIVE).sum() == 0 and (np.abs(z) > LIKELY).sum() == 0
    # As said or less: the three radii are not independent.
    assert 0 < (np.abs(z) > 1).mean() < 0.40 and (np.abs(z) > 2).mean() < 0.09
