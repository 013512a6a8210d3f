"""Write ChimeraX scenes of particles in their tomograms: markers, one map, or a volume of each particle."""

import difflib
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path, keep, write_pickle, write_text
from tomohet.files.leftovers import replacing
from tomohet.files.mrc import read_map
from tomohet.files.parts import content_digest
from tomohet.files.pickles import load_array, load_indices, load_latents
from tomohet.files.star import write_star
from tomohet.files.tables import read_table
from tomohet.files.volume_list import LIST, listed_volumes
from tomohet.mapback import placements, scene
from tomohet.mapback.coordinates import relion_coordinates
from tomohet.mapback.labels import Labels, labels_of
from tomohet.mapback.shapes import arrows, isosurface, marker_set, placed_surfaces
from tomohet.model.load import load_model
from tomohet.model.volumes import write_volumes
from tomohet.options import Subtomo2chimeraxOptions
from tomohet.particles.positions import NAME_COLUMNS, rows_by_name
from tomohet.particles.volume_series import CENTRED, coordinate_pixel_sizes_A, read_volume_series
from tomohet.running.work import command

COORDINATES = "coordinates.star"
Drawing = Callable[[Path, pd.DataFrame, Labels, np.ndarray], str]

log = logging.getLogger(__name__)


@command
def run(options: Subtomo2chimeraxOptions) -> None:
    """Write a folder with a scene for each tomogram."""
    with replacing(options.outdir, "subtomo2chimerax"):
        write_scenes(options)


def write_scenes(options: Subtomo2chimeraxOptions) -> None:
    """Write for each tomogram a scene and its files, and a STAR file of all particles shown."""
    placed = placements.read_placements(
        options.starfile, options.tomo_id_col_override, options.star_angpix_override
    )
    n = len(placed)
    chosen, labels = chosen_labels(options, n)
    placed = placed.iloc[chosen].reset_index(drop=True)
    draw = drawing(options, chosen, n)
    coordinates = relion_coordinates(placed, labels, coordinate_unit_A(options))
    names = [options.tomoname] if options.tomoname is not None else sorted(placed["tomogram"].unique())
    for name in names:
        rows = np.flatnonzero(placed["tomogram"] == name)
        if len(rows) == 0:
            known = ", ".join(sorted(placed["tomogram"].unique())[:5])
            raise InputError(f"--tomoname {name}: none of the shown particles is in it; tomograms: {known}")
        folder = options.outdir / placements.folder_name(name)
        here = labels._replace(code=labels.code[rows])
        write_text(folder / "mapback.cxc", draw(folder, placed.iloc[rows], here, rows))
        write_text(folder / "rgba_labels.txt", scene.legend(here, options.mode != "volumes"))
        write_star(folder / COORDINATES, {"particles": coordinates.iloc[rows]})
        log.info("%s: %d particles", folder / "mapback.cxc", len(rows))
    write_star(options.outdir / COORDINATES, {"particles": coordinates})


def chosen_labels(options: Subtomo2chimeraxOptions, n: int) -> tuple[np.ndarray, Labels]:
    """Return the rows (m,) of the file that are shown, of n, and the labels of these particles."""
    if options.color_by is not None and options.table is None:
        raise InputError("--color-by needs --table, the particle table that has the column")
    if options.table is not None:
        if options.ind is not None or options.coloring_labels is not None:
            raise InputError("--table names the particles: give neither --ind nor --coloring-labels with it")
        table = read_table(options.table, {"source_id": "anything", "particle": "whole numbers"})
        series = read_volume_series(options.starfile)
        named = any(column in series.table for column in NAME_COLUMNS)
        # Rows of a file without names are the particles in order, of whom a round has a part.
        chosen = rows_by_name(series, table["source_id"]) if named else table["particle"].to_numpy(np.int64)
        chosen = np.where(chosen < n, chosen, -1)
        if (lacking := chosen < 0).any():
            raise InputError(
                f"{options.starfile}: lacks {lacking.sum()} of {len(table)} particles of {options.table}, "
                f"the first is `{table['source_id'][lacking].iloc[0]}`; give the volume series of these "
                "particles"
            )
        return chosen, labels_of(label_values(table, options), options.colormap)
    chosen = load_indices(options.ind) if options.ind is not None else np.arange(n)
    if len(chosen) and chosen.max() >= n:
        raise InputError(f"{options.ind}: index {chosen.max()}, but {options.starfile} has {n} particles")
    values = np.zeros(len(chosen), np.int64)
    if options.coloring_labels is not None:
        given = load_array(options.coloring_labels)
        if given.dtype.kind not in "biuf":
            raise InputError(f"{options.coloring_labels}: expected numbers, found {given.dtype}")
        values = np.rint(of_chosen(given, chosen, n, options.coloring_labels)).astype(np.int64)
    return chosen, labels_of(pd.Series(values), options.colormap)


