"""One round of the tree, prepared for the template: key numbers, figures and tables."""

from pathlib import Path

import pandas as pd

from tomohet import plots
from tomohet.answers import STATED
from tomohet.report import figures
from tomohet.report.answers import support, verdict
from tomohet.report.blobs import Blobs
from tomohet.report.cell import cell
from tomohet.report.collect import STAGES, Round, depth_of
from tomohet.report.compare import comparison
from tomohet.report.evidence import evidence, figure
from tomohet.report.explorer import explorer
from tomohet.report.facts import facts_of, tables_of, text_of
from tomohet.report.reading import Reader
from tomohet.report.space import LEAST_TABLE_BYTES, share, table_bytes, volume_characters
from tomohet.report.truth import truth_context
from tomohet.report.volumes import MOST_VOLUMES, piece_set, volume_set
from tomohet.rounds import layout

UNITS_IN_CAPTION = 5
VARIABILITY = (
    "Standard deviation of the particles' maps, voxel by voxel (linear/variability.mrc). A part that comes "
    "and goes appears as a blob, a part that moves as a shell around its edge."
)


def round_context(round_: Round, rounds: list[Round], reader: Reader, blobs: Blobs) -> dict:
    """Collect everything that the template shows of a round. Arrays go to `blobs`."""
    summaries = round_.summaries
    space = share(len(rounds))
    structure_box = space.box(min(len(round_.volumes), MOST_VOLUMES))
    piece_box = space.box(min(len(round_.block_maps), MOST_VOLUMES) + 1)
    maps = {
        "half maps": figure(
            "map", _one(reader, blobs, round_.map, space.map_box, "Half-map reconstruction"), kind="volumes"
        ),
        "linear": figure(
            "variability",
            _one(reader, blobs, round_.variability, space.map_box, "Where particles differ"),
            VARIABILITY,
            kind="volumes",
        ),
        "siren": figure(
            "pieces",
            piece_set(reader, blobs, round_.map, round_.block_maps, piece_box),
            kind="volumes",
        ),
    }
    return {
        "name": round_.name,
        "id": f"round-{round_.name}",
        "parent": round_.parent if round_.parent in {r.name for r in rounds} else None,
        "chosen_by": round_.chosen_by,
        "differ": verdict(round_),
        "support": support(round_),
        "depth": depth_of(round_, rounds),
        "n": round_.n_particles,
        "stages": [
            {"title": stage.title, "done": round_.stages[stage.name]}
            for stage in STAGES
            if round_.parent or stage != layout.SUPPORT  # a root has nothing to be compared with
        ],
        "tiles": tiles(round_),
        "explorer": explorer(
            round_,
            blobs,
            round_.particles,
            "particle",
            table_bytes(round_.n_particles, [r.n_particles for r in rounds]),
        ),
        "volume_space": explorer(round_, blobs, round_.volume_table, "volume", LEAST_TABLE_BYTES),
        "cell": cell(round_, reader, blobs),
        "comparison": comparison(round_, volume_characters([r.n_particles for r in rounds]), reader, blobs),
        "structures": volume_set(reader, blobs, round_.volumes, structure_box, structure_captions(round_)),
        "resolution": figures.resolution_text(round_.fsc, figures.THRESHOLDS[-1]),
        "evidence": evidence(round_, maps),
        "truth": truth_context(summaries["truth"]),
    }


def _one(reader: Reader, blobs: Blobs, path: Path | None, box: int, label: str) -> dict | None:
    """Return the set of one volume, or None without the volume."""
    return volume_set(reader, blobs, [path], box, [{"label": label}]) if path else None


