"""Image series: one row per tilt image; rows of one particle share the particle's name or number.

Every dialect is a declaration, `ImageSeries`: the columns by which its files are recognised. The meaning of a
column, and which of several columns takes precedence, is the same for all dialects (`series_columns`). A file
recognised as one dialect therefore reads the same when another is forced. Optics groups are joined to their
images; each image keeps its own pixel size, voltage, aberration, contrast and premultiplication.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import Blocks, as_table, numbers
from tomohet.particles.copies import with_copies_told
from tomohet.particles.dialects import series_columns as columns_of
from tomohet.particles.dialects.optics import join_optics
from tomohet.particles.dialects.series_columns import first_column
from tomohet.particles.dialects.series_identity import SeriesParticles, identify
from tomohet.particles.dialects.series_tomograms import first_rows
from tomohet.particles.paths import read_headers, resolve_stacks
from tomohet.particles.table import (
    OPTICS_BOUNDS,
    ParticleSet,
    half_sets,
    in_order,
    number_images,
    particle_rotations,
    refuse_impossible_optics,
    refuse_impossible_positions,
    rotation_frame,
)

CTF_QUANTITIES = (
    "defocus_u_A",
    "defocus_v_A",
    "defocus_angle_deg",
    "voltage_kV",
    "cs_mm",
    "amplitude_contrast",
)


CORRECTIONS = {"rlnCtfDataArePhaseFlipped": "flipped phases", "rlnCtfDataAreCtfCorrected": "a corrected CTF"}
STACK_SECTION_COLUMNS = ("rlnImageName", "cisTEMPositionInStack")  # each table of images has one of them


@dataclass(frozen=True)
class ImageSeries:
    """A dialect of image series.

    required : columns, or tuples of columns of which one suffices
    optics : whether the file must (True) or must not (False) have an optics table; None: either
    """

    name: str
    source_software: tuple[str, ...]
    expected: str
    required: tuple[str | tuple[str, ...], ...]
    optics: bool | None = None

    def recognises(self, blocks: Blocks) -> bool:
        """Tell whether the file has one table of images, with all required columns there or in its optics."""
        if self.optics is not None and self.optics != ("optics" in blocks):
            return False
        columns = all_columns(blocks)
        return bool(columns) and not missing_columns(self.required, columns)

    def read(self, blocks: Blocks, star: Path, datadir: str | Path | None) -> ParticleSet:
        """Read the image table of an image series, its optics joined. Empties `blocks`, to free their memory.

        Particles are numbered by first appearance. The tilt index of an image is its rank among its
        particle's images by (stack, section), so the order of rows has no meaning.

        Raises InputError for missing columns, values that are not numbers, contradictions and duplicates.
        """
        table, where = self._joined(blocks, star)
        if table.empty:
            raise InputError(f"{where} is empty, expected at least one row")
        known = identify(table, where)
        pixel_size_A = columns_of.pixel_sizes_A(table, where)
        particles = _particles(table, known, pixel_size_A, where)
        images, headers, remarks = _images(table, known.particle, pixel_size_A, star, datadir, where)
        image_names = table[next(column for column in STACK_SECTION_COLUMNS if column in table)]
        del table  # it takes as much memory as the images, which are sorted next
        order = np.lexsort((images["section"], images["stack"].cat.codes, images["particle"]))
        images = in_order(images, order)
        images["tilt"] = images.groupby("particle").cumcount()
        images = number_images(images)

        def rows_of(some: np.ndarray) -> str:
            rows = np.sort(images["row"].to_numpy()[some])
            return f"{where}: duplicate: {image_names.iloc[rows[0]]} is used by input rows " + ", ".join(
                str(row + 1) for row in rows[:3]
            )

        read = ParticleSet(
            particles=particles,
            images=images,
            dialect=self.name,
            source=star,
            box=int(headers["box"].mode().iloc[0]),
            n_input={
                "particles": len(particles),
                "images": len(images),
                "tomograms": particles["tomogram"].nunique(),
            },
            inputs=(star,),
            header_pixel_size_A=float(headers["pixel_size_A"].median()),
            remarks=(*known.remarks, *remarks),
        )
        return with_copies_told(read, rows_of)

    def _joined(self, blocks: Blocks, star: Path) -> tuple[pd.DataFrame, str]:
        """Take the table of images, optics joined, out of `blocks`; return it and its name for messages."""
        name, table = image_table(blocks)
        if table.empty and not len(table.columns):
            raise InputError(f"{star}: no table of images found, expected {self.expected}")
        where = f"{star}: table data_{name}" if "optics" in blocks else f"{star}: table of images"
        if missing := missing_columns(self.required, all_columns(blocks)):
            raise InputError(f"{where}: {missing_sentence(missing)}")
        optics = as_table(blocks.get("optics"))
        blocks.clear()
        return join_optics(table, optics, star, where), where


def image_table(blocks: Blocks) -> tuple[str, pd.DataFrame]:
    """Return block name and table of tilt images: data_particles, or the only table besides the optics."""
    if "particles" in blocks:
        return "particles", as_table(blocks["particles"])
    others = {name: block for name, block in blocks.items() if name != "optics"}
    tables = {name: block for name, block in others.items() if isinstance(block, pd.DataFrame)}
    if len(tables) > 1:  # the file may hold other lists besides the images
        tables = {n: table for n, table in tables.items() if set(table) & set(STACK_SECTION_COLUMNS)}
    # A single image may be written as pairs, and so may the other content of a file.
    tables = tables or {n: as_table(b) for n, b in others.items() if set(b) & set(STACK_SECTION_COLUMNS)}
    return next(iter(tables.items())) if len(tables) == 1 else ("", pd.DataFrame())


def all_columns(blocks: Blocks) -> set[str]:
    """Return the columns of the table of images and of its optics table."""
    _, table = image_table(blocks)
    return set(table.columns) | set(blocks.get("optics", ())) if len(table.columns) else set()


def missing_columns(required: tuple[str | tuple[str, ...], ...], columns: set[str]) -> list[tuple[str, ...]]:
    """List the required columns that are missing, each with the columns that could replace it."""
    alternatives = [(one,) if isinstance(one, str) else one for one in required]
    return [some for some in alternatives if not columns.intersection(some)]


def missing_sentence(missing: list[tuple[str, ...]]) -> str:
    """Name the columns that `missing_columns` has found missing, at least one, in a sentence."""
    instead = "; ".join(
        f"instead of _{some[0]} also {', '.join(f'_{c}' for c in some[1:])}" for some in missing if some[1:]
    )
    names = ", ".join(f"_{some[0]}" for some in missing)
    return f"column {names} is missing" + (f" ({instead})" if instead else "") + ", an image series needs it"


def _images(
    table: pd.DataFrame,
    particle: np.ndarray,
    pixel_size_A: np.ndarray,
    star: Path,
    datadir: str | Path | None,
    where: str,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return the images in the order of the file, without tilt index, the stacks' headers, and remarks."""
    _refuse_corrected(table, where)
    images = pd.DataFrame({"particle": particle, "row": np.arange(len(table))})
    images["stack"], images["section"] = _sections(table, star, datadir, where)
    images["stack"], headers = _located(images, star, datadir)

    angles = (columns_of.quantity(table, name, where) for name in ("rot_deg", "tilt_angle_deg", "psi_deg"))
    images = images.assign(**rotation_frame(particle_rotations(*angles, where)))
    images[["shift_x_px", "shift_y_px"]] = columns_of.shifts_px(table, pixel_size_A, where)
    for name in CTF_QUANTITIES:
        images[name] = columns_of.quantity(table, name, where)
    in_file = {name: first_column(table, columns_of.QUANTITIES[name]) for name in OPTICS_BOUNDS}
    refuse_impossible_optics(images, where, in_file)
    has_phase_shift = first_column(table, columns_of.QUANTITIES["phase_shift_deg"])
    images["phase_shift_deg"] = (
        columns_of.quantity(table, "phase_shift_deg", where) if has_phase_shift else 0.0
    )
    images["pixel_size_A"] = pixel_size_A
    images["dose_e_A2"], of_doses = columns_of.doses_e_A2(table, where)
    tilt_deg, of_tilts = columns_of.stage_tilts_deg(table, where)
    remarks = [*of_doses, *of_tilts]
    if tilt_deg is None:
        remarks.append(
            "no column states the stage tilts: taken as 0, so images are not weighted by their tilt"
        )
    images["tilt_deg"] = 0.0 if tilt_deg is None else tilt_deg
    images["ctf_premultiplied"] = _flag(table, "rlnCtfDataAreCtfPremultiplied", where)
    images["dose_weighted"] = False
    images["scale_factor"], images["dose_b_factor_A2"] = 1.0, 0.0  # no other factor
    for name, (column, _) in columns_of.OWN_COLUMNS.items():
        if column in table.columns:
            values = numbers(table, column, where)
            images[name] = values != 0 if name == "dose_weighted" else values
    return images, headers, remarks


