"""The truth of a simulation, in one truth.npz.

Keys, for n particles in the order of the STAR files, b blocks, s states, box D:

particle_id, particle_name (n,) text: rlnGroupName of the image series, rlnTomoParticleName of the set
block_names (b,), block_frequency (b,), block_host (b,) text, empty for none
presence (n, b) bool; state (n,) int, row of state_presence (s, b) bool, the most frequent state first
angle_deg (n,): how far the moving block has turned; moving_block: its index, -1 for none
hinge_point_A (3,), hinge_axis (3,), x, y, z about the centre of the box; hinge_limit_deg
moving_xyz_A (a, 3), moving_Z (a,): atoms of the moving block at angle 0; resolution_A of all maps
core_map (D, D, D), block_maps (b, D, D, D): [z, y, x], the moving block at angle 0; in units of the images:
    the transform of a raw image is minus the transfer function times the slice of the particle's map
block_masks (b, D, D, D) bool
rotation (n, 3, 3): particle in its tomogram; origin_px (n, 3); tomogram (n,) text
noise_std of the raw images; snr asked for and snr_measured; clean_variance: mean over all visible images
pose_rotvec_deg (n, 3), w: the files state the rotation R exp([w]x) of a particle whose true one is R
pose_shift_A (n, 3), d: the files state an origin that is off by R d. rotation and origin_px are the true ones
tilt_shift_A (n, t, 2), x and y: how far the content of each tilt image lies from where the files say, hidden
    tilts included, in the order of the stage angle
defocus_error_A (tomograms by name, t): stated minus true defocus of each tilt
preferred_direction (3,): the direction in the particle along which it prefers to be seen, 0 for none
neighbour_particle (q,): row of the particle that each neighbour touches; neighbour_offset_A (q, 3) between
    their centres and neighbour_rotation (q, 3, 3), both in the axes of the tomogram; neighbour_presence
    (q, b) and neighbour_angle_deg (q,): its state
background_gain: times `simulation.background.background_field` of a particle (seed, row, D) is the density
    around it, [z, y, x] in the axes of its tomogram; background_variance: mean over all visible images
density_scale: units of the maps per atomic number / Å^3
pixel_size_A; amplitude_loss: cos(tilt) is in the transfer; exclusive: blocks are whole maps, one per particle
seed
"""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.arrays import read_arrays
from tomohet.files.atomic import atomic_path
from tomohet.files.digests import sealed
from tomohet.simulation.assembly import Hinge
from tomohet.simulation.config import Block
from tomohet.simulation.specimen import Specimen, density


@dataclass(frozen=True)
class Truth:
    """Contents of truth.npz; fields are its keys, explained at the top of this module."""

    particle_id: np.ndarray
    particle_name: np.ndarray
    block_names: np.ndarray
    block_frequency: np.ndarray
    block_host: np.ndarray
    presence: np.ndarray
    state: np.ndarray
    state_presence: np.ndarray
    angle_deg: np.ndarray
    moving_block: int
    hinge_point_A: np.ndarray
    hinge_axis: np.ndarray
    hinge_limit_deg: float
    moving_xyz_A: np.ndarray
    moving_Z: np.ndarray
    resolution_A: float
    core_map: np.ndarray
    block_maps: np.ndarray
    block_masks: np.ndarray
    rotation: np.ndarray
    origin_px: np.ndarray
    tomogram: np.ndarray
    noise_std: float
    snr: float
    snr_measured: float
    clean_variance: float
    density_scale: float
    pixel_size_A: float
    amplitude_loss: bool
    exclusive: bool
    seed: int
    # None where the file is from a version without these fields.
    pose_rotvec_deg: np.ndarray | None = None
    pose_shift_A: np.ndarray | None = None
    tilt_shift_A: np.ndarray | None = None
    defocus_error_A: np.ndarray | None = None
    preferred_direction: np.ndarray | None = None
    neighbour_particle: np.ndarray | None = None
    neighbour_offset_A: np.ndarray | None = None
    neighbour_rotation: np.ndarray | None = None
    neighbour_presence: np.ndarray | None = None
    neighbour_angle_deg: np.ndarray | None = None
    background_gain: float | None = None
    background_variance: float | None = None

    def save(self, path: str | Path) -> None:
        """Write the npz file, atomically."""
        with sealed(Path(path)), atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file, **{name: value for name, value in vars(self).items() if value is not None}
            )

    def specimen(self) -> Specimen:
        """Return the specimen in image units, without the atoms of its fixed blocks."""
        names, hosts = self.block_names.tolist(), self.block_host.tolist()
        blocks = tuple(
            Block(name, frequency=float(frequency), host=host or None)
            for name, frequency, host in zip(names, self.block_frequency, hosts, strict=True)
        )
        hinge = None
        if self.moving_block >= 0:
            hinge = Hinge(names[self.moving_block], self.hinge_point_A, self.hinge_axis, self.hinge_limit_deg)
        return Specimen(
            core=self.core_map,
            blocks=self.block_maps,
            settings=blocks,
            pixel_size_A=self.pixel_size_A,
            exclusive=self.exclusive,
            resolution_A=self.resolution_A,
            hinge=hinge,
        )

    def volume(self, presence: np.ndarray, angle_deg: float = 0.0) -> np.ndarray:
        """Return the map (D, D, D) of the blocks in `presence` (b,), the moving one rotated by the angle."""
        weights = np.asarray(presence, np.float32).copy()
        volume = self.core_map.copy()
        if self.moving_block >= 0 and weights[self.moving_block] and angle_deg:
            weights[self.moving_block] = 0
            volume += self.moving_map(angle_deg)
        return volume + np.tensordot(weights, self.block_maps, axes=1)

    def particle_volume(self, particle: int) -> np.ndarray:
        """Map (D, D, D) of one particle."""
        return self.volume(self.presence[particle], float(self.angle_deg[particle]))

    def state_volume(self, state: int) -> np.ndarray:
        """Map (D, D, D) of one state, the moving block at angle 0."""
        return self.volume(self.state_presence[state])

    def moving_map(self, angle_deg: float) -> np.ndarray:
        """Return the map (D, D, D) of the moving block, rendered again from its rotated atoms."""
        turned = self.specimen().hinge.turned(self.moving_xyz_A, angle_deg)
        box = self.core_map.shape[-1]
        return self.density_scale * density(turned, self.moving_Z, self.resolution_A, box, self.pixel_size_A)

    def rows_of(self, source_ids: np.ndarray) -> np.ndarray:
        """Return the rows (m,) of particles given by the ids of either dialect.

        Raises InputError when an id is not from this simulation.
        """
        names = np.concatenate([self.particle_id, self.particle_name])
        order = np.argsort(names)
        ids = np.asarray(source_ids).astype(str)
        place = order[np.searchsorted(names, ids, sorter=order).clip(max=len(names) - 1)]
        if (wrong := np.flatnonzero(names[place] != ids)).size:
            raise InputError(f"particle {ids[wrong[0]]} is not in truth.npz: is it from another simulation?")
        return place % len(self.particle_id)


def load_truth(path: str | Path) -> Truth:
    """Read truth.npz. Raises InputError when it is missing or something else."""
    arrays = read_arrays(path)
    known = [f.name for f in fields(Truth) if f.name in arrays]
    if missing := {f.name for f in fields(Truth) if f.default is MISSING} - set(known):
        raise InputError(f"{path}: not the truth of a simulation: it lacks {', '.join(sorted(missing))}")
    return Truth(**{name: v.item() if (v := arrays[name]).ndim == 0 else v for name in known})