def label_values(table: pd.DataFrame, options: Subtomo2chimeraxOptions) -> pd.Series:
    """Return the column that colours particles; one label for all without it."""
    if options.color_by is None:
        return pd.Series(np.zeros(len(table), np.int64))
    if options.color_by not in table:
        near = difflib.get_close_matches(options.color_by, map(str, table.columns), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "the table has " + ", ".join(map(str, table.columns))
        raise InputError(f"--color-by {options.color_by}: {options.table} has no such column; {hint}")
    return table[options.color_by]


def coordinate_unit_A(options: Subtomo2chimeraxOptions) -> float:
    """Return the pixel size (Å) of written coordinates: that of the file's coordinates, else 1 Å."""
    series = read_volume_series(options.starfile)
    unit_A = 1.0
    if not set(CENTRED) <= set(series.table):
        with suppress(InputError):  # a set's coordinates may have their unit in the tomograms file alone
            unit_A = float(coordinate_pixel_sizes_A(series, options.star_angpix_override)[0])
    return unit_A


def drawing(options: Subtomo2chimeraxOptions, chosen: np.ndarray, n: int) -> Drawing:
    """Return a function that writes the files of a tomogram's particles, and returns the scene's commands."""
    if options.mode == "markers":
        return lambda folder, here, labels, rows: draw_markers(options, folder, here, labels)
    if options.mode == "volume":
        if options.vol_path is None:
            raise InputError("--mode volume needs --vol-path")
        volume, pixel_size_A = read_map(options.vol_path)
        triangles = isosurface(volume, pixel_size_A, options.vol_render_level)
        box = len(volume)
        return lambda folder, here, labels, rows: draw_surfaces(
            triangles, scene.model_matrices(here, box, pixel_size_A), folder, labels
        )
    latents = decoder = None
    if not options.skip_vol:
        if None in (options.weights, options.config, options.zfile):
            raise InputError("--mode volumes needs --weights, --config and --zfile")
        latents = of_chosen(load_latents(options.zfile)[0], chosen, n, options.zfile)
        decoder = load_model(options.weights, options.config, device_of(options.device))

    def draw_own(folder: Path, here: pd.DataFrame, labels: Labels, rows: np.ndarray) -> str:
        """Write every particle's own map; return the commands that open them."""
        z = None if latents is None else latents[rows]
        maps = own_volumes(options, folder, decoder, z, len(rows))
        volume, pixel_size_A = read_map(folder / maps[0])
        matrices = scene.model_matrices(here, len(volume), pixel_size_A)
        return scene.map_scene(maps, matrices, labels, options.vol_render_level)

    return draw_own


def draw_markers(options: Subtomo2chimeraxOptions, folder: Path, here: pd.DataFrame, labels: Labels) -> str:
    """Write markers and arrows of each label; return the commands that open them."""
    rotation, radius_A = scene.rotations(here), options.marker_radius_angstrom
    for number in scene.present(labels):
        members, color = labels.code == number, labels.colors[number]
        markers = marker_set(here[members], labels.names[number], color, radius_A)
        write_text(folder / scene.shape_file(number, ".cmm"), markers)
        write_text(
            folder / scene.shape_file(number, ".bild"),
            arrows(here[members], rotation[members], color, radius_A),
        )
    return scene.shape_scene(labels, (".cmm", ".bild"))


def draw_surfaces(triangles: np.ndarray, matrices: np.ndarray, folder: Path, labels: Labels) -> str:
    """Write the surfaces of each label's particles as one file; return the commands that open them."""
    for number in scene.present(labels):
        with atomic_path(folder / scene.shape_file(number, ".stl")) as temporary:
            temporary.write_bytes(placed_surfaces(triangles, matrices[labels.code == number]))
    return scene.shape_scene(labels, (".stl",))


def of_chosen(values, chosen, n: int, source: Path):
    """Return the values of the chosen particles, from values of these particles or of all n in the file."""
    if len(values) == len(chosen):
        return values
    if len(values) == n:
        return values[chosen]
    expected = f"{n}, one for each particle of the file"
    if len(chosen) != n:
        expected += f", or {len(chosen)}, one for each particle that is shown"
    raise InputError(f"{source}: found {len(values)} rows, expected {expected}")


def own_volumes(options: Subtomo2chimeraxOptions, folder: Path, decoder, z, count: int) -> list[Path]:
    """Return the names in `folder` of the particles' own volumes; decode missing volumes from latents z."""
    names = [Path(f"vol_{number:03d}.mrc") for number in range(count)]
    if z is not None:
        write_pickle(folder / "z_values.pkl", z)
        write_volumes(
            decoder,
            z,
            folder,
            box=options.downsample,
            lowpass_A=options.lowpass,
            flip=options.flip,
            invert=options.invert,
            model_digest=content_digest(options.weights, options.config),
        )
    else:
        keep(*(folder / name for name in (*names, "z_values.pkl", "z_values.txt", LIST)))
        there = listed_volumes(folder).numbers
        if there != list(range(count)):
            raise InputError(
                f"{folder}: {len(there)} volumes of an earlier run, expected {count}, one for each particle "
                "shown; run without --skip-vol"
            )
    return names