def tiles(round_: Round) -> list[dict]:
    """List the most important numbers."""
    found = []
    if round_.n_particles is not None:
        share = round_.summaries["subset"].get("n_parent")
        note = f"of {share:,} in {round_.parent or 'the dataset'}" if share else ""
        found.append({"label": "Particles", "value": f"{round_.n_particles:,}", "note": note})
    resolution = figures.resolutions(round_.fsc)
    if resolution:
        (threshold, value), *rest = reversed(resolution.items())
        notes = [f"{figures.resolution_text(round_.fsc, t)} at {t:g}" for t, _ in rest]
        if figures.limited_by_pixels(round_.fsc, value):
            notes.append("Nyquist: limited by the pixel size")
        label, note = f"Half-map FSC = {threshold:g}", "; ".join(notes)
        found.append({"label": label, "value": f"{value:.1f} Å", "note": note})
    confirmed = round_.summaries["linear"].get("held_out_reliability")
    if isinstance(confirmed, list) and round_.summaries["linear"].get("heterogeneity_found"):
        found.append(
            {"label": "Components", "value": str(len(confirmed)), "note": "confirmed by held-out tilts"}
        )
    errors = round_.summaries["linear"].get("pose_errors")
    sizes = [errors.get(name) for name in ("rotation_deg", "shift_A")] if isinstance(errors, dict) else [None]
    if all(isinstance(size, int | float) for size in sizes):
        rotation_deg, shift_A = sizes
        value = f"{rotation_deg:.1f}°, {shift_A:.1f} Å" if rotation_deg or shift_A else "none found"
        note = "rms rotation; shift along each axis"
        share = errors.get("share_of_one_direction")
        if errors.get("one_direction") and isinstance(share, int | float):
            note += f"; {100 * share:.0f} % of their variance along one direction: a part may move"
        found.append({"label": "Pose errors", "value": value, "note": note})
    tilt_shift_A = round_.summaries["linear"].get("tilt_shift_A")
    if isinstance(tilt_shift_A, int | float) and tilt_shift_A:
        note = "of single tilt images along each axis; marginalised by the model"
        found.append({"label": "Tilt image shifts", "value": f"{tilt_shift_A:.1f} Å", "note": note})
    states = round_.summaries["states"]
    if isinstance(states.get("n_states"), int):
        found.append(
            {"label": "States", "value": str(states["n_states"]), "note": text_of(states.get("kind"))}
        )
    if round_.blocks is not None:
        found.append({"label": "SIREn blocks", "value": str(len(round_.blocks)), "note": "without a model"})
    if round_.occupancies is not None:
        units = len(figures.amounts(round_.occupancies, "maven_"))
        found.append({"label": "MAVEn units", "value": str(units), "note": "pieces of the model"})
    return found


def structure_captions(round_: Round) -> list[dict]:
    """Caption each volume with its name and the number of particles that it represents."""
    sizes = volume_sizes(round_)
    details = cluster_details(round_)
    clusters = bool(round_.volumes) and round_.volumes[0].parent.name.startswith("kmeans")
    colours = plots.label_hex(len(round_.volumes))
    captions = []
    for index, path in enumerate(round_.volumes):
        label = f"Cluster {index}" if clusters else path.stem.replace("vol_", "Volume ")
        caption = {"label": label, "note": ""}
        if sizes is not None and index in sizes.index:
            caption["n"] = int(sizes[index])
            caption["note"] = f"{sizes[index]:,} particles ({100 * sizes[index] / sizes.sum():.0f} %)"
        if clusters:
            caption["colour"] = colours[index]
            caption["group"] = {"column": "kmeans", "value": index}
            caption["detail"] = details.get(index, "")
        captions.append(caption)
    return captions


def cluster_details(round_: Round) -> dict[int, str]:
    """Return mean occupancies of each k-means cluster's particles, for the units that differ most."""
    table = round_.particles
    if table is None or "kmeans" not in table:
        return {}
    units = figures.amounts(table, "maven_") or figures.amounts(table, "siren_")
    means = table.groupby("kmeans")[units].mean()
    telling = means.std().nlargest(UNITS_IN_CAPTION).index
    shown = [unit for unit in units if unit in telling]
    return {
        int(cluster): " · ".join(f"{unit.split('_', 1)[1]}\u00a0{max(row[unit], 0):.2f}" for unit in shown)
        for cluster, row in means.iterrows()
    }


def volume_sizes(round_: Round) -> pd.Series | None:
    """Count the particles that each shown volume represents, by the volume's number."""
    if round_.particles is None or not round_.volumes:
        return None
    clusters = round_.volumes[0].parent.name.startswith("kmeans")
    column = "kmeans" if clusters else "volume"
    return round_.particles[column].value_counts().sort_index() if column in round_.particles else None


def stage_numbers(summary: dict, skip: tuple[str, ...] = ()) -> dict | None:
    """Return a stage's summary as facts and tables, or None when there is none."""
    skip = (*skip, *STATED)
    facts, tables = facts_of(summary, skip), tables_of(summary, skip)
    return {"facts": facts, "tables": tables} if facts or tables else None
