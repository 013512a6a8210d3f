"""Density of an atomic model at a given resolution, by the rule of ChimeraX's `molmap`.

Every atom is a Gaussian of weight Z (its atomic number) and of standard deviation
`resolution / (pi sqrt 2)`, the width whose Fourier transform has fallen to 1/e at 1/resolution.
Densities are in atomic numbers per cubic Ångström: their sum times the voxel volume is the sum of Z.
"""

import gzip
import logging
import re
from collections.abc import Iterable
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from scipy.special import erf

from tomohet.errors import InputError
from tomohet.files.damage import UNREADABLE, reason

CUTOFF_SIGMAS = 5.0
GRID_STEPS_PER_RESOLUTION = 3.0
PADDING_RESOLUTIONS = 3.0
ELEMENTS_PER_CHUNK = 2_000_000
PDB_PLACES = (30, 38, 46)  # start columns of x, y and z, of 8 characters each
PDB_NUMBER = re.compile(rb"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
LARGEST_MODEL_A = 10_000.0
MODEL_COLUMNS = ("file", "unit", "chain", "label", "entity", "residue", "x_A", "y_A", "z_A", "Z")

log = logging.getLogger(__name__)


def gaussian_sigma_A(resolution_A: float) -> float:
    """Return the standard deviation of an atom's Gaussian (Å) at `resolution_A`."""
    return resolution_A / (np.pi * np.sqrt(2.0))


def molmap(
    xyz_A: np.ndarray,
    weights: np.ndarray,
    resolution_A: float,
    box: int,
    pixel_size_A: float,
    origin_A: Iterable[float] = (0.0, 0.0, 0.0),
    mode: str = "chimerax",
) -> np.ndarray:
    """Compute the density of atoms on the grid of a map.

    Parameters
    ----------
    xyz_A : (a, 3) atom positions x, y, z in Å.
    weights : (a,) atomic numbers (or any weights).
    resolution_A : resolution of the density in Å.
    box, pixel_size_A : edge of the cubic grid in voxels and voxel edge in Å.
    origin_A : position x, y, z of the centre of voxel (0, 0, 0).
    mode : `chimerax` samples each Gaussian on molmap's own grid of spacing resolution / 3 and interpolates it
        trilinearly at the voxel centres (the result of `molmap` followed by `volume resample`); `integrated`
        integrates each Gaussian over each voxel, so that no weight is lost on coarse grids.

    Returns
    -------
    (box, box, box) float32 density [z, y, x] in weights per Å³.

    Raises
    ------
    InputError
        for an unknown mode, a resolution that is not positive, or arrays that do not match.

    """
    xyz_A = np.asarray(xyz_A, dtype=np.float64)
    weights = np.asarray(weights, dtype=np.float64)
    origin_A = np.asarray(tuple(origin_A), dtype=np.float64)
    if xyz_A.ndim != 2 or xyz_A.shape[1] != 3 or weights.shape != xyz_A.shape[:1]:
        raise InputError(
            f"atoms: expected positions (a, 3) and weights (a,), found {xyz_A.shape}, {weights.shape}"
        )
    if not resolution_A > 0:
        raise InputError(f"resolution must be positive in Å, found {resolution_A}")
    if mode not in ("chimerax", "integrated"):
        raise InputError(f"density mode '{mode}' is unknown: choose chimerax or integrated")
    if not len(xyz_A):
        return np.zeros((box, box, box), dtype=np.float32)
    if mode == "integrated":
        return _integrated(xyz_A, weights, resolution_A, box, pixel_size_A, origin_A)
    grid, grid_origin_A, step_A = sampled_density(xyz_A, weights, resolution_A)
    return resample(grid, grid_origin_A, step_A, box, pixel_size_A, origin_A)


def sampled_density(
    xyz_A: np.ndarray, weights: np.ndarray, resolution_A: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Sample the Gaussians on molmap's own grid.

    Returns the float32 density [z, y, x], the position (x, y, z) of its first voxel in Å and its spacing in
    Å. The grid reaches three resolutions beyond the outermost atoms. Each atom contributes to the box of grid
    points within five standard deviations along every axis.
    """
    sigma_A = gaussian_sigma_A(resolution_A)
    step_A = resolution_A / GRID_STEPS_PER_RESOLUTION
    padding_A = PADDING_RESOLUTIONS * resolution_A
    grid_origin_A = xyz_A.min(axis=0) - padding_A
    extent_A = np.ptp(xyz_A, axis=0) + 2 * padding_A
    shape_xyz = np.ceil(extent_A / step_A).astype(np.int64)

    centre = (xyz_A - grid_origin_A) / step_A
    reach = CUTOFF_SIGMAS * sigma_A / step_A
    first = np.ceil(centre - reach).astype(np.int64)
    index = first[:, :, None] + np.arange(int(2 * reach) + 1)
    distance = index - centre[:, :, None]
    profile = np.exp(-0.5 * (distance * step_A / sigma_A) ** 2)
    profile *= (np.abs(distance) <= reach) & (index >= 0) & (index < shape_xyz[:, None])
    profile /= np.sqrt(2 * np.pi) * sigma_A
    grid = _scatter_separable(index, profile, weights, shape_xyz)
    return grid.astype(np.float32), grid_origin_A, step_A


def resample(
    grid: np.ndarray,
    grid_origin_A: np.ndarray,
    step_A: float,
    box: int,
    pixel_size_A: float,
    origin_A: np.ndarray,
) -> np.ndarray:
    """Interpolate `grid` [z, y, x] trilinearly at the voxel centres of a map; exactly 0 outside `grid`.

    Both grids are axis-aligned, so the interpolation is one small matrix per axis.
    """
    volume = np.zeros((box, box, box), dtype=np.float32)
    matrices, windows = [], []
    for axis in range(3):
        length = grid.shape[2 - axis]
        position = (origin_A[axis] + np.arange(box) * pixel_size_A - grid_origin_A[axis]) / step_A
        inside = np.flatnonzero((position >= 0) & (position <= length - 1))
        if not len(inside):
            return volume
        lower = np.minimum(position[inside].astype(np.int64), length - 2)
        fraction = position[inside] - lower
        matrix = np.zeros((len(inside), length))
        rows = np.arange(len(inside))
        matrix[rows, lower] = 1 - fraction
        matrix[rows, lower + 1] = fraction
        matrices.append(matrix)
        windows.append(slice(inside[0], inside[-1] + 1))
    along_x = grid @ matrices[0].T
    along_y = np.matmul(matrices[1], along_x)
    volume[windows[2], windows[1], windows[0]] = np.tensordot(matrices[2], along_y, axes=(1, 0))
    return volume


def _integrated(xyz_A, weights, resolution_A, box, pixel_size_A, origin_A) -> np.ndarray:
    sigma = gaussian_sigma_A(resolution_A) / pixel_size_A
    centre = (xyz_A - origin_A) / pixel_size_A
    reach = CUTOFF_SIGMAS * sigma
    first = np.floor(centre - reach + 0.5).astype(np.int64)
    index = first[:, :, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    edge = (index - centre[:, :, None] - 0.5) / (np.sqrt(2.0) * sigma)
    profile = 0.5 * (erf(edge + 1 / (np.sqrt(2.0) * sigma)) - erf(edge)) / pixel_size_A
    profile *= (index >= 0) & (index < box)
    return _scatter_separable(index, profile, weights, np.full(3, box)).astype(np.float32)


def _scatter_separable(index, profile, weights, shape_xyz) -> np.ndarray:
    """Sum w * px(x) py(y) pz(z) over atoms; `index`, `profile` (a, 3, m); returns float64 [z, y, x]."""
    nx, ny, nz = (int(n) for n in shape_xyz)
    grid = np.zeros(nx * ny * nz)
    inside = np.clip(index, 0, np.asarray(shape_xyz)[:, None] - 1)
    atoms_per_chunk = max(1, ELEMENTS_PER_CHUNK // index.shape[2] ** 3)
    for start in range(0, len(weights), atoms_per_chunk):
        chunk = slice(start, start + atoms_per_chunk)
        ix, iy, iz = (inside[chunk, axis] for axis in range(3))
        px, py, pz = (profile[chunk, axis] for axis in range(3))
        flat = (iz[:, :, None, None] * ny + iy[:, None, :, None]) * nx + ix[:, None, None, :]
        slab = (weights[chunk, None] * pz)[:, :, None] * py[:, None, :]
        value = slab[:, :, :, None] * px[:, None, None, :]
        lowest = flat.min()
        counts = np.bincount((flat - lowest).ravel(), value.ravel())
        grid[lowest : lowest + len(counts)] += counts
    return grid.reshape(nz, ny, nx)


def read_model(
    files: str | Path | Iterable[str | Path], hydrogens: bool = True, waters: bool = True
) -> pd.DataFrame:
    """Read the atoms of one or several PDB or mmCIF files (first model, first alternate location).

    hydrogens, waters : whether they are included; `molmap` includes all atoms of a file

    Returns
    -------
    One row per atom: file (its stem), unit (the author's chain name; `<file>_<chain>` where two files share a
    chain name), chain (author), label (mmCIF label_asym_id, or the author's chain), entity (mmCIF entity id,
    or empty), residue (author's number), x_A, y_A, z_A, Z.

    Raises
    ------
    InputError
        for a missing or unreadable file, a file without atoms, or one given twice.

    """
    files = [files] if isinstance(files, str | Path) else list(files)
    if not files:
        raise InputError("no model file given: expected PDB or mmCIF files")
    tables = [_read_one_model(Path(file), hydrogens, waters) for file in files]
    stems = [str(table.file.iat[0]) for table in tables]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise InputError(
            f"model files share the name '{repeated[0]}': rename one, units are named after files"
        )
    model = pd.concat(tables, ignore_index=True)
    files_of_chain = model.groupby("chain").file.nunique()
    shared = model.chain.map(files_of_chain) > 1
    model["unit"] = np.where(shared, model.file + "_" + model.chain, model.chain)
    return model[list(MODEL_COLUMNS)]


def _read_one_model(path: Path, hydrogens: bool, waters: bool) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: model file not found")
    try:
        structure = gemmi.read_structure(str(path))
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable as PDB or mmCIF ({reason(error)})") from None
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(f"{path}: no atoms found; expected a PDB or mmCIF model")
    if len(structure) > 1:
        log.info("%s: %d models, the first is used", path, len(structure))
    if structure.input_format == gemmi.CoorFormat.Pdb:
        _refuse_words_for_places(path)
    structure.remove_alternative_conformations()
    if not hydrogens:
        structure.remove_hydrogens()
    if not waters:
        structure.remove_waters()
    try:
        table = _atoms_of(structure)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the name of a chain or an entity is not text ({reason(error)})") from None
    name = path.name.removesuffix(".gz")
    table.insert(0, "file", Path(name).stem)
    _refuse_wrong_places(table[["x_A", "y_A", "z_A"]].to_numpy(), path)
    unknown = int((table.Z == 0).sum())
    if unknown == len(table):
        raise InputError(f"{path}: no atom has a known element; expected element symbols in the model")
    if unknown:
        log.warning("%s: %d atoms of unknown element contribute no density", path, unknown)
    return table


def _atoms_of(structure: gemmi.Structure) -> pd.DataFrame:
    """List the atoms of the first model; raise UnicodeDecodeError for a name that is not UTF-8."""
    entity_of = {label: entity.name for entity in structure.entities for label in entity.subchains}
    rows = [
        (
            chain.name or "_",
            residue.subchain or chain.name,
            entity_of.get(residue.subchain, ""),
            residue.seqid.num,
            *atom.pos.tolist(),
            atom.element.atomic_number,
        )
        for chain in structure[0]
        for residue in chain
        for atom in residue
    ]
    return pd.DataFrame(rows, columns=["chain", "label", "entity", "residue", "x_A", "y_A", "z_A", "Z"])


def _refuse_words_for_places(path: Path) -> None:
    """Raise InputError for coordinates of a PDB file that are not numbers, because gemmi reads them as 0."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        for line, text in enumerate(file, start=1):
            if text.startswith((b"ATOM  ", b"HETATM")):
                words = [text[start : start + 8] for start in PDB_PLACES]
                if not all(map(PDB_NUMBER.fullmatch, words)):
                    found = b"".join(words).decode(errors="replace").strip()
                    raise InputError(
                        f"{path} line {line}: found the coordinates `{found}`, expected numbers in Å"
                    )


def _refuse_wrong_places(xyz_A: np.ndarray, path: Path) -> None:
    """Raise InputError for atoms (a, 3) without position, or farther apart than any particle is large."""
    lost = np.flatnonzero(~np.isfinite(xyz_A).all(axis=1))
    if len(lost):
        raise InputError(
            f"{path}: {len(lost)} of {len(xyz_A)} atoms have no position, the first is number {lost[0] + 1}; "
            "expected coordinates in Å; correct or remove them"
        )
    extent_A = np.ptp(xyz_A, axis=0).max()
    if extent_A > LARGEST_MODEL_A:
        raise InputError(
            f"{path}: atoms lie up to {extent_A:.3g} Å apart, expected {LARGEST_MODEL_A:g} Å at most; "
            "correct or remove the atoms that lie far away"
        )
