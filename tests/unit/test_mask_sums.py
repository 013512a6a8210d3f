"""Sums of a model's maps over masks: against the sums of the maps that the model writes."""

import numpy as np
import pytest
import torch

from tomohet.errors import InputError
from tomohet.files.mrc import read_volume
from tomohet.files.shares import ALL_ROWS, Shares, ShareWritten
from tomohet.model import mask_sums as module
from tomohet.model.decoder import Decoder
from tomohet.model.linear_decoder import LinearDecoder
from tomohet.model.mask_sums import mask_sums, mask_weights
from tomohet.model.mlp import scale_inputs_
from tomohet.model.published import PublishedVolumes
from tomohet.model.volumes import TrainedVolumes, VolumeForm, write_volumes
from tomohet.physics.lattice import half_ball

BOX, PIXEL_A, SCALE = 16, 5.0, 3.0
FORMS = {
    "as it is": {},
    "cropped": {"box": 12},
    "low-passed, flipped": {"lowpass_A": 14.0, "flip": True},
    "inverted": {"invert": True},
}


def maps(count, seed):
    smooth = torch.as_tensor(np.random.default_rng(seed).normal(size=(count, BOX, BOX, BOX))).float()
    return torch.nn.functional.avg_pool3d(smooth[:, None], 3, 1, 1)[:, 0]


def linear():
    model = LinearDecoder(BOX, 3)
    model.fill(maps(1, 1)[0], maps(3, 2))
    return model


def network(n_basis=0, hermitian=True):
    model = Decoder(BOX, 3, 2, 32, hermitian=hermitian, n_basis=n_basis)
    if n_basis:
        model.base.fill(maps(1, 1)[0], maps(n_basis, 2))
    return model.eval()


MODELS = {
    "linear": linear,
    "network": network,
    "taught network": lambda: network(2),
    "published network": lambda: PublishedVolumes(network(hermitian=False).eval()),
}


def trained(name):
    return TrainedVolumes(MODELS[name](), PIXEL_A, SCALE, torch.device("cpu"))


def form_of(decoder, box=None, lowpass_A=None, flip=False, invert=False):
    return VolumeForm.of(decoder, box, lowpass_A, flip, invert)


def masks_for(box, count=4):
    rng = np.random.default_rng(5)
    return (rng.uniform(size=(count, box, box, box)) < 0.1).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", FORMS)
def test_sums_are_those_of_the_written_maps(name, how, tmp_path):
    decoder, options = trained(name), FORMS[how]
    z = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    form = form_of(decoder, **options)
    masks = masks_for(form.box)
    write_volumes(decoder, z, tmp_path, **options)
    written = np.stack([read_volume(tmp_path / f"vol_{i:03d}.mrc")[0] for i in range(5)]).astype(float)
    expected = np.einsum("mzyx,uzyx->mu", written, masks)
    found = mask_sums(decoder, z, masks, form, np.ones(len(masks)))
    np.testing.assert_allclose(found.sums, expected, atol=2e-5 * np.abs(written).sum(axis=(1, 2, 3)).max())
    assert found.decoded == (0 if name == "linear" else 5) and found.points == 0


def test_few_points_tell_the_sums_of_many_latents(monkeypatch):
    monkeypatch.setattr(module, "MOST_SNAPSHOTS", 128)
    decoder = trained("taught network")
    z = np.random.default_rng(1).normal(size=(600, 3)).astype(np.float32)
    form, masks = form_of(decoder), masks_for(BOX)
    exact = module._sums_of_maps(decoder, torch.as_tensor(z), torch.as_tensor(masks), form).numpy()
    spread = exact.std(axis=0)
    found = mask_sums(decoder, z, masks, form, 1e-3 * spread)
    assert found.decoded < 200 and 0 < found.points < half_ball(BOX).n / 2
    rms = np.sqrt(((found.sums - exact) ** 2).mean(axis=0))
    assert (rms < 3e-3 * spread).all()
    assert (rms < 3 * found.error + 1e-4 * spread).all()  # what it says of its error is true
    again = mask_sums(decoder, z, masks, form, 1e-3 * spread)
    np.testing.assert_array_equal(again.sums, found.sums)


def never(*_, **__):
    raise AssertionError("this is computed again")


