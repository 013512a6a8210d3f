"""The specimen: maps of a core and of blocks; a particle is the sum of the core and the present blocks."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.mrc import read_map
from tomohet.physics.molmap import molmap
from tomohet.simulation.assembly import Assembly, Hinge, build_assembly
from tomohet.simulation.config import (
    CORE,
    DEFAULT_BLOCKS,
    DEFAULT_BOX,
    DEFAULT_PIXEL_SIZE_A,
    Block,
    SimulationConfig,
)
from tomohet.simulation.model_file import assembly_from_model

RESOLUTION_PX = 2.5
DIAMETER_BOXES = 0.65
LARGEST_DIAMETER_BOXES = 0.9
# A block's mask is where its density exceeds this fraction of its maximum.
MASK_FRACTION = 0.15


@dataclass(frozen=True)
class Specimen:
    """The maps from which particles are composed.

    core : (D, D, D) float32 map [z, y, x]
    blocks : (b, D, D, D) maps, the moving one at angle 0
    exclusive : whether the blocks are whole maps, of which a particle is exactly one
    atoms, hinge : where there is a model
    """

    core: np.ndarray
    blocks: np.ndarray
    settings: tuple[Block, ...]
    pixel_size_A: float
    exclusive: bool = False
    resolution_A: float | None = None
    atoms: pd.DataFrame | None = None
    hinge: Hinge | None = None

    @property
    def box(self) -> int:
        """Box edge D in pixels."""
        return self.core.shape[-1]

    @property
    def names(self) -> list[str]:
        """Names of the blocks."""
        return [block.name for block in self.settings]

    @property
    def moving(self) -> int | None:
        """Index of the moving block."""
        return None if self.hinge is None else self.names.index(self.hinge.unit)

    def masks(self) -> np.ndarray:
        """Return (b, D, D, D) bool: the region of each block, at angle 0."""
        highest = self.blocks.max(axis=(1, 2, 3), keepdims=True)
        return self.blocks > MASK_FRACTION * highest

    def scaled(self, factor: float) -> "Specimen":
        """Return the specimen with all densities multiplied by `factor`."""
        return replace(self, core=self.core * np.float32(factor), blocks=self.blocks * np.float32(factor))


def make_specimen(config: SimulationConfig, rng: np.random.Generator) -> Specimen:
    """Make the specimen of a configuration: generated, from a model file, or from maps.

    Raises InputError when maps disagree or the assembly does not fit into the box.
    """
    if config.maps:
        return _from_maps(config)
    box = config.box or DEFAULT_BOX
    pixel_size_A = config.pixel_size or DEFAULT_PIXEL_SIZE_A
    if config.model:
        assembly, blocks = assembly_from_model(config.model, config.blocks)
    else:
        blocks = DEFAULT_BLOCKS if config.blocks is None else config.blocks
        diameter_A = config.diameter_A or DIAMETER_BOXES * box * pixel_size_A
        assembly = build_assembly(blocks, config.n_atoms, diameter_A, rng)
    _refuse_too_large(assembly, box, pixel_size_A)
    resolution_A = config.resolution_A or RESOLUTION_PX * pixel_size_A
    maps = {
        unit: density(
            assembly.xyz_A(unit),
            assembly.atoms.Z[assembly.atoms.unit == unit].to_numpy(),
            resolution_A,
            box,
            pixel_size_A,
        )
        for unit in assembly.units
    }
    return Specimen(
        core=maps.get(CORE, np.zeros((box,) * 3, np.float32)),
        blocks=np.array([maps[block.name] for block in blocks], np.float32).reshape(-1, box, box, box),
        settings=blocks,
        pixel_size_A=pixel_size_A,
        resolution_A=resolution_A,
        atoms=assembly.atoms,
        hinge=assembly.hinge,
    )


def density(
    xyz_A: np.ndarray, weights: np.ndarray, resolution_A: float, box: int, pixel_size_A: float
) -> np.ndarray:
    """Compute the map (D, D, D) of atoms around the origin (voxel D//2), integrated over voxels."""
    origin_A = np.full(3, -(box // 2) * pixel_size_A)
    return molmap(xyz_A, weights.astype(float), resolution_A, box, pixel_size_A, origin_A, mode="integrated")


def _from_maps(config: SimulationConfig) -> Specimen:
    volumes, pixel_sizes = zip(*(read_map(path) for path in config.maps), strict=True)
    shape, pixel_size_A = volumes[0].shape, pixel_sizes[0]
    for path, volume, size in zip(config.maps, volumes, pixel_sizes, strict=True):
        if len(set(volume.shape)) != 1 or volume.shape[0] % 2:
            raise InputError(f"{path}: expected a cubic map with an even edge, found shape {volume.shape}")
        if volume.shape != shape or abs(size - pixel_size_A) > 1e-3:
            raise InputError(
                f"{path}: box {volume.shape[0]} px at {size:g} Å/px, but {config.maps[0]} has {shape[0]} px "
                f"at {pixel_size_A:g} Å/px; resample the maps to one grid"
            )
    for key, asked, found in (("box", config.box, shape[0]), ("pixel_size", config.pixel_size, pixel_size_A)):
        if asked is not None and abs(asked - found) > 1e-3:
            raise InputError(f"simulate: {key} is {asked:g}, but the maps have {found:g}; leave it out")
    frequencies = np.array(config.map_frequencies or [1.0] * len(volumes))
    blocks = tuple(
        Block(f"map{i}", frequency=float(f)) for i, f in enumerate(frequencies / frequencies.sum(), start=1)
    )
    return Specimen(np.zeros(shape, np.float32), np.stack(volumes), blocks, pixel_size_A, exclusive=True)


def _refuse_too_large(assembly: Assembly, box: int, pixel_size_A: float) -> None:
    xyz_A = assembly.atoms[["x_A", "y_A", "z_A"]].to_numpy()
    diameter_A = 2 * np.linalg.norm(xyz_A, axis=1).max()
    if diameter_A > LARGEST_DIAMETER_BOXES * box * pixel_size_A:
        raise InputError(
            f"simulate: the assembly is {diameter_A:.0f} Å wide, but the box of {box} px is only "
            f"{box * pixel_size_A:.0f} Å and must exceed it by a tenth; enlarge box or pixel_size"
        )
