"""Amplitudes of units and their calibration: worked by hand, and against normal distributions."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import norm

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven import calibration, units
from tomohet.analysis.maven.occupancy import (
    alignment,
    check_dense,
    maven_occupancy,
    of_volumes,
    own_sums,
    unmixed,
    voxels_on,
)
from tomohet.errors import InputError
from tomohet.files.mrc import write_volume

PIXEL = 4.0


def two_units():
    """Neighbours on a line of voxels: each mask holds two voxels of the other unit's density."""
    densities = np.array([[1.0, 3, 3, 2, 0.5, 0, 0, 0], [0, 0, 0.5, 1, 2, 1, 0, 0]])
    masks = np.array([[1.0, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0]])
    table = pd.DataFrame({"unit": ["A", "B"], "mass": densities.sum(axis=1)})
    return units.Units(table, sparse.csr_matrix(masks), sparse.csr_matrix(densities))


def test_the_strongest_unit_of_a_voxel_is_one_of_its_masks():
    found = units.strongest_unit(two_units(), (2, 2, 2)).ravel()
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 1, 1, -1, -1])


@pytest.fixture
def on_solvent(tmp_path):
    """Volumes 2 x 2 x 2 of known amplitudes of `two_units` on solvent of known greys: (ensemble, both)."""
    amplitudes, greys = np.array([[1.0, 1], [1, 0], [0, 1], [4, 2], [-1, 3]]), np.array([0.0, 2, -1, 5, 0.5])
    volumes = amplitudes @ two_units().densities + greys[:, None]
    for number, volume in enumerate(volumes):
        write_volume(tmp_path / f"vol_{number}.mrc", volume.reshape(2, 2, 2), PIXEL)
    return open_ensemble(tmp_path), amplitudes, greys


def test_amplitudes_are_freed_of_solvent_and_neighbours(on_solvent):
    ensemble, amplitudes, greys = on_solvent
    solvent = np.arange(8).reshape(2, 2, 2) >= 6
    measured = of_volumes(ensemble, two_units(), solvent)
    np.testing.assert_allclose(measured.background, greys, atol=1e-6)
    # Unit A's mask: 9 of its own density and 1.5 of B's, on 4 voxels; unit B's: 4 and 2.5 of A's, on 3.
    np.testing.assert_allclose(measured.sums, amplitudes @ [[9, 2.5], [1.5, 4]] + np.outer(greys, [4, 3]))
    np.testing.assert_allclose(own_sums(two_units()), [9, 4])
    np.testing.assert_allclose(unmixed(measured, two_units()), amplitudes, atol=1e-5)
    kept = unmixed(measured, two_units(), subtract_background=False)
    np.testing.assert_allclose(kept[0], amplitudes[0], atol=1e-5)
    # The solvent's part, as if it were density: A x + 1.5 y = 4 and 2.5 x + 4 y = 3 per grey value.
    as_density = np.linalg.solve([[9, 1.5], [2.5, 4]], [4, 3])
    np.testing.assert_allclose(kept - amplitudes, np.outer(greys, as_density), atol=1e-5)


def test_voxels_on_counts_a_masks_voxels_at_or_above_each_volumes_level(tmp_path):
    maps = np.zeros((2, 4, 4, 4), np.float32)
    maps[0].reshape(-1)[:4] = [1, 2, 3, 4]
    maps[1].reshape(-1)[:4] = [5, 0, 5, 0]
    for number, values in enumerate(maps):
        write_volume(tmp_path / f"vol_{number:03}.mrc", values, 2.0)
    masks = np.zeros((2, 64))
    masks[0, :3], masks[1, 2:4] = 1, (0.5, 1)
    of_masks = SimpleNamespace(masks=sparse.csr_matrix(masks))
    counts = voxels_on(open_ensemble(tmp_path), of_masks, np.array([2.0, 5.0]))
    # Volume 0 is on at voxels 1, 2, 3, and volume 1 at voxels 0 and 2.
    assert counts.tolist() == [[2, 1.5], [2, 0.5]]


