"""Optimisation sets of WarpTools and RELION: particles with 3-D poses, tilts in a tomograms file.

Each particle has one stack of tilt images. The pose of an image is the particle's pose followed by the tilt's
projection; every image is keyed by (particle, tilt), so the order of rows and of tomograms has no meaning.

A particle may carry the orientation S of its subtomogram (rlnTomoSubtomogramRot/Tilt/Psi): its pose is then
S @ A, and its origin o moves it by S @ o (RELION, src/jaz/tomography/particle_set.cpp, `getMatrix3x3` and
`getPosition`). The depth of a particle is that of its coordinate; RELION subtracts the origin first, which
changes defocus by a few Å.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import Blocks, numbers, read_star, require_columns
from tomohet.particles.dialects.linked_files import find_linked
from tomohet.particles.dialects.tilt_series import TiltSeries, read_tilt_series
from tomohet.particles.paths import read_headers, resolve_stacks
from tomohet.particles.table import (
    ParticleSet,
    half_sets,
    number_images,
    refuse_bad_pixel_sizes,
    rotation_frame,
)
from tomohet.physics.geometry import euler_to_matrix

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
SUBTOMOGRAM = ["rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"]
BINNING_TOLERANCE = 0.01
PER_OPTICS_GROUP = ["rlnImagePixelSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"]
OUTSIDE_TOLERATED = 0.01  # share of particles that may lie outside the tomogram before the unit is doubted


def recognises(blocks: Blocks) -> bool:
    """Whether the file is an optimisation set, or one of the two files that a set names."""
    return bool(files_of(blocks)) or _part_of_a_set(blocks) is not None


def _part_of_a_set(blocks: Blocks) -> str | None:
    """Which file of a set this is, when it is not the set itself."""
    particles = blocks.get("particles")
    if isinstance(particles, pd.DataFrame) and {"rlnTomoName", "rlnImageName"} <= set(particles.columns):
        if not {"rlnDefocusU", "rlnMicrographName"} & set(particles.columns):
            return "particles"
    overview = blocks.get("global")
    return "tomograms" if isinstance(overview, pd.DataFrame) and "rlnTomoName" in overview.columns else None


def files_of(blocks: Blocks) -> dict[str, str]:
    """The pairs of the block that names the set's files; empty when there is none."""
    return next((b for b in blocks.values() if isinstance(b, dict) and set(FILES) <= set(b)), {})


def linked_files(blocks: Blocks, star: Path, datadir: str | Path | None = None) -> dict[str, Path]:
    """Paths of the set's particles file and tomograms file, by entry (`FILES`).

    Raises InputError when the file is no optimisation set or a named file is missing.
    """
    files = files_of(blocks)
    if not files:
        raise InputError(f"{star}: {_no_set(blocks, star)}")
    return {name: find_linked(files[name], star, datadir, name) for name in FILES}


def _no_set(blocks: Blocks, star: Path) -> str:
    """Why the file is no optimisation set, and which file beside it is the one to give."""
    part = _part_of_a_set(blocks)
    if part is None:
        return f"not an optimisation set, expected {EXPECTED}"
    sets = [path.name for path in sorted(star.parent.glob("*optimisation_set*.star")) if path != star]
    remedy = f"give {sets[0]}" if len(sets) == 1 else "give the *_optimisation_set.star that names it"
    return f"not an optimisation set, but the {part} file of one, expected {EXPECTED}; {remedy}"


