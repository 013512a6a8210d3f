"""The fraction of a latent's map that is a rigid movement of the whole particle."""

import logging

import numpy as np
import pytest
import torch
from analysis_fakes import store
from scipy.ndimage import affine_transform, shift
from scipy.spatial.transform import Rotation

from tomohet.analysis import leaks
from tomohet.analysis.latent import PrincipalComponents
from tomohet.analysis.movement import component_maps, movement_shares

BOX = 24


def blob(x: float, y: float, z: float, width: float = 2.0) -> np.ndarray:
    axes = np.indices((BOX,) * 3) - BOX // 2
    return np.exp(-sum((a - c) ** 2 for a, c in zip(axes, (z, y, x), strict=True)) / (2 * width**2))


MEAN = blob(0, 0, 0, 3.0) + blob(4, 1, -2) + blob(-2, -5, 3)


def turned(degrees: float) -> np.ndarray:
    """The mean map turned about an axis, by interpolation: no tangent is used."""
    matrix = Rotation.from_rotvec(degrees * np.array([0.2, 0.9, -0.4]), degrees=True).as_matrix()
    centre = np.full(3, BOX // 2)
    return affine_transform(MEAN, matrix, centre - matrix @ centre, order=3)


def shares(*maps: np.ndarray) -> np.ndarray:
    return movement_shares(torch.as_tensor(np.stack(maps)), torch.as_tensor(MEAN))


def test_a_particle_that_turns_or_moves_is_movement_and_a_block_is_not():
    moved = shift(MEAN, (0.2, -0.1, 0.3), order=3)
    found = shares(turned(2) - MEAN, moved - MEAN, blob(-6, 4, 2, 1.5), MEAN)
    assert (found[:2] > 0.98).all() and (found[2:] < 0.1).all()


def test_a_mixture_has_its_share():
    movement, block = turned(2) - MEAN, blob(-6, 4, 2, 1.5)
    movement, block = movement / np.linalg.norm(movement), block / np.linalg.norm(block)
    assert shares(movement + block)[0] == pytest.approx(0.5, abs=0.1)
    assert shares(2 * movement + block)[0] == pytest.approx(0.8, abs=0.1)


class Turning:
    """A decoder whose first latent turns the particle and whose second adds a block."""

    box, device = BOX, torch.device("cpu")

    def decode(self, z, box):
        assert box == BOX
        for first, second in z.tolist():
            yield torch.as_tensor(turned(first) + second * blob(-6, 4, 2, 1.5))[None]


def test_components_of_a_network_are_decoded():
    """Components that are latents, and one that mixes them."""
    scores = np.random.default_rng(0).normal(size=(50, 2)) * [2, 1]
    straight = PrincipalComponents(scores, np.eye(2), np.zeros(2), np.ones(2) / 2)
    first, second = movement_shares(*component_maps(Turning(), straight, 2))
    assert first > 0.95 and second < 0.1
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    mixed = PrincipalComponents(scores, np.array([[c, s], [-s, c]]), np.zeros(2), np.ones(2) / 2)
    found = movement_shares(*component_maps(Turning(), mixed, 2))
    expected = shares(turned(c) - turned(-c) + 2 * s * blob(-6, 4, 2, 1.5))[0]
    assert found[0] == pytest.approx(expected, rel=0.15)


def test_the_audit_says_so_in_its_table_and_in_words(caplog):
    made = store(60)
    score = np.random.default_rng(1).normal(size=(60, 2))
    audit = leaks.audit(score, leaks.nuisances(made, np.arange(60)))
    with caplog.at_level(logging.WARNING):
        found = leaks.with_movement(audit, np.array([0.84, 0.1]))
        leaks.warn(found)
    assert "84 % of the map of component 1 is a movement of the whole particle" in caplog.text
    assert "component 2" not in caplog.text
    (line,) = [line for line in leaks.describe(found) if line["nuisance"] == "movement"]
    assert line["verdict"] == "look" and line["pc"] == 1 and line["explained"] == 0.84 and line["p"] is None
    assert len(found.tests) == len(audit.tests) + 2 and list(found.tests) == list(audit.tests)
    assert leaks.with_movement(audit, np.array([0.3, 0.1])).verdicts["movement"] == "clean"
