"""Write ChimeraX scenes of particles in their tomograms: markers, one map, or a volume of each particle."""

import logging
from pathlib import Path

import numpy as np

from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.atomic import keep, write_pickle, write_text
from tomohet.files.leftovers import replacing
from tomohet.files.mrc import read_map
from tomohet.files.parts import content_digest
from tomohet.files.pickles import load_array, load_indices, load_latents
from tomohet.files.volume_list import LIST, listed_volumes
from tomohet.mapback import placements, scene
from tomohet.model.load import load_model
from tomohet.model.volumes import write_volumes
from tomohet.options import Subtomo2chimeraxOptions
from tomohet.running.work import command

log = logging.getLogger(__name__)


@command
def run(options: Subtomo2chimeraxOptions) -> None:
    """Write a folder with a scene for each tomogram."""
    with replacing(options.outdir, "subtomo2chimerax"):
        write_scenes(options)


def write_scenes(options: Subtomo2chimeraxOptions) -> None:
    """Write for each tomogram a scene, its colours and, if requested, the particles' own volumes."""
    placed = placements.read_placements(
        options.starfile, options.tomo_id_col_override, options.star_angpix_override
    )
    n = len(placed)
    chosen = load_indices(options.ind) if options.ind is not None else np.arange(n)
    if len(chosen) and chosen.max() >= n:
        raise InputError(f"{options.ind}: index {chosen.max()}, but {options.starfile} has {n} particles")
    labels = np.zeros(len(chosen), np.int64)
    if options.coloring_labels is not None:
        given = load_array(options.coloring_labels)
        if given.dtype.kind not in "biuf":
            raise InputError(f"{options.coloring_labels}: expected numbers, found {given.dtype}")
        labels = np.rint(of_chosen(given, chosen, n, options.coloring_labels)).astype(np.int64)
    colors = scene.label_colors(labels, options.colormap)
    latents = decoder = None
    if options.mode == "volumes" and not options.skip_vol:
        if None in (options.weights, options.config, options.zfile):
            raise InputError("--mode volumes needs --weights, --config and --zfile")

        latents = of_chosen(load_latents(options.zfile)[0], chosen, n, options.zfile)
        decoder = load_model(options.weights, options.config, device_of(options.device))
    if options.mode == "volume":
        if options.vol_path is None:
            raise InputError("--mode volume needs --vol-path")
        map_, map_pixel_A = read_map(options.vol_path)

    placed = placed.iloc[chosen].reset_index(drop=True)
    names = [options.tomoname] if options.tomoname is not None else sorted(placed["tomogram"].unique())
    for name in names:
        rows = np.flatnonzero(placed["tomogram"] == name)
        if len(rows) == 0:
            known = ", ".join(sorted(placed["tomogram"].unique())[:5])
            raise InputError(f"--tomoname {name}: none of the shown particles is in it; tomograms: {known}")
        folder = options.outdir / placements.folder_name(name)
        here, tags = placed.iloc[rows], labels[rows]
        if options.mode == "markers":
            text = scene.marker_scene(here, tags, colors, options.marker_radius_angstrom)
        else:
            maps = [options.vol_path.resolve()] * len(rows) if options.mode == "volume" else None
            if options.mode == "volumes":
                maps = own_volumes(
                    options, folder, decoder, None if latents is None else latents[rows], len(rows)
                )
                map_, map_pixel_A = read_map(folder / maps[0])
            matrices = scene.model_matrices(here, len(map_), map_pixel_A)
            text = scene.map_scene(maps, matrices, tags, colors, options.vol_render_level)
        write_text(folder / "mapback.cxc", text)
        write_text(folder / "rgba_labels.txt", scene.label_legend(tags, colors, options.mode == "markers"))
        log.info("%s: %d particles", folder / "mapback.cxc", len(rows))


def of_chosen(values, chosen, n: int, source: Path):
    """Return the values of the chosen particles, from values of these particles or of all n in the file."""
    if len(values) == len(chosen):
        return values
    if len(values) == n:
        return values[chosen]
    raise InputError(f"{source}: {len(values)} rows, expected {len(chosen)} (shown) or {n} (in the file)")


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