def _flag(table: pd.DataFrame, column: str, where: str) -> np.ndarray | bool:
    """Return a column of 0 and 1 as truth values (n,); False when it is absent."""
    if column not in table.columns:
        return False
    values = numbers(table, column, where)
    if (wrong := np.flatnonzero(~np.isin(values, (0, 1)))).size:
        raise InputError(
            f"{where}: column _{column}, row {wrong[0] + 1}: found {values[wrong[0]]:g}, expected 0 or 1"
        )
    return values == 1


def _refuse_corrected(table: pd.DataFrame, where: str) -> None:
    """Raise InputError for images with flipped phases or a corrected CTF, which cannot be modelled."""
    for column, what in CORRECTIONS.items():
        if len(rows := np.flatnonzero(_flag(table, column, where))):
            raise InputError(
                f"{where}: column _{column}, row {rows[0] + 1}: found 1, but images with {what} cannot be "
                f"used ({len(rows)} such rows); extract them without that correction"
            )


def _sections(
    table: pd.DataFrame, star: Path, datadir: str | Path | None, where: str
) -> tuple[pd.Series, np.ndarray]:
    """Return stack path and 1-based section of every image, from `N@path` or from cisTEM's two columns."""
    if "rlnImageName" in table.columns:
        column, expected = "rlnImageName", "`N@stack.mrcs` with N from 1"
        sections, stacks = columns_of.split_names(table[column])
    else:
        column, expected = "cisTEMPositionInStack", "a whole number from 1"
        sections = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
        if "cisTEMStackFilename" in table.columns:
            stacks = table["cisTEMStackFilename"].astype(str)
        else:
            stacks = pd.Series(_stack_beside(star, datadir), index=table.index)
    whole = np.isfinite(sections) & (sections >= 1) & (np.trunc(sections) == sections)
    wrong = np.flatnonzero(~whole | (stacks == "").to_numpy())
    if len(wrong):
        raise InputError(
            f"{where}: column _{column}, row {wrong[0] + 1}: found `{table[column].iloc[wrong[0]]}`, "
            f"expected {expected}"
        )
    return stacks, sections.astype(np.int64)


