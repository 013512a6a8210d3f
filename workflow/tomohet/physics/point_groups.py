"""Detection of the point group that relates several poses of one particle."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

# Poses nearer than SAME_DEG are one pose; products of a group's elements are within CLOSED_DEG of an element.
SAME_DEG, CLOSED_DEG = 1.0, 5.0
# Largest angle of refined poses from the rotations of the group.
REFINED_DEG = 15.0
MOST_ROTATIONS = 60
# Smallest fraction of poses related by one element of the group, and by all elements together.
LEAST_SHARE, RELATED = 0.005, 0.9
MOST_POSES = 20_000


@dataclass(frozen=True)
class PointGroup:
    """A group of rotations: name, such as C4, D2 or O, and order."""

    name: str
    order: int

    @property
    def relation(self) -> str:
        """Description in words of the relation between the poses of a particle."""
        if self.name == f"C{self.order}":
            return f"poses {360 / self.order:.4g} degrees apart about one axis"
        return f"poses related by the {self.order} rotations of {self.name}"


def angle_deg(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the angle (...) between rotations (..., 3, 3), in degrees."""
    cosine = (np.einsum("...ij,...ij->...", first, second) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def point_group(relative: np.ndarray) -> PointGroup | None:
    """Find the group to which rotations (m, 3, 3) between poses of the same particles belong, None for none.

    Each rotation is one of a few rotations, or near one of them where poses have been refined since. These
    few, with their inverses and the identity, must be closed.
    """
    relative = relative[:: -(-len(relative) // MOST_POSES)]
    relative = np.concatenate([relative, relative.transpose(0, 2, 1)])
    elements = _few(relative)
    if elements is None or not _closed(elements):
        return None
    name = _name(elements)
    return None if name is None else PointGroup(name, len(elements))


def _few(relative: np.ndarray) -> np.ndarray | None:
    """Find the few distinct rotations (n, 3, 3), the identity first; None where there are many."""
    angles = angle_deg(relative, np.eye(3))
    radius = min(REFINED_DEG, 0.4 * float(np.percentile(angles, 1)))
    elements, left, related = [np.eye(3)], relative, 0
    while len(left):
        if len(elements) > MOST_ROTATIONS:
            return None
        centre = left[0]
        for _ in range(3):
            near = angle_deg(left, centre) < radius
            if not near.any():
                break
            centre = Rotation.from_matrix(left[near]).mean().as_matrix()
        near = angle_deg(left, centre) < radius
        near[0] = True
        if near.sum() >= LEAST_SHARE * len(relative):
            elements.append(centre)
            related += int(near.sum())
        left = left[~near]
    return np.array(elements) if related >= RELATED * len(relative) else None


def _closed(elements: np.ndarray) -> bool:
    products = np.einsum("aij,bjk->abik", elements, elements)[:, :, None]
    return bool((angle_deg(products, elements[None, None]).min(2) < CLOSED_DEG).all())


def _name(elements: np.ndarray) -> str | None:
    """Return the Schoenflies symbol of a closed set of rotations (n, 3, 3), the identity first."""
    order, turns = len(elements), Rotation.from_matrix(elements[1:]).as_rotvec()
    if order < 2:
        return None
    angles = np.degrees(np.linalg.norm(turns, axis=1))
    axes = turns / np.linalg.norm(turns, axis=1, keepdims=True)
    about_one = np.abs(axes @ axes[0]).min() > np.cos(np.radians(2 * CLOSED_DEG))
    if about_one:
        return f"C{order}" if abs(angles.min() - 360 / order) < CLOSED_DEG else None
    largest = round(360 / angles.min())  # order of the highest rotation axis
    cubic = {(12, 3): "T", (24, 4): "O", (60, 5): "I"}
    if (order, largest) in cubic:
        return cubic[order, largest]
    return f"D{order // 2}" if order % 2 == 0 and largest == order // 2 else None
