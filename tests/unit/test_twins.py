"""The same particles as an image series and as optimisation sets of every kind: one table, one map."""

import numpy as np
import pytest
import torch

from tomohet.particles.dialects import read_particles
from tomohet.particles.noise_levels import relative_noise
from tomohet.particles.store_writing import write_store
from tomohet.physics.imaging import image_parameters, physical_transfer
from tomohet.reconstruction.half_maps import half_maps
from tomohet.simulation.config import config_from
from tomohet.simulation.simulate import simulate

SMALL = {
    "n_particles": 24,
    "n_tomograms": 2,
    "box": 24,
    "pixel_size": 12.0,
    "tilt_step": 12.0,
    "n_atoms": 800,
    "snr": 0.5,
    "hidden_fraction": 0.2,
}
ALL = ["premultiplied", "dose_weighted", "scaled", "inverted"]
KINDS = {
    "WarpTools": {"extraction": ALL},
    "RELION": {"extraction": ["premultiplied", "dose_weighted", "inverted"]},
    "RELION with a B-factor": {"extraction": ALL, "dose_b_factor_A2": 6.0},
    "at 200 kV": {"extraction": ALL, "voltage_kV": 200.0},
    "dark": {"extraction": ["premultiplied", "dose_weighted", "scaled"]},
    "without dose weights": {"extraction": ["premultiplied", "scaled", "inverted"]},
    "raw": {"extraction": ["inverted"]},
    "raw and dark": {"extraction": []},
}
MULTIPLIED_IN = ["ctf_premultiplied", "dose_weighted", "scale_factor", "dose_b_factor_A2"]


@pytest.fixture(scope="module", params=KINDS)
def twins(request, tmp_path_factory):
    """The kind, its options, and image series and optimisation set as they are read."""
    folder = tmp_path_factory.mktemp("twins")
    options = KINDS[request.param]
    simulate(config_from({**SMALL, **options}), folder)
    series = read_particles(folder / "particles.star")
    twin = read_particles(folder / "warptools/particles_optimisation_set.star")
    twin.particles["half"] = series.particles["half"]  # WarpTools writes none
    if "premultiplied" in options["extraction"] and "dose_weighted" not in options["extraction"]:
        twin.images["dose_weighted"] = False  # which no file can say, and no program does
    return request.param, options, series, twin


@pytest.fixture(scope="module")
def stores(twins, tmp_path_factory):
    """Both prepared, each with the sign that its files have by default; `dark` stacks with the other one."""
    _, options, series, twin = twins
    folder = tmp_path_factory.mktemp("prepared")
    unusual = None if "inverted" in options["extraction"] else "premultiplied" in options["extraction"]
    # Raw images divided by their own noise would have another scale.
    plain = {"normalise": (0.0, 1.0), "window": False}
    return (
        write_store(folder / "series", series, **plain),
        write_store(folder / "set", twin, invert=unusual, **plain),
    )


def test_tables_agree(twins):
    """All but what was multiplied in, and where the image lies; to the files' decimals."""
    _, _options, series, twin = twins
    one, other = (
        s.images.drop(columns=["stack", "section", "tilt", "row", "image", *MULTIPLIED_IN]).astype(float)
        for s in (series, twin)
    )
    tolerance = dict.fromkeys(one.columns, 1e-4) | dict.fromkeys(one.filter(like="defocus"), 0.01)
    for column in one:
        np.testing.assert_allclose(one[column], other[column], atol=tolerance[column], err_msg=column)
    assert series.images.groupby("particle").size().nunique() > 1 or len(series.images) < 24 * 11


def test_what_was_multiplied_in(twins):
    _, options, series, twin = twins
    premultiplied = "premultiplied" in options["extraction"]
    cosine = np.cos(np.radians(twin.images["tilt_deg"]))
    scale = cosine if premultiplied and "scaled" in options["extraction"] else 1.0
    assert (twin.images["ctf_premultiplied"] == premultiplied).all()
    assert (twin.images["dose_weighted"] == ("dose_weighted" in options["extraction"])).all()
    np.testing.assert_allclose(twin.images["scale_factor"], scale, atol=1e-6)
    assert (twin.images["dose_b_factor_A2"] == options.get("dose_b_factor_A2", 0.0)).all()
    assert not series.images[["ctf_premultiplied", "dose_weighted"]].any(axis=None)
    assert (series.images["scale_factor"] == 1).all()


@pytest.mark.parametrize("tilt", [False, True])
def test_weights_agree(twins, stores, tilt):
    """The information of an image at each frequency does not depend on how it was extracted."""
    h_and_g = [
        physical_transfer(image_parameters(store.images), store.half_plane, dose=True, tilt=tilt)
        for store in stores
    ]
    raw, extracted = (h * g for h, g in h_and_g)
    torch.testing.assert_close(extracted, raw, rtol=1e-3, atol=1e-5)


def test_noise_levels_are_one(stores):
    """Noise that is white in the recorded images gets the factor 1, whatever was multiplied in."""
    for store in stores:
        np.testing.assert_allclose(relative_noise(store), 1, atol=0.35)
        tilt_deg = store.images["tilt_deg"]
        steep = [relative_noise(store)[mask].mean() for mask in (tilt_deg > 45, tilt_deg < 15)]
        assert steep[0] / steep[1] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("weighted", [False, True])
def test_half_maps_agree(twins, stores, weighted):
    """The same numbers, sign and scale included."""
    one, other = (
        half_maps(
            store,
            np.arange(24),
            recon_dose_weight=weighted,
            recon_tilt_weight=weighted,
            wiener=0.1,
            by="particle",
        )
        for store in stores
    )
    for name in ("half1", "half2", "map"):
        left, right = getattr(one, name), getattr(other, name)
        correlation = np.corrcoef(left.ravel(), right.ravel())[0, 1]
        if weighted:
            assert correlation > 0.999, name
            assert np.std(right) / np.std(left) == pytest.approx(1, abs=0.01), name
        else:  # dose weights that were multiplied in stay as weights
            assert correlation > 0.9, name
    if weighted:
        np.testing.assert_allclose(one.fsc["corrected"], other.fsc["corrected"], atol=0.02)