def _stack_beside(star: Path, datadir: str | Path | None) -> str:
    """Find the stack named like a cisTEM file that names none: .mrcs or .mrc, beside it or in `datadir`."""
    folders = [star.parent, *([Path(datadir)] if datadir is not None else [])]
    names = [f"{star.stem}.mrcs", f"{star.stem}.mrc"]
    return next((name for name in names if any((folder / name).is_file() for folder in folders)), names[0])


def _located(
    images: pd.DataFrame, star: Path, datadir: str | Path | None
) -> tuple[pd.Categorical, pd.DataFrame]:
    """Return the path of each image's stack, as categories (few stacks, many images), and all headers.

    Raises InputError for sections beyond a stack's end.
    """
    codes, written = pd.factorize(images["stack"])
    headers = read_headers(resolve_stacks(list(written), star, datadir))
    depth = headers["n_sections"].to_numpy()[codes]
    beyond = np.flatnonzero(images["section"] > depth)
    if len(beyond):
        image = images.iloc[beyond[0]]
        raise InputError(
            f"{star}: row {image['row'] + 1}: section {image['section']} of {image['stack']}, but it has "
            f"{depth[beyond[0]]} sections ({len(beyond)} such rows); is this the right stack?"
        )
    paths = pd.Categorical(headers["stack"])
    return pd.Categorical.from_codes(paths.codes[codes], dtype=paths.dtype), headers


def _particles(
    table: pd.DataFrame, known: SeriesParticles, pixel_size_A: np.ndarray, where: str
) -> pd.DataFrame:
    n = len(known.names)
    particles = pd.DataFrame({"particle": np.arange(n), "source_id": known.names, "tomogram": known.tomogram})
    position_A = _positions(table, known.particle, pixel_size_A, n)
    refuse_impossible_positions(position_A[known.particle], where)
    particles[["x_A", "y_A", "z_A"]] = position_A
    particles["n_tilts"] = np.bincount(known.particle)
    subset = (
        table["rlnRandomSubset"].iloc[first_rows(known.particle)]
        if "rlnRandomSubset" in table.columns
        else None
    )
    particles["half"] = half_sets(subset, n)
    return particles


def _positions(table: pd.DataFrame, ordinal: np.ndarray, pixel_size_A: np.ndarray, n: int) -> np.ndarray:
    """Return positions (n, 3) in Å; NaN unless the file has three coordinates that are equal for all tilts.

    Image series mostly state the two-dimensional position in each tilt image, which is not a position in 3-D.
    """
    columns = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    unknown = np.full((n, 3), np.nan)
    if not all(column in table.columns for column in columns):
        return unknown
    coordinates = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    first = first_rows(ordinal)
    if not np.allclose(coordinates, coordinates[first][ordinal], atol=1e-3):
        return unknown
    return coordinates[first] * pixel_size_A[first, None]
