"""Optimisation sets of WarpTools and RELION: particles with 3-D poses, tilts in a tomograms file.

Each particle has one stack of tilt images. The pose of an image is the particle's pose followed by the tilt's
projection. Every image is identified by (particle, tilt), so the order of rows and of tomograms has no
meaning.

A particle may have the orientation S of its subtomogram (rlnTomoSubtomogramRot/Tilt/Psi). Its pose is then S
@ A, and its origin o moves it by S @ o (RELION, src/jaz/tomography/particle_set.cpp, `getMatrix3x3` and
`getPosition`). The depth of a particle is that of its coordinate; RELION subtracts the origin first, which
changes defocus by a few Å.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import Blocks, as_pairs, as_table, numbers, read_star, require_columns
from tomohet.particles.copies import numbered_copies, with_copies_told
from tomohet.particles.dialects.linked_files import find_linked
from tomohet.particles.dialects.optics import join_optics
from tomohet.particles.dialects.series_tomograms import equal_tomograms
from tomohet.particles.dialects.set_coordinates import particle_poses, particle_positions
from tomohet.particles.dialects.set_stacks import stack_headers, stack_sections, visible_frames
from tomohet.particles.dialects.tilt_series import TiltSeries, read_tilt_series
from tomohet.particles.table import (
    ParticleSet,
    half_sets,
    number_images,
    one_after_another,
    refuse_bad_pixel_sizes,
    refuse_impossible_optics,
    rotation_frame,
)

NAME = "optimisation set"
SOURCE_SOFTWARE = ("warptools", "relion")
EXPECTED = "rlnTomoParticlesFile and rlnTomoTomogramsFile"
FILES = ("rlnTomoParticlesFile", "rlnTomoTomogramsFile")
REQUIRED = [
    "rlnTomoName",
    "rlnImageName",
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
]
BINNING_TOLERANCE = 0.01
OPTICS = {
    "voltage_kV": "rlnVoltage",
    "cs_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
}
# Flags of images corrected on extraction; RELION writes the first with --real_subtomo (subtomo.cpp).
CORRECTED = ("rlnCtfDataAreCtfCorrected", "rlnCtfDataArePhaseFlipped")
PER_OPTICS_GROUP = ["rlnImagePixelSize", *OPTICS.values()]


def recognises(blocks: Blocks) -> bool:
    """Tell whether the file is an optimisation set, or one of the two files that a set names."""
    return bool(files_of(blocks)) or _part_of_a_set(blocks) is not None


def _part_of_a_set(blocks: Blocks) -> str | None:
    """Name the file of a set that this is, when it is not the set itself."""
    particles = set(blocks.get("particles", ()))
    if {"rlnTomoName", "rlnImageName"} <= particles and not {"rlnDefocusU", "rlnMicrographName"} & particles:
        return "particles"
    return "tomograms" if "rlnTomoName" in blocks.get("global", ()) else None


def files_of(blocks: Blocks) -> dict[str, str]:
    """Return the names of the set's files, by entry, from pairs or a loop of one row; empty without any."""
    return next((as_pairs(block) for block in blocks.values() if set(FILES) <= set(as_pairs(block))), {})


def linked_files(blocks: Blocks, star: Path, datadir: str | Path | None = None) -> dict[str, Path]:
    """Return the paths of the set's particles file and tomograms file, by entry (`FILES`).

    Raises InputError when the file is not an optimisation set or a named file is missing.
    """
    files = files_of(blocks)
    if not files:
        raise InputError(f"{star}: {_no_set(blocks, star)}")
    return {name: find_linked(files[name], star, datadir, name) for name in FILES}


def _no_set(blocks: Blocks, star: Path) -> str:
    """Explain why the file is not an optimisation set, and which file beside it to give."""
    part = _part_of_a_set(blocks)
    if part is None:
        return f"not an optimisation set, expected {EXPECTED}"
    sets = [path.name for path in sorted(star.parent.glob("*optimisation_set*.star")) if path != star]
    remedy = f"give {sets[0]}" if len(sets) == 1 else "give the *_optimisation_set.star that names it"
    return f"not an optimisation set, but the {part} file of one, expected {EXPECTED}; {remedy}"


