"""Particle orientations: RELION Euler angles and rotation matrices (volume -> image)."""

import numpy as np
from scipy.spatial.transform import Rotation


def euler_to_matrix(rot_deg: np.ndarray, tilt_deg: np.ndarray, psi_deg: np.ndarray) -> np.ndarray:
    """Return the rotation (..., 3, 3) from volume to image coordinates, float64.

    R = Rz(psi) Ry(tilt) Rz(rot) with Rz(t) = [[c, s, 0], [-s, c, 0], [0, 0, 1]] and Ry(t) = [[c, 0, -s], [0,
    1, 0], [s, 0, c]]: RELION's Euler matrix (Heymann et al. 2005, J. Struct. Biol.). Angles broadcast against
    each other.
    """
    rot, tilt, psi = np.broadcast_arrays(
        *(np.deg2rad(np.asarray(a, float)) for a in (rot_deg, tilt_deg, psi_deg))
    )
    ca, sa, cb, sb, cg, sg = np.cos(rot), np.sin(rot), np.cos(tilt), np.sin(tilt), np.cos(psi), np.sin(psi)
    rows = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_euler(matrix: np.ndarray) -> np.ndarray:
    """Return RELION angles (rot, tilt, psi) in degrees (..., 3) of rotations (..., 3, 3); tilt is in 0..180.

    At tilt 0 or 180 only the sum or difference of rot and psi is defined; psi is then 0.
    """
    matrix = np.asarray(matrix, float)
    sin_tilt = np.hypot(matrix[..., 2, 0], matrix[..., 2, 1])
    tilt = np.arctan2(sin_tilt, matrix[..., 2, 2])
    degenerate = sin_tilt < 1e-9
    rot = np.where(
        degenerate,
        np.arctan2(-matrix[..., 1, 0], matrix[..., 1, 1]),
        np.arctan2(matrix[..., 2, 1], matrix[..., 2, 0]),
    )
    psi = np.where(degenerate, 0.0, np.arctan2(matrix[..., 1, 2], -matrix[..., 0, 2]))
    return np.rad2deg(np.stack([rot, tilt, psi], axis=-1))


def random_rotations(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` uniformly distributed rotations (n, 3, 3), float64."""
    return Rotation.random(n, rng=rng).as_matrix()


def corrected_poses(rotation: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply pose errors (m, 6) of particles to the poses of their images.

    error : rotation vector (rad) and shift (px) that take the stated pose to the true one, along the axes of
        the stated pose

    Returns rotations (m, 3, 3), volume -> image, and additional shifts (m, 2) x, y in px to apply to the
    images. A particle displaced by d appears displaced by R d in the image, which is shifted back.
    """
    turned = rotation @ Rotation.from_rotvec(error[:, :3]).as_matrix()
    return turned, -np.einsum("mij,mj->mi", rotation[:, :2], error[:, 3:])