@pytest.mark.parametrize("name", ["taught network", "network", "published network"])
def test_sums_of_three_jobs_are_those_of_one(name, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MOST_SNAPSHOTS", 64)
    monkeypatch.setattr(module, "POINTS_BATCH", 50)
    decoder = trained(name)
    z = np.random.default_rng(1).normal(size=(60 if "published" in name else 300, 3)).astype(np.float32)
    form, masks, exact_to = form_of(decoder), masks_for(BOX), np.full(4, 1e-3 if name == "network" else 10)

    def sums(shares):
        return mask_sums(decoder, z, masks, form, exact_to, shares=shares)

    alone = sums(ALL_ROWS)
    for job in (1, 2, 3):
        with pytest.raises(ShareWritten):
            sums(Shares((job, 3), tmp_path / f"{job}"))
    folders = tuple(tmp_path / f"{job}" for job in (1, 2, 3))
    with monkeypatch.context() as nothing_is_computed:
        for owner, work in ((module._NetworkSums, "_from_points"), (module._NetworkSums, "_exact")):
            nothing_is_computed.setattr(owner, work, never)
        nothing_is_computed.setattr(module, "_sums_of_maps", never)
        together = sums(Shares(written=folders))
    np.testing.assert_array_equal(together.sums, alone.sums)
    assert (together.decoded, together.points) == (alone.decoded, alone.points)
    # Shares of another model are not taken.
    decoder.model = trained(name).model
    other = sums(Shares(written=folders))
    np.testing.assert_array_equal(other.sums, sums(ALL_ROWS).sums)


def test_a_network_without_order_is_decoded_in_full(monkeypatch):
    monkeypatch.setattr(module, "MOST_SNAPSHOTS", 64)
    decoder = trained("network")  # its kinks fall where they may: no smoothness helps
    z = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    form, masks = form_of(decoder), masks_for(BOX)
    exact = module._sums_of_maps(decoder, torch.as_tensor(z), torch.as_tensor(masks), form).numpy()
    fine = mask_sums(decoder, z, masks, form, 1e-4 * exact.std(axis=0))
    assert fine.decoded == 300 and not fine.error.any()
    np.testing.assert_allclose(fine.sums, exact, atol=1e-4 * np.abs(exact).max())
    rough = mask_sums(decoder, z, masks, form, exact.std(axis=0))
    assert rough.decoded == 64 + module.CHECKS
    assert np.sqrt(((rough.sums - exact) ** 2).mean(axis=0)).max() < exact.std(axis=0).max()


def test_a_network_that_adds_the_same_to_all_maps_is_told_by_a_few():
    """Held-out tilts may let a network mend the mean map alone: what it adds then depends on no latent."""
    model = network(2)
    scale_inputs_(model.decoder.affine_layers()[0], model.n_features, 0.0)
    decoder = TrainedVolumes(model, PIXEL_A, SCALE, torch.device("cpu"))
    z = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    form, masks = form_of(decoder), masks_for(BOX)
    exact = module._sums_of_maps(decoder, torch.as_tensor(z), torch.as_tensor(masks), form).numpy()
    found = mask_sums(decoder, z, masks, form, 1e-3 * exact.std(axis=0))
    assert found.decoded < 100 and np.isfinite(found.error).all()
    np.testing.assert_allclose(found.sums, exact, atol=1e-4 * np.abs(exact).max())


def test_a_rare_state_is_among_the_maps_decoded_in_full():
    z = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * 0.1
    z[777] = torch.tensor([9.0, -9.0])
    order = module._spread_first(z, 64)
    assert 777 in order[:3].tolist()
    assert sorted(order.tolist()) == list(range(1000))
    same = module._spread_first(torch.zeros(10, 2), 5)
    assert sorted(same.tolist()) == list(range(10))


def test_weights_are_parseval(monkeypatch):
    decoder = trained("network")
    form, masks = form_of(decoder), torch.as_tensor(masks_for(BOX))
    values = torch.randn(2, half_ball(BOX).n, dtype=torch.complex64)
    direct = half_ball(BOX).volume(values).flatten(1) @ masks.flatten(1).T
    through = (values @ mask_weights(masks, form, BOX).conj().T).real
    torch.testing.assert_close(through, direct, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused():
    decoder = trained("linear")
    form, masks = form_of(decoder), masks_for(BOX)
    with pytest.raises(InputError, match="zdim 3"):
        mask_sums(decoder, np.zeros((4, 2)), masks, form, np.ones(4))
    with pytest.raises(InputError, match="box 16"):
        mask_sums(decoder, np.zeros((4, 3)), masks[:, :8, :8, :8], form, np.ones(4))
    with pytest.raises(InputError, match="not finite"):
        mask_sums(decoder, np.full((4, 3), np.nan), masks, form, np.ones(4))