def read(blocks: Blocks, star: Path, datadir: str | Path | None) -> ParticleSet:
    """Read an optimisation set.

    Images marked premultiplied were multiplied by CTF, dose weight and rlnCtfScalefactor, others by nothing
    (RELION, subtomo.cpp, `if (do_ctf)`, CTF.h, `getCTF`; Warp, TiltSeries.ReconstructParticleSeries.cs).

    Raises InputError for everything that is inconsistent.
    """
    particles_star, tomograms_star = linked_files(blocks, star, datadir).values()
    table, remarks = _particle_table(particles_star)
    where = f"{particles_star}: table data_particles"
    pixel_size_A = numbers(table, "rlnImagePixelSize", where)
    refuse_bad_pixel_sizes(pixel_size_A, where)

    series = read_tilt_series(tomograms_star, list(table["rlnTomoName"].unique()), datadir)
    remarks += _of_tomograms(series)
    if files_of(blocks).get("rlnTomoTrajectoriesFile", "") not in ("", "None"):
        remarks.append("the particles' trajectories (rlnTomoTrajectoriesFile) are not applied")
    if "rlnTomoVisibleFrames" not in table.columns:
        table["rlnTomoVisibleFrames"] = [str([1] * len(series[name])) for name in table["rlnTomoName"]]
        remarks.append("no rlnTomoVisibleFrames in the particles table: all tilts are treated as visible")
    remarks += _binning_remark(table, series, pixel_size_A)
    visible = visible_frames(table, series, where)
    if not any(frames.any() for frames in visible):
        raise InputError(f"{where}: no particle has a visible tilt (rlnTomoVisibleFrames), no image is left")
    pose, origin_A = particle_poses(table, where)
    origin_px = origin_A / pixel_size_A[:, None]
    centred_A, position_A, more = particle_positions(table, series, pixel_size_A, where)
    remarks += more
    headers = stack_headers(table, star, datadir, where)
    stacks = pd.DataFrame({"rlnImageName": "1@" + table["rlnImageName"]})
    remarks += equal_tomograms(stacks, table["rlnTomoName"].to_numpy())
    sections = stack_sections(visible, headers, where)

    n_frames = np.array([len(frames) for frames in visible])
    first_row = np.concatenate([[0], np.cumsum(n_frames)])
    paths = pd.Categorical(headers["stack"])
    images = []
    for name, members in table.groupby("rlnTomoName", sort=False).indices.items():
        tilts = series[name]
        # All frames of one tomogram: member particles x tilts; hidden tilts are dropped at the end.
        rotation = tilts.rotation[None] @ pose[members, None]
        shift = np.einsum("fij,pj->pfi", tilts.rotation, origin_px[members])
        depth_A = tilts.depth_A(centred_A[members])
        per_tilt = np.tile(np.arange(len(tilts)), len(members))
        per_particle = np.repeat(members, len(tilts))
        frame = pd.DataFrame({"particle": per_particle, "tilt": per_tilt})
        frame["stack"] = paths[per_particle]
        frame["section"] = np.concatenate([sections[p] for p in members])
        frame = frame.assign(**rotation_frame(rotation.reshape(-1, 3, 3)))
        frame["shift_x_px"], frame["shift_y_px"] = shift[..., 0].ravel(), shift[..., 1].ravel()
        frame["defocus_u_A"] = (tilts.defocus_u_A + depth_A).ravel()
        frame["defocus_v_A"] = (tilts.defocus_v_A + depth_A).ravel()
        frame["defocus_angle_deg"] = tilts.defocus_angle_deg[per_tilt]
        frame["phase_shift_deg"] = tilts.phase_shift_deg[per_tilt]
        frame["dose_e_A2"] = tilts.dose_e_A2[per_tilt]
        frame["tilt_deg"] = tilts.tilt_deg[per_tilt]
        frame["scale_factor"] = tilts.scale_factor[per_tilt]
        frame["dose_b_factor_A2"] = tilts.dose_b_factor_A2
        frame["row"] = first_row[per_particle] + per_tilt
        images.append(frame[np.concatenate([visible[p] for p in members])])
    images = _with_optics(one_after_another(images), table, pixel_size_A, where)
    if n_excluded := int((images["scale_factor"] <= 0).sum()):
        remarks.append(f"{n_excluded} visible images have rlnCtfScalefactor 0 or less, like excluded ones")

    particles = pd.DataFrame({"particle": np.arange(len(table)), "source_id": _source_ids(table, where)})
    particles["tomogram"] = table["rlnTomoName"].astype(str)
    particles[["x_A", "y_A", "z_A"]] = position_A
    particles["n_tilts"] = [int(frames.sum()) for frames in visible]
    particles["half"] = half_sets(table.get("rlnRandomSubset"), len(table))
    if n_hidden := int((particles["n_tilts"] == 0).sum()):
        remarks.append(f"{n_hidden} particles have no visible tilt and are left out")
    images = number_images(images)

    def rows_of(some: np.ndarray) -> str:
        rows = np.sort(images["particle"].to_numpy()[some])
        return f"{where}: duplicate particle: rows {rows[0] + 1} and {rows[1] + 1} use " + str(
            table["rlnImageName"].iloc[rows[0]]
        )

    read = ParticleSet(
        particles=particles,
        images=images,
        dialect=NAME,
        source=star,
        box=int(headers["box"].iloc[0]),
        n_input={"particles": len(table), "images": int(n_frames.sum()), "tomograms": len(series)},
        inputs=(star, particles_star, tomograms_star),
        header_pixel_size_A=float(headers["pixel_size_A"].median()),
        remarks=tuple(remarks),
    )
    return with_copies_told(read, rows_of)


