"""Check that an image series and a volume series state the poses of one refinement.

A tilt image of rotation R shows a particle of rotation A (particle -> tomogram). R A^T is then the rotation
of the tilt, the same for all particles of a tomogram. If it differs between particles, the two files describe
poses relative to different references, and refined poses for one file do not apply to the other.
"""

import logging

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from tomohet.particles.export import ParticleFile
from tomohet.particles.posed_files import image_rotations
from tomohet.particles.volume_series import poses_and_origins, read_volume_series

ONE_REFINEMENT_DEG = 10.0  # local alignments rotate particles of a tomogram by a few degrees at most

log = logging.getLogger(__name__)


def warn_of_another_refinement(images: ParticleFile, file: ParticleFile) -> None:
    """Log a warning when an image series and the rows of `file` are from different refinements.

    The rows of `file` are numbered as the image series' particles. The refinements differ when half of the
    rows are further than 10 degrees from their tomogram's mean tilt. Each particle's image of the lowest dose
    is compared.

    Raises InputError where a file states no poses, and ValueError unless `images` is an image series.
    """
    if images.tomogram is None:
        raise ValueError(f"{images.path}: expected an image series")
    rotation, dose_e_A2 = image_rotations(images)
    order = np.lexsort((dose_e_A2, images.particle))
    first = order[~pd.Series(images.particle[order]).duplicated().to_numpy()]  # by particle
    known = np.flatnonzero(file.particle >= 0)
    row = first[file.particle[known]]
    pose, _ = poses_and_origins(read_volume_series(file.path))
    tilt = Rotation.from_matrix(rotation[row] @ pose[known].transpose(0, 2, 1))
    tomogram = images.tomogram[file.particle[known]].astype(str)
    exposure = pd.DataFrame({"tomogram": tomogram, "dose": dose_e_A2[row].round(1)})
    apart = []
    for members in exposure.groupby(["tomogram", "dose"]).indices.values():
        if len(members) > 1:
            # The type checker knows no arrays of indices of rotations.
            own: Rotation = tilt[members]  # pyright: ignore[reportArgumentType]
            apart.append((own.mean().inv() * own).magnitude())
    if apart and (found := np.degrees(np.median(np.concatenate(apart)))) > ONE_REFINEMENT_DEG:
        log.warning(
            "%s: its poses are not from the same refinement as %s (%.0f degrees apart), so refined poses are "
            "wrong there; export both files from one refinement",
            file.path, images.path, found,
        )  # fmt: skip
