"""Input and output of atomic models: mmCIF files with one chain per unit, and assemblies from user models."""

from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path
from tomohet.physics.molmap import read_model
from tomohet.simulation.assembly import Assembly, hinge_between
from tomohet.simulation.config import CORE, Block

FREQUENCY_OF_UNNAMED_CHAINS = 0.5


def write_model(path: str | Path, atoms: pd.DataFrame, shift_A: float) -> None:
    """Write atoms (unit, x_A, y_A, z_A, Z) as mmCIF, one chain per unit, one residue per atom.

    shift_A is added to all coordinates: the centre of the box when the origin of the map is voxel (0, 0, 0).
    """
    model = gemmi.Model(1)
    for unit, table in atoms.groupby("unit", sort=False):
        chain = gemmi.Chain(str(unit))
        for number, (x, y, z, atomic_number) in enumerate(
            table[["x_A", "y_A", "z_A", "Z"]].itertuples(index=False, name=None), start=1
        ):
            atom = gemmi.Atom()
            atom.element = gemmi.Element(int(atomic_number))
            atom.name = atom.element.name.upper()
            atom.pos = gemmi.Position(x + shift_A, y + shift_A, z + shift_A)
            residue = gemmi.Residue()
            residue.name, residue.seqid, residue.subchain = "UNK", gemmi.SeqId(str(number)), str(unit)
            residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    structure = gemmi.Structure()
    structure.name = Path(path).stem
    structure.add_model(model)
    structure.setup_entities()
    with atomic_path(path) as temporary:
        structure.make_mmcif_document().write_file(str(temporary))


def assembly_from_model(path: str, blocks: tuple[Block, ...] | None) -> tuple[Assembly, tuple[Block, ...]]:
    """Read the chains of a PDB or mmCIF file as an assembly centred on the origin, and its blocks.

    Chains that `blocks` does not name form the core. Without `blocks` the heaviest chain is the core, and
    each other chain is present with probability 0.5.

    Raises InputError when a named chain is not in the file.
    """
    atoms = read_model(path)[["unit", "x_A", "y_A", "z_A", "Z"]]
    masses = atoms.groupby("unit", sort=False).Z.sum()
    if blocks is None:
        others = [unit for unit in masses.index if unit != masses.idxmax()]
        blocks = tuple(Block(unit, frequency=FREQUENCY_OF_UNNAMED_CHAINS) for unit in others)
    absent = [block.name for block in blocks if block.name not in masses.index]
    if absent:
        raise InputError(
            f"{path}: simulate: blocks: {absent[0]} is not a chain of the model ({', '.join(masses.index)})"
        )
    names = [block.name for block in blocks]
    atoms = atoms.assign(unit=atoms.unit.where(atoms.unit.isin(names), CORE))
    xyz = ["x_A", "y_A", "z_A"]
    atoms[xyz] -= (atoms[xyz].max() + atoms[xyz].min()) / 2
    assembly = Assembly(atoms, None)
    moving = next((block for block in blocks if block.hinge_deg > 0), None)
    if moving is None:
        return assembly, blocks
    rest = atoms.loc[atoms.unit != moving.name, xyz].to_numpy()
    block_xyz = assembly.xyz_A(moving.name)
    outward = block_xyz.mean(axis=0) - rest.mean(axis=0)
    hinge = hinge_between(moving, block_xyz, outward / np.linalg.norm(outward), rest)
    return Assembly(atoms, hinge), blocks