def _particle_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the particles table with its optics joined (the particle's own value wins), and remarks."""
    blocks = read_star(path)
    particles, optics = as_table(blocks.get("particles")), as_table(blocks.get("optics"))
    if _are_volumes(blocks.get("general"), optics):
        raise InputError(
            f"{path}: particles are 3-D subtomograms, expected stacks of tilt images "
            "(rlnTomoSubTomosAre2DStacks 1); extract the particles as 2D stacks"
        )
    if particles is None or optics is None:
        raise InputError(f"{path}: expected the tables data_particles and data_optics")
    where = f"{path}: table data_particles"
    require_columns(particles, REQUIRED, where)
    if particles.empty:
        raise InputError(f"{where} is empty, expected at least one particle")
    for name, block in (("optics", optics), ("particles", particles)):
        _refuse_what_cannot_be_modelled(block, f"{path}: table data_{name}")
    table = join_optics(particles, optics, path, where)
    require_columns(table, PER_OPTICS_GROUP, f"{path}: table data_optics")
    remarks = []
    if "rlnCtfDataAreCtfPremultiplied" not in table.columns:
        table["rlnCtfDataAreCtfPremultiplied"] = 0
        remarks.append("no rlnCtfDataAreCtfPremultiplied in the optics table: treated as not premultiplied")
    return table, remarks


def _are_volumes(general: pd.DataFrame | dict | None, optics: pd.DataFrame | None) -> bool:
    """Tell whether the particles are 3-D boxes, as stated, or (before RELION 5) by their dimension."""
    if stated := as_pairs(general).get("rlnTomoSubTomosAre2DStacks"):
        return stated != "1"
    if optics is None or "rlnImageDimensionality" not in optics.columns:
        return False
    return bool((optics["rlnImageDimensionality"] == 3).any())


def _refuse_what_cannot_be_modelled(table: pd.DataFrame, where: str) -> None:
    """Raise InputError for images that were corrected on extraction and for impossible microscopes."""
    for column in (column for column in CORRECTED if column in table.columns):
        if (wrong := np.flatnonzero(numbers(table, column, where) != 0)).size:
            raise InputError(
                f"{where}: column _{column}, row {wrong[0] + 1}: found {table[column].iloc[wrong[0]]}, "
                "expected 0: images that were corrected for their CTF cannot be modelled; extract them as 2D "
                "stacks without correction"
            )
    stated = {
        name: numbers(table, column, where) for name, column in OPTICS.items() if column in table.columns
    }
    refuse_impossible_optics(pd.DataFrame(stated), where)


def _of_tomograms(series: dict[str, TiltSeries]) -> list[str]:
    """Collect the remarks of all tilt series, each once, with the number of tomograms to which it applies."""
    counts = Counter(remark for tilts in series.values() for remark in tilts.remarks)
    return [f"{remark} ({count} of {len(series)} tomograms)" for remark, count in counts.items()]


def _binning_remark(
    table: pd.DataFrame, series: dict[str, TiltSeries], pixel_size_A: np.ndarray
) -> list[str]:
    """Remark when the stated binning contradicts the pixel sizes of image and tilt series."""
    if "rlnTomoSubtomogramBinning" not in table.columns:
        return []
    unbinned_A = table["rlnTomoName"].map({name: tilts.pixel_size_A for name, tilts in series.items()})
    expected_A = pd.to_numeric(table["rlnTomoSubtomogramBinning"], errors="coerce") * unbinned_A
    wrong = np.flatnonzero(~(np.abs(expected_A - pixel_size_A) <= BINNING_TOLERANCE * pixel_size_A))
    if not wrong.size:
        return []
    return [
        f"{len(wrong)} particles: rlnTomoSubtomogramBinning x rlnTomoTiltSeriesPixelSize is "
        f"{expected_A.iloc[wrong[0]]:g} Å, but rlnImagePixelSize {pixel_size_A[wrong[0]]:g} Å, which is used"
    ]


def _with_optics(
    images: pd.DataFrame, table: pd.DataFrame, pixel_size_A: np.ndarray, where: str
) -> pd.DataFrame:
    """Add the quantities of the particle's optics group to each of its images."""
    particle = images["particle"].to_numpy()
    images["pixel_size_A"] = pixel_size_A[particle]
    for name, column in OPTICS.items():
        images[name] = numbers(table, column, where)[particle]
    if "rlnPhaseShift" in table.columns:  # the particle's own value wins over its tilts'
        images["phase_shift_deg"] = numbers(table, "rlnPhaseShift", where)[particle]
    premultiplied = (numbers(table, "rlnCtfDataAreCtfPremultiplied", where) != 0)[particle]
    images["ctf_premultiplied"] = images["dose_weighted"] = premultiplied
    images["scale_factor"] = np.where(premultiplied, images["scale_factor"], 1.0)
    images["dose_b_factor_A2"] = np.where(premultiplied, images["dose_b_factor_A2"], 0.0)
    return images


def _source_ids(table: pd.DataFrame, where: str) -> pd.Series:
    """Return the particles' own names, or tomogram/row.

    Raises InputError when one name stands for two stacks.
    """
    if "rlnTomoParticleName" not in table.columns:
        return table["rlnTomoName"] + "/" + (table.groupby("rlnTomoName").cumcount() + 1).astype(str)
    names = table["rlnTomoParticleName"]
    copies = table.duplicated(["rlnTomoParticleName", "rlnImageName"])
    if (twice := names.duplicated() & ~copies).any():
        rows = np.flatnonzero(names == names[twice].iloc[0])[:2] + 1
        raise InputError(
            f"{where}: duplicate particle {names[twice].iloc[0]} in rows {rows[0]} and {rows[1]}"
        )
    return numbered_copies(names)