def read(blocks: Blocks, star: Path, datadir: str | Path | None) -> ParticleSet:
    """Read an optimisation set. Images in the set count as dose-weighted, as WarpTools and RELION write them.

    Raises InputError for everything that does not fit together.
    """
    particles_star, tomograms_star = linked_files(blocks, star, datadir).values()
    table, remarks = _particle_table(particles_star)
    where = f"{particles_star}: table data_particles"
    pixel_size_A = numbers(table, "rlnImagePixelSize", where)
    refuse_bad_pixel_sizes(pixel_size_A, where)

    series = read_tilt_series(tomograms_star, list(table["rlnTomoName"].unique()), datadir)
    if "rlnTomoTrajectoriesFile" in files_of(blocks):
        remarks.append("the particles' trajectories (rlnTomoTrajectoriesFile) are not applied")
    if "rlnTomoVisibleFrames" not in table.columns:
        table["rlnTomoVisibleFrames"] = [str([1] * len(series[name])) for name in table["rlnTomoName"]]
        remarks.append("no rlnTomoVisibleFrames in the particles table: all tilts are taken as visible")
    remarks += _binning_remark(table, series, pixel_size_A)
    visible = _visible_frames(table, series, where)
    if not any(frames.any() for frames in visible):
        raise InputError(f"{where}: no particle has a visible tilt (rlnTomoVisibleFrames), nothing is left")
    headers = _headers(table, star, datadir, where)
    sections = _sections(visible, headers, where)
    pose, origin_A = _poses(table, where)
    origin_px = origin_A / pixel_size_A[:, None]
    centred_A, position_A, more = _positions(table, series, pixel_size_A, where)
    remarks += more

    n_frames = np.array([len(frames) for frames in visible])
    first_row = np.concatenate([[0], np.cumsum(n_frames)])
    images = []
    for name, members in table.groupby("rlnTomoName", sort=False).indices.items():
        tilts = series[name]
        # Frames of one tomogram: member particles x tilts; hidden tilts are dropped at the end.
        rotation = tilts.rotation[None] @ pose[members, None]
        shift = np.einsum("fij,pj->pfi", tilts.rotation, origin_px[members])
        depth_A = tilts.depth_A(centred_A[members])
        per_tilt = np.tile(np.arange(len(tilts)), len(members))
        per_particle = np.repeat(members, len(tilts))
        frame = pd.DataFrame({"particle": per_particle, "tilt": per_tilt})
        frame["stack"] = headers["stack"].to_numpy()[per_particle]
        frame["section"] = np.concatenate([sections[p] for p in members])
        frame = frame.assign(**rotation_frame(rotation.reshape(-1, 3, 3)))
        frame["shift_x_px"], frame["shift_y_px"] = shift[..., 0].ravel(), shift[..., 1].ravel()
        frame["defocus_u_A"] = (tilts.defocus_u_A + depth_A).ravel()
        frame["defocus_v_A"] = (tilts.defocus_v_A + depth_A).ravel()
        frame["defocus_angle_deg"] = tilts.defocus_angle_deg[per_tilt]
        frame["phase_shift_deg"] = tilts.phase_shift_deg[per_tilt]
        frame["dose_e_A2"] = tilts.dose_e_A2[per_tilt]
        frame["tilt_deg"] = tilts.tilt_deg[per_tilt]
        frame["row"] = first_row[per_particle] + per_tilt
        images.append(frame[np.concatenate([visible[p] for p in members])])
    images = _with_optics(pd.concat(images, ignore_index=True), table, pixel_size_A, where)

    particles = pd.DataFrame({"particle": np.arange(len(table)), "source_id": _source_ids(table, where)})
    particles["tomogram"] = table["rlnTomoName"].astype(str)
    particles[["x_A", "y_A", "z_A"]] = position_A
    particles["n_tilts"] = [int(frames.sum()) for frames in visible]
    particles["half"] = half_sets(table.get("rlnRandomSubset"), len(table))
    if n_hidden := int((particles["n_tilts"] == 0).sum()):
        remarks.append(f"{n_hidden} particles have no visible tilt and are left out of everything")
    return ParticleSet(
        particles=particles,
        images=number_images(images),
        dialect=NAME,
        source=star,
        box=int(headers["box"].iloc[0]),
        n_input={"particles": len(table), "images": int(n_frames.sum()), "tomograms": len(series)},
        inputs=(star, particles_star, tomograms_star),
        header_pixel_size_A=float(headers["pixel_size_A"].median()),
        remarks=tuple(remarks),
    )


