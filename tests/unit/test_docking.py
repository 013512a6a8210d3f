"""Whitened correlation of a model and a map, and its maximum from anywhere."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from walking_model import BOX, PIXEL, drawn, positions, walking_model

from tomohet.files.grids import MapGrid
from tomohet.physics import docking, model_match
from tomohet.physics.masks import sphere_mask
from tomohet.physics.model_match import Placement


@pytest.fixture(scope="module")
def atoms():
    return walking_model()


def test_correlation_is_that_of_the_whitened_densities(atoms):
    few = atoms[::7]
    volume = drawn(atoms, noise=1.0)
    box = BOX
    # The transform of the points by direct summation, on all of Fourier space.
    k = np.fft.fftfreq(box)
    phase = [np.exp(-2j * np.pi * np.outer(k, positions(few)[:, axis] / PIXEL)) for axis in range(3)]
    model = np.einsum("xa,ya,za,a->zyx", *phase, few.Z.to_numpy(), optimize=True)
    mapped = np.fft.fftn((volume - np.median(volume)) * sphere_mask(box, edge_px=3.0))
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    shell = np.ceil(radius * box - 1e-4).astype(int)
    cross = powers = 0.0
    for number in range(1, box // 2 + 1):
        members = (shell == number) & (radius < 0.5)
        taper = np.exp(-2 * (model_match.RESOLUTION_PX * radius[members]) ** 2)
        rms = [np.sqrt((np.abs(part[shell == number]) ** 2).mean()) for part in (model, mapped)]
        cross += (taper * (model.conj() * mapped)[members].real).sum() / np.prod(rms)
        powers += np.array(
            [
                (taper * np.abs(p[members]) ** 2).sum() / r**2
                for p, r in zip((model, mapped), rms, strict=True)
            ]
        )
    expected = cross / np.sqrt(powers.prod())

    pair = model_match.compare(positions(few), few.Z.to_numpy(), volume, PIXEL, (0, 0, 0))
    assert model_match.correlation(pair) == pytest.approx(expected, rel=0.02)
    assert 0.2 < expected < 0.9


def test_rotations_cover_all_orientations_evenly():
    grid = docking.spread_rotations(docking.ROTATIONS)
    asked = Rotation.random(300, random_state=0).as_matrix()
    cosines = np.einsum("nij,mij->nm", asked, grid) / 2 - 0.5
    nearest = np.degrees(np.arccos(np.clip(cosines, -1, 1))).min(axis=1)
    assert nearest.max() < 14
    np.testing.assert_allclose(grid @ grid.mT, np.broadcast_to(np.eye(3), grid.shape), atol=1e-12)


def test_left_jacobian_is_the_derivative_of_a_rotation():
    vector, step = np.array([0.5, -0.7, 0.3]), 1e-6
    start = Rotation.from_rotvec(vector).inv()
    columns = [(Rotation.from_rotvec(vector + step * e) * start).as_rotvec() / step for e in np.eye(3)]
    np.testing.assert_allclose(docking.left_jacobian(vector), np.stack(columns, axis=1), atol=1e-5)
    np.testing.assert_allclose(docking.left_jacobian(1e-9 * vector), np.eye(3), atol=1e-8)


def test_the_best_shift_is_where_the_model_lies(atoms):
    """In a map of atoms that were moved away, farther along some axes than along others."""
    away_A = np.array([24.0, -12.0, -18.0])
    x, y, z = (positions(atoms) + away_A).T
    there = drawn(atoms.assign(x_A=x, y_A=y, z_A=z))
    pair = model_match.compare(positions(atoms), atoms.Z.to_numpy(), there, PIXEL, (0, 0, 0), binned=True)
    places_A, peaks = docking.best_shifts(pair, np.stack([np.eye(3), np.diag([1.0, -1, -1])]))
    assert np.abs(places_A[0] - (pair.centre_A + away_A)).max() <= PIXEL / 2 + 0.5
    assert peaks[0] > 2 * peaks[1]


def test_the_gradient_of_the_refinement_is_that_of_its_cost(atoms, monkeypatch):
    """In a field sin(a p) of known slopes, far from the start."""
    pair = model_match.compare(positions(atoms), atoms.Z.to_numpy(), drawn(atoms), PIXEL, (0, 0, 0))
    a = np.array([0.12, 0.2, -0.15])
    fields = {"value": lambda p: np.sin(p @ a)}
    fields |= {axis: lambda p, s=slope: s * np.cos(p @ a) for axis, slope in zip("xyz", a, strict=True)}
    monkeypatch.setattr(docking, "sample", lambda name, voxels: fields[name](voxels))
    at, step = np.array([0.3, -0.2, 0.4, 2.0, -3.0, 2.5]), 1e-5

    def checked(cost, start, **_):
        slopes = [(cost(at + step * e)[0] - cost(at - step * e)[0]) / (2 * step) for e in np.eye(6)]
        assert np.abs(slopes).min() > 0.02 * np.abs(slopes).max()
        np.testing.assert_allclose(cost(at)[1], slopes, rtol=1e-4)
        return SimpleNamespace(x=start, fun=cost(start)[0])

    monkeypatch.setattr(docking, "minimize", checked)
    docking.refine(replace(pair, field="value", slopes=tuple("xyz")), np.eye(3), pair.centre_A)


def test_refinement_climbs_back(atoms):
    pair = model_match.compare(positions(atoms), atoms.Z.to_numpy(), drawn(atoms), PIXEL, (0, 0, 0))
    off = Rotation.from_rotvec(np.radians([6, -5, 4])).as_matrix()
    placement, score = docking.refine(pair, off, pair.centre_A + np.array([3.0, 2.0, -3.0]))
    placed = placement.move(positions(atoms))
    assert np.sqrt(((placed - positions(atoms)) ** 2).sum(axis=1).mean()) < 0.3
    assert score > 0.95
    kept, _ = docking.refine(pair, off, pair.centre_A, turn=False)
    np.testing.assert_array_equal(kept.rotation, off)


def test_the_search_turns_with_the_model(atoms):
    mean = drawn(atoms, noise=1.0)
    weights = atoms.Z.to_numpy()
    turned = Placement(Rotation.from_rotvec([0.3, 1.1, -0.4]).as_matrix(), np.array([5.0, 60.0, -20.0]))
    here = docking.search(positions(atoms), weights, mean, PIXEL, (0, 0, 0), rotations=1500)
    there = docking.search(turned.move(positions(atoms)), weights, mean, PIXEL, (0, 0, 0), rotations=1500)
    one, other = here[0][0].move(positions(atoms)), there[0][0].move(turned.move(positions(atoms)))
    assert np.abs(one - other).max() < 1.0
    assert here[0][1] == pytest.approx(there[0][1], abs=0.02)
    again = docking.search(positions(atoms), weights, mean, PIXEL, (0, 0, 0), rotations=1500)
    np.testing.assert_array_equal(again[0][0].rotation, here[0][0].rotation)


def test_odd_boxes_and_boxes_that_are_cropped(atoms):
    for box, pixel in ((33, 6.0), (120, 2.0)):
        grid = MapGrid((box,) * 3, pixel, (-8.0, 3.0, 0.0))
        mean = drawn(atoms, grid)
        pair = model_match.compare(positions(atoms), atoms.Z.to_numpy(), mean, pixel, grid.origin_A)
        _, score = docking.refine(pair, np.eye(3), pair.centre_A)
        assert score > 0.9
        assert model_match.correlation(pair) > 0.98 * score
