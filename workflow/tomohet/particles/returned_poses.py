"""Poses that another program has refined replace those of the input, particle by particle.

A tilt image is recognised by its stack and section. Where the other program has extracted the images again,
it is recognised by its particle's name and its place in the tilt series, and the particle must still have
the coordinates at which its images were cut out. Order and number of rows, and other columns, do not matter.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from tomohet.errors import InputError
from tomohet.particles.copies import COPY_OF
from tomohet.particles.positions import POSITION_COLUMNS
from tomohet.particles.table import ROTATION_COLUMNS, ParticleSet

SAME_PLACE_PX = 0.1  # coordinates that differ by less are one place, up to the rounding of the file
SAME_DOSE_E_A2 = 0.05  # doses that differ by less belong to one exposure
CHANGED_DEG, CHANGED_A = 1e-3, 1e-3  # smaller changes are the rounding of the file
SHIFT_COLUMNS = ["shift_x_px", "shift_y_px"]


def with_returned_poses(
    particle_set: ParticleSet, returned: ParticleSet, keep: np.ndarray
) -> tuple[ParticleSet, dict[str, Any]]:
    """Replace rotations and shifts of the images `keep` (bool) of a set by those of the set `returned`.

    Return the set, and for the record: n_particles, n_changed (particles), and the median and largest
    rotation (degrees) and shift of the images (Å) of the particles that changed.

    Raises InputError when an image of `keep` is not in the returned file, the file has particles that the
    input lacks, or a particle's images were cut out elsewhere.
    """
    if COPY_OF in particle_set.particles:
        _refuse(
            returned, "the input is symmetry-expanded, expected each particle once; prepare the file itself"
        )
    row, by_image = matching_rows(particle_set, returned)
    _refuse_missing(particle_set, returned, row, keep)
    _refuse_unknown(particle_set, returned, row)
    _refuse_other_exposures(particle_set, returned, row, keep)
    _refuse_moved(particle_set, returned, row, keep, by_image)
    images, theirs = particle_set.images, returned.images.iloc[row[keep]]
    scale = theirs["pixel_size_A"].to_numpy() / images["pixel_size_A"].to_numpy()[keep]
    rotation = theirs[list(ROTATION_COLUMNS)].to_numpy(np.float64)
    shift_px = theirs[SHIFT_COLUMNS].to_numpy(np.float64) * scale[:, None]
    changes = _changes(images[keep], rotation.reshape(-1, 3, 3), shift_px)
    posed = images.copy()
    posed.loc[keep, list(ROTATION_COLUMNS)] = rotation
    posed.loc[keep, SHIFT_COLUMNS] = shift_px
    return replace(particle_set, images=posed), changes


def matching_rows(particle_set: ParticleSet, returned: ParticleSet) -> tuple[np.ndarray, bool]:
    """Return the row (m,) of `returned.images` that shows the same tilt image as each image of a set, or -1.

    Also return whether images were recognised by stack and section, else by the particle's name and tilt.

    Raises InputError when one key stands for several images of the returned file.
    """
    by_image = _row_of(_by_image(particle_set), _by_image(returned), returned)
    if (by_image >= 0).any():
        return by_image, True
    return _row_of(_by_name(particle_set), _by_name(returned), returned), False


def _by_image(particle_set: ParticleSet) -> pd.MultiIndex:
    """Return stack and section of each image; links to a stack count as the stack."""
    stacks = particle_set.images["stack"]
    real = {stack: os.path.realpath(stack) for stack in stacks.unique()}
    return pd.MultiIndex.from_arrays([stacks.map(real).astype(str), particle_set.images["section"]])


def _by_name(particle_set: ParticleSet) -> pd.MultiIndex:
    """Return tomogram, particle's name and place in the tilt series of each image."""
    images = particle_set.images
    particles = particle_set.particles.iloc[images["particle"].to_numpy()]
    names = [particles["tomogram"].astype(str).to_numpy(), particles["source_id"].astype(str).to_numpy()]
    return pd.MultiIndex.from_arrays([*names, images["tilt"].to_numpy()])


def _row_of(keys: pd.MultiIndex, theirs: pd.MultiIndex, returned: ParticleSet) -> np.ndarray:
    if theirs.has_duplicates:
        twice = theirs[theirs.duplicated()][0]
        _refuse(returned, f"image {' '.join(map(str, twice))} is in several rows, expected each image once")
    return theirs.get_indexer(keys)