def _particle_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The particles table with the optics table joined to it (the particle's own value wins), and remarks."""
    blocks = read_star(path)
    particles, optics = blocks.get("particles"), blocks.get("optics")
    if _are_volumes(blocks.get("general"), optics):
        raise InputError(
            f"{path}: particles are 3-D subtomograms, expected stacks of tilt images "
            "(rlnTomoSubTomosAre2DStacks 1); extract the particles as 2D stacks"
        )
    if not isinstance(particles, pd.DataFrame) or not isinstance(optics, pd.DataFrame):
        raise InputError(f"{path}: expected the tables data_particles and data_optics")
    where = f"{path}: table data_particles"
    require_columns(particles, [*REQUIRED, "rlnOpticsGroup"], where)
    require_columns(optics, ["rlnOpticsGroup"], f"{path}: table data_optics")
    if particles.empty:
        raise InputError(f"{where} is empty, expected at least one particle")
    if not optics["rlnOpticsGroup"].is_unique:
        raise InputError(f"{path}: table data_optics: an optics group stands twice")
    unknown = set(particles["rlnOpticsGroup"]) - set(optics["rlnOpticsGroup"])
    if unknown:
        raise InputError(f"{where}: optics group {sorted(unknown)[0]} is not in data_optics")
    own = [c for c in optics.columns if c == "rlnOpticsGroup" or c not in particles.columns]
    table = particles.merge(optics[own], on="rlnOpticsGroup", how="left", validate="many_to_one")
    require_columns(table, PER_OPTICS_GROUP, f"{path}: table data_optics")
    remarks = []
    if "rlnCtfDataAreCtfPremultiplied" not in table.columns:
        table["rlnCtfDataAreCtfPremultiplied"] = 0
        remarks.append("no rlnCtfDataAreCtfPremultiplied in the optics table: taken as not premultiplied")
    return table, remarks


def _are_volumes(general: object, optics: object) -> bool:
    """Whether the particles are 3-D boxes, as the file says or (before RELION 5) as their dimension tells."""
    if isinstance(general, dict) and "rlnTomoSubTomosAre2DStacks" in general:
        return general["rlnTomoSubTomosAre2DStacks"] != "1"
    if not isinstance(optics, pd.DataFrame) or "rlnImageDimensionality" not in optics.columns:
        return False
    return bool((optics["rlnImageDimensionality"] == 3).any())


def _binning_remark(
    table: pd.DataFrame, series: dict[str, TiltSeries], pixel_size_A: np.ndarray
) -> list[str]:
    """A remark when the stated binning contradicts the pixel sizes of image and tilt series."""
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


def _visible_frames(table: pd.DataFrame, series: dict[str, TiltSeries], where: str) -> list[np.ndarray]:
    """Per particle, which tilts of its tomogram are used; everything but 0 counts as visible."""
    parsed = {}
    for text in table["rlnTomoVisibleFrames"].unique():
        try:
            parsed[text] = np.array([int(value) for value in text.strip("[] ").split(",")]) != 0
        except ValueError as error:
            raise InputError(
                f"{where}: rlnTomoVisibleFrames: found `{text[:40]}`, expected `[1,0,...]`"
            ) from error
    visible = [parsed[text] for text in table["rlnTomoVisibleFrames"]]
    for row, (frames, name) in enumerate(zip(visible, table["rlnTomoName"], strict=True)):
        if len(frames) != len(series[name]):
            raise InputError(
                f"{where}: row {row + 1}: rlnTomoVisibleFrames has {len(frames)} entries, but tomogram "
                f"{name} has {len(series[name])} tilts"
            )
    return visible


def _headers(table: pd.DataFrame, star: Path, datadir: str | Path | None, where: str) -> pd.DataFrame:
    """Stack header of each particle, in table order."""
    names = table["rlnImageName"]
    if (at := names.str.contains("@", regex=False)).any():
        raise InputError(
            f"{where}: rlnImageName `{names[at].iloc[0]}`, expected one whole stack per particle"
        )
    if (twice := names.duplicated()).any():
        rows = np.flatnonzero(names == names[twice].iloc[0])[:2] + 1
        raise InputError(
            f"{where}: duplicate particle: rows {rows[0]} and {rows[1]} use {names[twice].iloc[0]}"
        )
    headers = read_headers(resolve_stacks(list(names), star, datadir))
    if "rlnImageSize" in table.columns:
        stated = numbers(table, "rlnImageSize", where)
        if (wrong := np.flatnonzero(stated != headers["box"])).size:
            raise InputError(
                f"{headers['stack'][wrong[0]]}: box {headers['box'][wrong[0]]} px, but rlnImageSize says "
                f"{stated[wrong[0]]:g}; stacks and STAR file do not belong together"
            )
    return headers


def _sections(visible: list[np.ndarray], headers: pd.DataFrame, where: str) -> list[np.ndarray]:
    """1-based section of every frame: the stack's depth tells if it holds all frames or the visible ones."""
    sections = []
    for frames, stack, depth in zip(visible, headers["stack"], headers["n_sections"], strict=True):
        if depth == len(frames):
            sections.append(np.arange(1, depth + 1))
        elif depth == frames.sum():
            sections.append(np.cumsum(frames))
        else:
            raise InputError(
                f"{stack}: {depth} sections, expected {len(frames)} (all tilts) or {frames.sum()} (visible "
                f"tilts) as {where} says"
            )
    return sections


def _poses(table: pd.DataFrame, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Poses (n, 3, 3) particle -> tomogram and refined shifts (n, 3) in Å along the tomogram's axes."""
    pose = euler_to_matrix(*(numbers(table, f"rlnAngle{name}", where) for name in ("Rot", "Tilt", "Psi")))
    columns = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
    origin_A = np.stack(
        [numbers(table, c, where) if c in table.columns else np.zeros(len(table)) for c in columns], axis=1
    )
    if not set(SUBTOMOGRAM) & set(table.columns):
        return pose, origin_A
    require_columns(table, SUBTOMOGRAM, where)
    subtomogram = euler_to_matrix(*(numbers(table, column, where) for column in SUBTOMOGRAM))
    return subtomogram @ pose, np.einsum("pij,pj->pi", subtomogram, origin_A)


def _positions(
    table: pd.DataFrame, series: dict[str, TiltSeries], pixel_size_A: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Positions (n, 3) in Å relative to the tomogram's centre and to its corner, and remarks.

    Centred coordinates are in Å. Others are unbinned pixels in tomograms of RELION. In those of WarpTools
    they are pixels of the extracted image, unless that puts particles outside the tomogram and unbinned ones
    do not.
    """
    size_A = np.array([series[name].size_A for name in table["rlnTomoName"]])
    centred = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    if set(centred) <= set(table.columns):
        centred_A = np.stack([numbers(table, column, where) for column in centred], axis=1)
        return centred_A, centred_A + size_A / 2, []
    plain = [f"rlnCoordinate{axis}" for axis in "XYZ"]
    if not set(plain) <= set(table.columns):
        raise InputError(f"{where}: found neither _{centred[0]}, ... nor _{plain[0]}, ... (all of X, Y, Z)")
    coordinates = np.stack([numbers(table, f"rlnCoordinate{axis}", where) for axis in "XYZ"], axis=1)
    extracted_A = coordinates * pixel_size_A[:, None]
    unbinned_A = coordinates * np.array([series[name].pixel_size_A for name in table["rlnTomoName"]])[:, None]
    if not any(tilts.by_warp for tilts in series.values()):
        return unbinned_A - size_A / 2, unbinned_A, _outside_remark(unbinned_A, size_A)
    outside = {}
    for unit, position_A in {"extracted": extracted_A, "unbinned": unbinned_A}.items():
        outside[unit] = int(((position_A < 0) | (position_A > size_A)).any(axis=1).sum())
    if outside["extracted"] > OUTSIDE_TOLERATED * len(table) and outside["unbinned"] < outside["extracted"]:
        remarks = ["rlnCoordinateX/Y/Z are taken as unbinned pixels: extracted ones leave the tomogram"]
        return unbinned_A - size_A / 2, unbinned_A, remarks
    return extracted_A - size_A / 2, extracted_A, _outside_remark(extracted_A, size_A)


def _outside_remark(position_A: np.ndarray, size_A: np.ndarray) -> list[str]:
    n_outside = int(((position_A < 0) | (position_A > size_A)).any(axis=1).sum())
    return [f"{n_outside} particles lie outside their tomogram"] if n_outside else []


def _with_optics(
    images: pd.DataFrame, table: pd.DataFrame, pixel_size_A: np.ndarray, where: str
) -> pd.DataFrame:
    """Add what belongs to the particle's optics group to each of its images."""
    particle = images["particle"].to_numpy()
    images["pixel_size_A"] = pixel_size_A[particle]
    images["voltage_kV"] = numbers(table, "rlnVoltage", where)[particle]
    images["cs_mm"] = numbers(table, "rlnSphericalAberration", where)[particle]
    images["amplitude_contrast"] = numbers(table, "rlnAmplitudeContrast", where)[particle]
    if "rlnPhaseShift" in table.columns:  # the particle's own value wins over its tilts'
        images["phase_shift_deg"] = numbers(table, "rlnPhaseShift", where)[particle]
    premultiplied = numbers(table, "rlnCtfDataAreCtfPremultiplied", where) != 0
    images["ctf_premultiplied"] = premultiplied[particle]
    images["dose_weighted"] = True
    return images


def _source_ids(table: pd.DataFrame, where: str) -> pd.Series:
    """The particles' own names, or tomogram/row; raises InputError when a name stands twice."""
    if "rlnTomoParticleName" not in table.columns:
        return table["rlnTomoName"] + "/" + (table.groupby("rlnTomoName").cumcount() + 1).astype(str)
    names = table["rlnTomoParticleName"]
    if (twice := names.duplicated()).any():
        rows = np.flatnonzero(names == names[twice].iloc[0])[:2] + 1
        raise InputError(
            f"{where}: duplicate particle {names[twice].iloc[0]} in rows {rows[0]} and {rows[1]}"
        )
    return names
