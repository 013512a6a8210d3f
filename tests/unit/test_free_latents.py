"""Latents in closed form: equal to the linear model's for a linear decoder, better for a nonlinear one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from taught_runs import CPU, network

from tomohet.linear.saved_model import SavedModel
from tomohet.model.latent_prior import standard_prior
from tomohet.model.latent_terms import latent_terms
from tomohet.model.mlp import scale_
from tomohet.particles.store import open_store
from tomohet.reconstruction.noise import Noise
from tomohet.training.batches import ParticleImages
from tomohet.training.free_latents import all_terms, as_measured, free_latents, latents_of
from tomohet.training.likelihood import Likelihood
from tomohet.training.posteriors import with_posteriors

PARTICLES = np.arange(24)


@pytest.fixture(scope="module")
def store(tiny_store, tiny_linear):
    """With the poses as the linear model corrects them."""
    stated = open_store(tiny_store)
    return SavedModel.read(tiny_linear, stated.box).poses(stated, PARTICLES).corrected(stated, PARTICLES)


@pytest.fixture(scope="module")
def maps(tiny_linear, store):
    """Maps for which all tomograms and doses have the same noise: images then know it shell by shell. The
    maps are known exactly, as those of a network are taken to be."""
    maps = SavedModel.read(tiny_linear, store.box).maps.for_store(store, CPU)
    common = Noise.same(maps.mean.noise.common, len(maps.tomograms))
    exact = torch.zeros_like(maps.basis_variance)
    return replace(maps, mean=replace(maps.mean, noise=common), basis_variance=exact)


@pytest.fixture(scope="module")
def likelihood(store, maps):
    return Likelihood(store.half_plane, maps.mean.noise.common)


def model_of(maps, store):
    model = network(store.box, "free").eval()
    model.decoder.base.fill(maps.mean.volume, maps.basis)
    return model


def images_of(maps, store, model, keep=None):
    images = ParticleImages(store, PARTICLES, CPU, keep=keep)
    mask = np.ones(len(store.images), bool) if keep is None else keep
    return with_posteriors(images, maps, model, store, PARTICLES, mask)


@pytest.fixture(scope="module")
def linear(maps, store):
    """A network that adds nothing, and its images."""
    model = model_of(maps, store)
    scale_(model.decoder.decoder.affine_layers()[-1], 0)
    return model, images_of(maps, store, model)


@pytest.mark.parametrize("start", [0.0, 2.0])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_silent_network_gives_the_linear_posterior(linear, likelihood, start, steps):
    model, images = linear
    z = torch.full((len(images), 2), start)
    found = free_latents(model.decoder, images, likelihood, z, standard_prior(2), steps)
    mean, variance = found.mean, found.variance
    expected_mean, expected_logvar = images.start.unbind(1)
    torch.testing.assert_close(mean, expected_mean, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(variance.log(), expected_logvar, atol=2e-3, rtol=1e-3)


def test_terms_of_all_particles_are_those_of_each(linear, likelihood):
    model, images = linear
    z = torch.randn(len(images), 2, generator=torch.Generator().manual_seed(0))
    found = all_terms(model.decoder, images, likelihood, z)
    for particle in (0, 23):
        rows = likelihood.rows(images.batch(np.array([particle])))
        own = latent_terms(model.decoder, rows, z[[particle]])
        for ours, theirs in zip(vars(found).values(), vars(own).values(), strict=True):
            torch.testing.assert_close(ours[[particle]], theirs, rtol=1e-3, atol=1e-2)


def test_steps_make_particles_more_likely(maps, store, likelihood):
    model = model_of(maps, store)
    scale_(model.decoder.decoder.affine_layers()[-1], 10)
    images, prior = images_of(maps, store, model), standard_prior(2)
    z = images.start[:, 0]

    def unlikely(z):
        return all_terms(model.decoder, images, likelihood, z).misfit + prior.minus_log(z)

    inferred = free_latents(model.decoder, images, likelihood, z, prior)
    found, variance = inferred.mean, inferred.variance
    assert unlikely(found).sum() < unlikely(z).sum() - 1
    assert (variance > 0).all() and (variance < 1).all()


def test_a_step_without_end_is_not_taken(linear, likelihood, monkeypatch):
    model, images = linear

    def far(a, b):
        return torch.full_like(b, 1e3), torch.eye(2).expand_as(a)

    prior = standard_prior(2)
    monkeypatch.setattr(type(prior), "posterior", lambda self, a, b: far(a, b))
    z = images.start[:, 0]
    assert torch.equal(free_latents(model.decoder, images, likelihood, z, prior).mean, z)


def test_measurements_do_not_depend_on_where_a_linear_decoder_is_linearised(linear, likelihood):
    model, images = linear
    found = [
        as_measured(all_terms(model.decoder, images, likelihood, z), z)
        for z in (torch.zeros(len(images), 2), torch.ones(len(images), 2))
    ]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * ours.abs().max().item())


def test_particles_without_an_image_have_no_latent(maps, store, likelihood):
    model = model_of(maps, store)
    keep = np.ones(len(store.images), bool)
    keep[store.offsets[3] : store.offsets[4]] = False
    images = images_of(maps, store, model, keep)
    for prior in (None, standard_prior(2)):
        model.encoder.adopt(prior)
        mu, logvar = latents_of(model, images, likelihood)
        assert np.flatnonzero(np.isnan(mu).any(1)).tolist() == [3]
        assert np.flatnonzero(np.isnan(logvar).any(1)).tolist() == [3]
