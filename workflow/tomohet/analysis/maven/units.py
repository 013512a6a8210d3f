"""Units of which occupancies are measured: pieces of a model, or given masks."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import is_color_like, to_hex
from scipy import sparse

from tomohet.analysis.maven.masks import density_threshold, unit_mask
from tomohet.errors import InputError
from tomohet.files.grids import MapGrid, read_grid, same_grid, write_on_grid
from tomohet.files.masks import read_mask
from tomohet.files.tables import read_csv
from tomohet.physics.molmap import molmap, read_model

MODEL_NAMES = ("chain", "label", "entity")
TABLE_COLUMNS = ("unit", "file", "chain", "label", "first", "last", "residues", "threshold", "colour")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Units:
    """Masks and reference densities of U units on a grid of N voxels.

    table : one row per unit: unit, source (model file or folder), column (its name in tables), voxels (of the
        mask), mass (sum of the reference density over the whole box), and colour if given
    masks, densities : sparse (U, N) float32; for given masks the reference density is the mask
    """

    table: pd.DataFrame
    masks: sparse.csr_matrix
    densities: sparse.csr_matrix


def units_of_model(
    files: list[Path], units: str | Path = "chain", hydrogens: bool = True, waters: bool = True
) -> pd.DataFrame:
    """Read the atoms of the model files with their unit, and with threshold and colour if a table gives them.

    units : `chain` (author's chains), `label` (mmCIF label chains), `entity` (mmCIF entities), or a CSV table
        with columns unit and any of file, chain, label, first, last (author's residue numbers, inclusive),
        residues (ranges such as 3-20,41-57), threshold (density at which the mask begins) and colour; several
        rows with one unit name make one unit. Names match in any case where the exact case is absent.
    hydrogens, waters : whether they are included

    Raises InputError when the table names something that the model does not have.
    """
    model = read_model(files, hydrogens, waters)
    if str(units) in MODEL_NAMES:
        if units == "chain":
            return model
        if (model[units] == "").all():
            raise InputError(f"--units {units}: the model names no {units}; mmCIF files do, or use chain")
        return model.assign(unit=np.where(model[units] == "", model.chain, model[units]))
    return _units_by_table(model, Path(units))


def _units_by_table(model: pd.DataFrame, path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"--units {path}: expected chain, label, entity or a CSV table, found no such file")
    table = read_csv(path, dtype=str, skipinitialspace=True)
    unknown = sorted(set(table.columns) - set(TABLE_COLUMNS))
    if "unit" not in table or unknown:
        raise InputError(
            f"{path}: columns {str(list(table.columns))[:500]}, expected unit and any of {TABLE_COLUMNS[1:]}"
        )
    if table.empty:
        raise InputError(f"{path}: no rows; expected one for each part of a unit")
    parts = []
    for line, cells in enumerate(table.to_dict("records"), start=2):
        row = {
            column: " ".join(value.splitlines()) for column, value in cells.items() if isinstance(value, str)
        }
        if "unit" not in row:
            raise InputError(f"{path} line {line}: no unit is named")
        chosen = pd.Series(True, index=model.index)
        for column in ("file", "chain", "label"):
            if column in row:
                wanted = Path(row[column]).stem if column == "file" else row[column]
                chosen &= _matching(model[column], wanted)
        if "residues" in row:
            chosen &= _within(model.residue, row["residues"], f"{path} line {line}")
        for column, within in (("first", model.residue.ge), ("last", model.residue.le)):
            if column in row:
                chosen &= within(_number(int, row[column], f"{path} line {line}: {column}"))
        if not chosen.any():
            raise InputError(f"{path} line {line}: unit '{row['unit']}' matches no atom of the model")
        part = model[chosen].assign(unit=row["unit"])
        if "threshold" in row:
            part["threshold"] = _number(float, row["threshold"], f"{path} line {line}: threshold")
        if "colour" in row:
            part["colour"] = _colour(row["colour"], f"{path} line {line}: colour")
        parts.append(part)
    # An atom that belongs to two rows of one unit counts once.
    return pd.concat(parts).reset_index(names="atom").drop_duplicates(["atom", "unit"], ignore_index=True)


def _number(kind: type, text: str, where: str) -> float:
    try:
        return kind(text)
    except ValueError:
        expected = "residue number" if kind is int else "number"
        raise InputError(f"{where} '{text}' is not a {expected}") from None


def _within(residue: pd.Series, ranges: str, where: str) -> pd.Series:
    """Select residues in ranges such as `3-20, 41-57, 60`; numbers may be negative."""
    inside = pd.Series(False, index=residue.index)
    for piece in ranges.split(","):
        found = re.fullmatch(r"\s*(-?\d+)(?:\s*-\s*(-?\d+))?\s*", piece)
        if found is None:
            raise InputError(f"{where}: residues '{ranges}': expected ranges such as 3-20,41-57")
        inside |= residue.between(int(found[1]), int(found[2] or found[1]))
    return inside


def _colour(text: str, where: str) -> str:
    if not is_color_like(text):
        raise InputError(f"{where} '{text}': expected a name such as orange, or #rrggbb")
    return to_hex(text)


def _matching(names: pd.Series, wanted: str) -> pd.Series:
    exact = names == wanted
    return exact if exact.any() else names.str.lower() == wanted.lower()


def from_centre(atoms: pd.DataFrame, grid: MapGrid) -> pd.DataFrame:
    """Move atoms whose coordinates count from the maps' centre voxel, D//2, to the maps' coordinates."""
    shift_A = np.asarray(grid.origin_A) + (grid.box // 2) * grid.pixel_size_A
    return atoms.assign(x_A=atoms.x_A + shift_A[0], y_A=atoms.y_A + shift_A[1], z_A=atoms.z_A + shift_A[2])


def draw_units(
    atoms: pd.DataFrame,
    grid: MapGrid,
    resolution_A: float,
    mode: str,
    threshold: float | None,
    extend_px: float,
    soft_edge_px: float,
    outdir: Path,
) -> Units:
    """Compute density and mask of every unit on `grid`; write them to `outdir`/densities and `outdir`/masks.

    Files are named as MAVEn names them: `<model>_chain<unit>.mrc` and `Mask_<model>_chain<unit>.mrc`. Units
    outside the maps are left out with a warning.

    Raises InputError when every unit lies outside the maps, or no mask holds a voxel.
    """
    rows, peak = [], 0.0
    for (unit, source), part in _each_unit(atoms):
        density = molmap(
            part[["x_A", "y_A", "z_A"]].to_numpy(),
            part.Z.to_numpy(),
            resolution_A,
            grid.box,
            grid.pixel_size_A,
            grid.origin_A,
            mode,
        )
        own = part["threshold"].dropna() if "threshold" in part else ()
        begins = density_threshold(density, float(own.iloc[0]) if len(own) else threshold)
        mask = unit_mask(density, begins, extend_px, soft_edge_px)
        peak = max(peak, float(density.max()))
        if not mask.any() or not density.any():
            log.warning(
                "unit %s of %s lies outside the maps or below the mask threshold: it is left out",
                unit,
                source,
            )
            continue
        name = f"{file_name(source)}_chain{file_name(unit)}.mrc"
        write_on_grid(outdir / "densities" / name, density, grid)
        write_on_grid(outdir / "masks" / f"Mask_{name}", mask, grid)
        rows.append((unit, source, mask, density))
    if not rows and peak > 0:
        raise InputError(
            f"all masks are empty: the densest voxel has {peak:.3g}; lower --mask-threshold, or do not "
            "shrink the masks with --mask-extend"
        )
    if not rows:
        raise InputError(_outside(atoms, grid))
    return _assembled(rows, _colours(atoms))


def _colours(atoms: pd.DataFrame) -> dict[str, str]:
    """Return the colour #rrggbb of every unit to which the table gives one."""
    if "colour" not in atoms:
        return {}
    given = atoms.dropna(subset="colour")
    return given.groupby("unit").colour.first().to_dict()


def read_masks(folder: Path, grid: MapGrid) -> Units:
    """Read units given as masks: every .mrc of a folder, on the grid of the maps.

    A unit's name is the file's, without `Mask_` and everything before `_chain`.

    Raises InputError for a folder without masks, another grid, and masks that `files.masks.read_mask`
    refuses.
    """
    files = sorted(Path(folder).glob("*.mrc"))
    if not files:
        raise InputError(f"{folder}: no masks (.mrc) found")
    rows = []
    for file in files:
        other = read_grid(file)
        if not same_grid(grid, other):
            raise InputError(
                f"{file}: shape {other.shape}, {other.pixel_size_A:.4g} Å/px, origin {other.origin_A}; "
                f"the volumes have {grid.shape}, {grid.pixel_size_A:.4g} Å/px, {grid.origin_A}; "
                "resample the mask"
            )
        mask = read_mask(file, grid.box, grid.pixel_size_A)
        unit = re.sub(r"^.*_chain(?=.)", "", file.stem.removeprefix("Mask_"))
        rows.append((unit, "masks", mask, mask))
    return _assembled(rows)


def strongest_unit(units: Units, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the unit index (int64) of largest density in each masked voxel, -1 elsewhere, in `shape`."""
    inside = np.flatnonzero(np.asarray(units.masks.max(axis=0).todense()).ravel() > 0)
    labels = np.full(int(np.prod(shape)), -1)
    labels[inside] = np.asarray(units.densities[:, inside].argmax(axis=0)).ravel()
    return labels.reshape(shape)


def _each_unit(atoms: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for unit, part in atoms.groupby("unit", sort=False):
        sources = part.file.unique()
        yield (unit, sources[0] if len(sources) == 1 else "model"), part


def _assembled(
    rows: list[tuple[str, str, np.ndarray, np.ndarray]], colours: dict[str, str] | None = None
) -> Units:
    names, sources, masks, densities = zip(*rows, strict=True)
    columns = [file_name(name) for name in names]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise InputError(
            f"several units are called '{repeated[0]}' in tables; give them distinct names (--units)"
        )
    masks = sparse.vstack([sparse.csr_matrix(mask.reshape(1, -1)) for mask in masks]).tocsr()
    mass = [float(density.sum(dtype=np.float64)) for density in densities]
    densities = sparse.vstack([sparse.csr_matrix(density.reshape(1, -1)) for density in densities]).tocsr()
    table = pd.DataFrame(
        {"unit": names, "source": sources, "column": columns, "voxels": masks.getnnz(axis=1), "mass": mass}
    )
    if colours:
        table["colour"] = [colours.get(name) for name in names]
    return Units(table, masks, densities)


def _outside(atoms: pd.DataFrame, grid: MapGrid) -> str:
    centre = atoms[["x_A", "y_A", "z_A"]].mean().round(1).tolist()
    last = np.add(grid.origin_A, (grid.box - 1) * grid.pixel_size_A).round(1).tolist()
    return (
        f"the model lies outside the volumes: its centre is at {centre} Å, the volumes span "
        f"{np.round(grid.origin_A, 1).tolist()} to {last} Å; align it to a volume first, or, if its "
        "coordinates count from the volumes' centre, use --model-origin centre"
    )


def file_name(name: str) -> str:
    """Convert a unit's name to a file name and table column: letters, digits and underscores."""
    return re.sub(r"\W", "_", name)
