"""A round's particles, maps and mask in one folder, for programs that refine them further, with a README."""

import os
import shutil
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import atomic_path, keep, write_text
from tomohet.files.digests import check, is_there
from tomohet.files.mrc import read_map
from tomohet.files.text import read_json
from tomohet.particles import export
from tomohet.rounds.layout import FILTERED_MAP, HALF_MAPS, MAP, RECONSTRUCTION, SUBSET
from tomohet.rounds.lineage import file_digest

README = "README.txt"
HALVES, MASK = ("half1.mrc", "half2.mrc"), "mask.mrc"
MAPS = {
    MAP: "the average of all its particles, unfiltered",
    FILTERED_MAP: "the same, filtered to its resolution",
    HALVES[0]: "half map 1, unfiltered",
    HALVES[1]: "half map 2, unfiltered",
    MASK: "the mask in which the FSC was measured, 0 to 1",
}
SERIES = {
    "particles.star": "the particles, with a row for each tilt image, as in your input",
    "volumes.star": "the particles, with a row for each particle and its 3-D position",
}
A_SET = "the particles' optimisation set; it names the files of particles and tomograms beside it"


def hand_over(round_dir: Path, folder: Path) -> dict[str, str]:
    """Write a round's STAR files into `folder`, link its maps and mask there, and explain them in README.txt.

    Names of image stacks lead from `folder` to the same stacks. Maps are hard links where the file system has
    them, else copies.

    Return the meaning of each file by name. Raises InputError when the round has no exported particles or no
    half maps yet.
    """
    subset = SUBSET.path(round_dir, "")
    if not subset.is_dir():
        rounds = ", ".join(sorted(path.parent.name for path in round_dir.glob(f"*/{SUBSET.folder}")))
        found = f"; {round_dir} has the rounds {rounds}" if rounds else ""
        raise InputError(f"{round_dir}: not the folder of a round, such as results/<dataset>/<round>{found}")
    for file, command in (("particles.star", "filter_star"), (RECONSTRUCTION, "backproject_voxel")):
        if not (subset / file).is_file():
            raise InputError(
                f"{subset}: no {file}, expected what `tomohet {command}` writes; run this round first"
            )
    written: dict[str, str] = {}
    for name, meaning in SERIES.items():
        if is_there(subset / name):
            written |= _write_particles(subset / name, folder / name, meaning)
    for name, meaning in MAPS.items():
        if is_there(subset / name):
            link(subset / name, folder / name)
            written[name] = meaning
    write_text(folder / README, readme(round_dir, written))
    return written


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link to the file, or a copy where links are impossible."""
    check(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    keep(target)


def readme(round_dir: Path, written: dict[str, str]) -> str:
    """Return the text of README.txt: what the files are, how to go on with them, and the way back."""
    told = read_json(HALF_MAPS.path(round_dir, RECONSTRUCTION))
    _, pixel_size_A = read_map(SUBSET.path(round_dir, MAP))
    digest = file_digest(SUBSET.path(round_dir, SUBSET.last))
    width = max(map(len, written))
    return "\n".join(
        [
            f"Round {round_dir.name} of dataset {round_dir.parent.name}",
            "",
            f"{told['n_particles']:,} particles with {told['n_images']:,} tilt images. Half maps agree to "
            f"{told['resolution_A']:.1f} Å (FSC 0.143).",
            f"Maps: {told['box']} voxels along each axis, {pixel_size_A:.4g} Å per voxel, centre at voxel "
            f"{told['box'] // 2}.",
            f"SHA-256 of the particles' indices (subset/indices.pkl): {digest}",
            "",
            "Files",
            *(f"  {name:<{width}}  {meaning}" for name, meaning in written.items()),
            "",
            *_relion(written),
            *_m_and_warp(written),
            *_way_back(written),
            "",
        ]
    )


def _relion(written: dict[str, str]) -> list[str]:
    if A_SET in written.values():
        particles = next(name for name, meaning in written.items() if meaning == A_SET)
        how = [
            f"  Refine 3D auto or 3D classification: {particles} as the optimisation set,",
            f"  {FILTERED_MAP} as the reference (its grey scale is not absolute), {MASK} as the mask.",
            "  Local searches of angles suffice: particles have poses already.",
        ]
    else:
        how = [
            "  RELION 5 takes particles in tomograms from an optimisation set, which your input is not.",
            "  Extract the particles anew from positions: coordinates.star in ../../mapback has them, if the",
            "  configuration names a volume series.",
        ]
    return [
        "RELION 5",
        *how,
        f"  Post-processing: {HALVES[0]} and {HALVES[1]} with {MASK}.",
        "",
    ]


def _m_and_warp(written: dict[str, str]) -> list[str]:
    with_poses = next((name for name in written if name == "volumes.star" or written[name] == A_SET), None)
    positions = with_poses or "a file with a row for each particle (the configuration names none)"
    return [
        "M",
        f"  A new species: {HALVES[0]}, {HALVES[1]}, {MASK}, and {positions} as its particles.",
        "",
        "Warp (WarpTools)",
        f"  Export of particles at another pixel size or box: {positions} has their coordinates and angles.",
        "",
    ]


def _way_back(written: dict[str, str]) -> list[str]:
    given = "An optimisation set" if A_SET in written.values() else "A STAR file of the tilt images"
    return [
        "And back",
        f"  {given} with refined angles and shifts replaces the poses of the input:",
        "      prepare: {poses_from: FILE.star}",
        "  Tilt images are recognised by stack and section, else by the names of particles. A file that",
        "  lacks particles is refused, unless `prepare: {ind_ptcls: ...}` selects those that it has.",
        "  Images that were extracted again at other coordinates are a new dataset: `particles: FILE.star`.",
    ]


def _write_particles(source: Path, target: Path, meaning: str) -> dict[str, str]:
    """Write a STAR file so that its stacks are found from its new folder; return the meaning of each file."""
    star_type = export.detect_type(source)
    if star_type == "optimisation_set":
        particles, tomograms = export.read_optimisation_set(source)
        export.write_optimisation_set(
            source, particles, tomograms, np.ones(particles.n_rows, dtype=bool), target
        )
        parts = ("its particles", "its tomograms")
        names = [file.name for file in export.set_files(target)]
        return {names[0]: A_SET} | dict(zip(names[1:], parts, strict=True))
    file = export.read_particle_file(source, star_type)
    file.placed(target).write(target, np.ones(file.n_rows, dtype=bool))
    return {target.name: meaning}
