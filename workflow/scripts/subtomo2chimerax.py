"""Write ChimeraX scenes of particles in their tomograms: markers, one map, or each particle's own volume."""

import argparse
import logging
from pathlib import Path

from tomohet.cli import command, options

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("starfile", type=Path, help="volume series or optimisation set (.star)")
    parser.add_argument("-o", "--outdir", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--mode",
        default="markers",
        choices=("volumes", "volume", "markers"),
        help="spheres, one map for all, or a volume for each particle decoded from its latent (markers)",
    )
    parser.add_argument("--ind", type=Path, metavar="PKL", help="particles (0-based rows) to show (all)")
    parser.add_argument("--tomoname", help="only this tomogram (all)")
    parser.add_argument("--tomo-id-col-override", metavar="COLUMN", help="column that names the tomogram")
    parser.add_argument(
        "--star-angpix-override", type=float, metavar="A", help="pixel size of coordinates, Å"
    )
    parser.add_argument("--vol-path", type=Path, help="mode volume: the map")
    volumes = parser.add_argument_group("mode volumes")
    volumes.add_argument("--weights", type=Path, help="weights of the training")
    volumes.add_argument("--config", type=Path, help="its config.pkl")
    volumes.add_argument(
        "--zfile", type=Path, help="latents (.pkl), one row per particle shown, or of the file"
    )
    volumes.add_argument("--skip-vol", action="store_true", help="take the volumes of an earlier run")
    options.add_volume_options(parser)
    look = parser.add_argument_group("look")
    look.add_argument("--marker-radius-angstrom", type=float, default=100, help="radius of markers, Å (100)")
    look.add_argument("--vol-render-level", type=float, default=0.5, help="isosurface level (0.5)")
    look.add_argument("--coloring-labels", type=Path, metavar="PKL", help="a label per particle (one colour)")
    look.add_argument("--colormap", help="matplotlib map for the labels (house palette)")
    options.add_device(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Write a folder with a scene for each tomogram."""
    from tomohet.files.leftovers import replacing

    with replacing(args.outdir, "subtomo2chimerax"):
        write_scenes(args)


def write_scenes(args: argparse.Namespace) -> None:
    """A scene, its colours and, where asked for, the particles' own volumes, for each tomogram."""
    import numpy as np

    from tomohet.device import device_of
    from tomohet.errors import InputError
    from tomohet.files.atomic import write_text
    from tomohet.files.mrc import read_volume
    from tomohet.files.pickles import load_array, load_indices, load_latents
    from tomohet.mapback import placements, scene

    placed = placements.read_placements(args.starfile, args.tomo_id_col_override, args.star_angpix_override)
    n = len(placed)
    chosen = load_indices(args.ind) if args.ind is not None else np.arange(n)
    if len(chosen) and chosen.max() >= n:
        raise InputError(f"{args.ind}: index {chosen.max()}, but {args.starfile} has {n} particles")
    labels = np.zeros(len(chosen), np.int64)
    if args.coloring_labels is not None:
        given = load_array(args.coloring_labels)
        if given.dtype.kind not in "biuf":
            raise InputError(f"{args.coloring_labels}: expected numbers, found {given.dtype}")
        labels = np.rint(of_chosen(given, chosen, n, args.coloring_labels)).astype(np.int64)
    colors = scene.label_colors(labels, args.colormap)
    latents = decoder = None
    if args.mode == "volumes" and not args.skip_vol:
        if None in (args.weights, args.config, args.zfile):
            raise InputError("--mode volumes needs --weights, --config and --zfile")
        from tomohet.model.load import load_model

        latents = of_chosen(load_latents(args.zfile)[0], chosen, n, args.zfile)
        decoder = load_model(args.weights, args.config, device_of(args.device))
    if args.mode == "volume":
        if args.vol_path is None:
            raise InputError("--mode volume needs --vol-path")
        map_, map_pixel_A = read_volume(args.vol_path)

    placed = placed.iloc[chosen].reset_index(drop=True)
    names = [args.tomoname] if args.tomoname is not None else sorted(placed["tomogram"].unique())
    for name in names:
        rows = np.flatnonzero(placed["tomogram"] == name)
        if len(rows) == 0:
            known = ", ".join(sorted(placed["tomogram"].unique())[:5])
            raise InputError(f"--tomoname {name}: no particle shown lies in it; tomograms: {known}")
        folder = args.outdir / placements.folder_name(name)
        here, tags = placed.iloc[rows], labels[rows]
        if args.mode == "markers":
            text = scene.marker_scene(here, tags, colors, args.marker_radius_angstrom)
        else:
            maps = [args.vol_path.resolve()] * len(rows) if args.mode == "volume" else None
            if args.mode == "volumes":
                maps = own_volumes(
                    args, folder, decoder, None if latents is None else latents[rows], len(rows)
                )
                map_, map_pixel_A = read_volume(folder / maps[0])
            matrices = scene.model_matrices(here, len(map_), map_pixel_A)
            text = scene.map_scene(maps, matrices, tags, colors, args.vol_render_level)
        write_text(folder / "mapback.cxc", text)
        write_text(folder / "rgba_labels.txt", scene.label_legend(tags, colors, args.mode == "markers"))
        log.info("%s: %d particles", folder / "mapback.cxc", len(rows))


def of_chosen(values, chosen, n: int, source: Path):
    """Values of the chosen particles, given for them alone or for all n of the file."""
    from tomohet.errors import InputError

    if len(values) == len(chosen):
        return values
    if len(values) == n:
        return values[chosen]
    raise InputError(f"{source}: {len(values)} rows, expected {len(chosen)} (shown) or {n} (in the file)")


def own_volumes(args: argparse.Namespace, folder: Path, decoder, z, count: int) -> list[Path]:
    """Names in `folder` of the particles' own volumes, decoded from their latents z unless they are there."""
    from tomohet.errors import InputError
    from tomohet.files.atomic import keep, write_pickle
    from tomohet.files.parts import content_digest
    from tomohet.files.volume_list import LIST, listed_volumes
    from tomohet.model.volumes import write_volumes

    names = [Path(f"vol_{number:03d}.mrc") for number in range(count)]
    if z is not None:
        write_pickle(folder / "z_values.pkl", z)
        write_volumes(
            decoder,
            z,
            folder,
            box=args.downsample,
            lowpass_A=args.lowpass,
            flip=args.flip,
            invert=args.invert,
            model_digest=content_digest(args.weights, args.config),
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


if __name__ == "__main__":
    command(build_parser(), run)