def test_mavens_occupancy_is_per_units_own_mass():
    """Unit A weighs 9.5, unit B 4.5."""
    sums = np.array([[9.5, 9.0], [19.0, 0.0]])
    np.testing.assert_allclose(maven_occupancy(sums, two_units()), [[1, 2], [2, 0]])


def test_alignment_is_the_correlation_within_the_structure():
    structure = np.array([True] * 6 + [False] * 2).reshape(2, 2, 2)
    model = np.array([1.0, 3, 3.5, 3, 2.5, 1])
    mean = np.array([2.0, 6, 7, 6, 5, 2, 99, -99])
    assert alignment(mean.reshape(2, 2, 2), two_units(), structure) == pytest.approx(1)
    mean[0] = 8
    expected = np.corrcoef(model, mean[:6])[0, 1]
    assert alignment(mean.reshape(2, 2, 2), two_units(), structure) == pytest.approx(expected)


@pytest.mark.parametrize(("mass", "level"), [([5.0, 1.0], 10), ([1.0, 1.0], 9)])
def test_present_level_is_a_median_by_mass_of_the_upper_mode(mass, level):
    """Unit A is at 10 four times in ten, else at 1, which does not count; unit B is at 9 always."""
    amplitudes = np.column_stack([np.where(np.arange(10) < 4, 10.0, 1.0), np.full(10, 9.0)])
    assert calibration.present_level(amplitudes, np.array(mass)).level == level


def test_spread_of_a_present_unit_is_a_standard_deviation():
    """Of normal amplitudes, level 5 and deviation 0.1: 2 %."""
    amplitudes = norm.ppf((np.arange(2000) + 0.5) / 2000, 5, 0.1)[:, None]
    gain = calibration.present_level(amplitudes, np.ones(1))
    assert gain.level == pytest.approx(5, rel=1e-4)
    assert gain.spread == pytest.approx(0.02, rel=0.01)


def test_spread_counts_present_units_alone():
    """Of units at a level of 5 and absent ones at 1: above one half, but not above half the level."""
    amplitudes = np.append(norm.ppf((np.arange(2000) + 0.5) / 2000, 5, 0.1), np.full(1500, 1.0))[:, None]
    assert calibration.present_level(amplitudes, np.ones(1)).spread == pytest.approx(0.02, rel=0.01)


def test_volumes_without_density_are_refused():
    with pytest.raises(InputError, match="not denser in the units than in the solvent"):
        check_dense(np.zeros(3))
    check_dense(np.array([0.0, 1e-6]))


def test_errors_of_the_modes_are_standard_errors_of_their_means():
    """Of 900 absent and 100 present units, width 0.05: 0.05 / 30 and 0.05 / 10."""
    values = np.concatenate([norm.ppf((np.arange(m) + 0.5) / m, at, 0.05) for m, at in ((900, 0), (100, 1))])
    modes = calibration.unit_modes(values[:, None])
    assert modes.low_se[0] == pytest.approx(0.05 / 30, rel=0.03)
    assert modes.high_se[0] == pytest.approx(0.05 / 10, rel=0.03)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_cut_between_modes_is_on_the_scale_of_the_occupancies(share):
    """Modes 0.3 and 0.9 of the level become 0 and 1, their width 0.06 becomes 0.1.

    Two Gaussians of one width weigh the same at 0.5 + width^2 log(share of the lower / of the upper).
    """
    n = 4000
    upper = round(share * n)
    values = np.concatenate(
        [norm.ppf((np.arange(m) + 0.5) / m, mode, 0.06) for m, mode in ((n - upper, 0.3), (upper, 0.9))]
    )
    always = norm.ppf((np.arange(n) + 0.5) / n, 1, 0.01)
    found = calibration.calibrate(7 * np.column_stack([always, values]), np.array([50.0, 1]), "modes")
    occupancy = found(7 * np.column_stack([always, values]))[:, 1]
    assert np.median(occupancy[:-upper]) == pytest.approx(0, abs=0.01)
    assert np.median(occupancy[-upper:]) == pytest.approx(1, abs=0.01)
    expected = 0.5 + 0.1**2 * np.log((1 - share) / share)
    assert found.modes.cut[1] == pytest.approx(expected, abs=0.005)
    assert found.modes.confused[1] < 1e-4 and found.modes.cut[0] == 0.5