def _refuse_missing(
    particle_set: ParticleSet, returned: ParticleSet, row: np.ndarray, keep: np.ndarray
) -> None:
    """Raise InputError unless each image of `keep` is in the returned file."""
    lacking = keep & (row < 0)
    if not lacking.any():
        return
    particle = particle_set.images["particle"].to_numpy()
    first = particle_set.particles["source_id"].iloc[particle[lacking][0]]
    _refuse(
        returned,
        f"{len(np.unique(particle[lacking])):,} of {len(np.unique(particle[keep])):,} particles to prepare "
        f"are not in it with all their tilt images ({int(lacking.sum()):,} images), the first is `{first}`; "
        "give a file of all these particles, or select those of the file by --ind-ptcls",
    )


def _refuse_unknown(particle_set: ParticleSet, returned: ParticleSet, row: np.ndarray) -> None:
    """Raise InputError when the returned file has particles that the input lacks."""
    theirs = returned.images["particle"].to_numpy()
    unknown = np.setdiff1d(theirs, theirs[row[row >= 0]])
    if len(unknown):
        _refuse(
            returned,
            f"{len(unknown):,} of its {len(returned.particles):,} particles are not in "
            f"{particle_set.source}, the first is `{returned.particles['source_id'].iloc[unknown[0]]}`; give "
            "the poses of particles of this input, or prepare the file itself as another dataset",
        )


def _refuse_other_exposures(
    particle_set: ParticleSet, returned: ParticleSet, row: np.ndarray, keep: np.ndarray
) -> None:
    """Raise InputError when an image has another dose in the returned file: another tilt of the series."""
    own = particle_set.images["dose_e_A2"].to_numpy()[keep]
    theirs = returned.images["dose_e_A2"].to_numpy()[row[keep]]
    other = np.abs(theirs - own) > SAME_DOSE_E_A2
    if other.any():
        first = int(np.argmax(other))
        particle = particle_set.images["particle"].to_numpy()[keep][first]
        _refuse(
            returned,
            f"an image of `{particle_set.particles['source_id'].iloc[particle]}` has a dose of "
            f"{theirs[first]:g} e/Å², expected {own[first]:g} as in the input; give a file of the same "
            "images",
        )


def _refuse_moved(
    particle_set: ParticleSet, returned: ParticleSet, row: np.ndarray, keep: np.ndarray, by_image: bool
) -> None:
    """Raise InputError when a particle's coordinates are not those at which its images were cut out."""
    own = particle_set.images["particle"].to_numpy()[keep]
    theirs = returned.images["particle"].to_numpy()[row[keep]]
    here_A = particle_set.particles[POSITION_COLUMNS].to_numpy(np.float64)[own]
    there_A = returned.particles[POSITION_COLUMNS].to_numpy(np.float64)[theirs]
    moved_A = np.linalg.norm(there_A - here_A, axis=1)
    mend = "extract the images at these coordinates and prepare the file itself"
    if not by_image and np.isnan(moved_A).any():
        _refuse(
            returned,
            "its images are in other stacks than those of the input, and no coordinates tell whether they "
            f"were cut out at the same places; {mend}",
        )
    far = moved_A > SAME_PLACE_PX * particle_set.images["pixel_size_A"].to_numpy()[keep]
    if far.any():
        worst = int(np.nanargmax(moved_A))
        _refuse(
            returned,
            f"the coordinates of {len(np.unique(own[far])):,} particles differ from those of the input, the "
            f"most by {moved_A[worst]:.1f} Å (`{particle_set.particles['source_id'].iloc[own[worst]]}`), "
            f"expected changed angles and shifts alone; {mend}",
        )


def _changes(images: pd.DataFrame, rotation: np.ndarray, shift_px: np.ndarray) -> dict[str, Any]:
    """Measure by particle how new rotations (m, 3, 3) and shifts (m, 2) differ from those of images."""
    stated = images[list(ROTATION_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)
    turn = Rotation.from_matrix(stated).inv() * Rotation.from_matrix(rotation)
    move_px = np.linalg.norm(shift_px - images[SHIFT_COLUMNS].to_numpy(np.float64), axis=1)
    of_images = pd.DataFrame(
        {
            "particle": images["particle"].to_numpy(),
            "rotation_deg": np.degrees(turn.magnitude()),
            "shift_A": move_px * images["pixel_size_A"].to_numpy(),
        }
    )
    of_particles = of_images.groupby("particle").max()
    changed = of_particles[
        (of_particles["rotation_deg"] > CHANGED_DEG) | (of_particles["shift_A"] > CHANGED_A)
    ]
    counts: dict[str, Any] = {"n_particles": len(of_particles), "n_changed": len(changed)}
    for column, values in changed.items():
        counts[f"median_{column}"] = float(values.median()) if len(values) else 0.0
        counts[f"largest_{column}"] = float(values.max()) if len(values) else 0.0
    return counts


def _refuse(returned: ParticleSet, why: str) -> NoReturn:
    raise InputError(f"--poses-from {Path(returned.source)}: {why}")
