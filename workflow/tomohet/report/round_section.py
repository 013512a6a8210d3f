"""One round of the tree, prepared for the template: key numbers, figures and tables."""

import base64
import math

import pandas as pd

from tomohet import plots
from tomohet.report import figures
from tomohet.report.blobs import Blobs
from tomohet.report.cell import cell
from tomohet.report.collect import STAGES, Round, depth_of
from tomohet.report.compare import comparison
from tomohet.report.explorer import explorer
from tomohet.report.facts import facts_of, tables_of, text_of
from tomohet.report.reading import Reader
from tomohet.report.space import LEAST_TABLE_BYTES, share, table_bytes
from tomohet.report.tables import MOST_CATEGORIES, label_of
from tomohet.report.truth import truth_context
from tomohet.report.volumes import MOST_VOLUMES, piece_set, volume_set

UNITS_IN_CAPTION = 5
MOST_HISTOGRAMS = 40


def round_context(round_: Round, rounds: list[Round], reader: Reader, blobs: Blobs) -> dict:
    """Collect everything that the template shows of a round. Arrays go to `blobs`."""
    summaries = round_.summaries
    space = share(len(rounds))
    structure_box = space.box(min(len(round_.volumes), MOST_VOLUMES))
    piece_box = space.box(min(len(round_.block_maps), MOST_VOLUMES) + 1)
    return {
        "name": round_.name,
        "id": f"round-{round_.name}",
        "parent": round_.parent if round_.parent in {r.name for r in rounds} else None,
        "query": round_.query,
        "depth": depth_of(round_, rounds),
        "n": round_.n_particles,
        "stages": [{"title": stage.title, "done": round_.stages[stage.folder]} for stage in STAGES],
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
        "comparison": comparison(round_, len(rounds), reader, blobs),
        "structures": volume_set(reader, blobs, round_.volumes, structure_box, structure_captions(round_)),
        "map": volume_set(reader, blobs, [round_.map], space.map_box, [{"label": "Half-map reconstruction"}])
        if round_.map
        else None,
        "variability": volume_set(
            reader,
            blobs,
            [round_.variability],
            space.map_box,
            [{"label": "Where particles differ"}],
        )
        if round_.variability
        else None,
        "fsc": figures.fsc_chart(round_.fsc),
        "resolutions": figures.resolutions(round_.fsc),
        "loss": figures.loss_charts(round_.loss),
        "held_out": figures.held_out_chart(round_.held_out),
        "held_out_verdict": summaries["train_vae"].get("verdict"),
        "sizes": cluster_sizes(round_),
        "detection": summaries["linear"].get("verdict"),
        "linear": stage_numbers(
            summaries["linear"],
            (
                *("kernel_eigenvalues", "noise_eigenvalues", "verdict", "leaks"),
                *("poses", "pose_errors", "tilts", "tilt_shift_A"),
            ),
        ),
        "linear_leaks": summaries["linear"].get("leaks") or [],
        "spectrum": spectrum(summaries["linear"]),
        "state_verdict": summaries["states"].get("verdict"),
        "states": stage_numbers(summaries["states"], ("verdict", "kind", "sizes")),
        "state_sizes": state_sizes(summaries["states"]),
        "explained": explained_variance(summaries["analyze"]),
        "verdict": summaries["convergence"].get("verdict"),
        "concerns": concerns(summaries["convergence"]),
        "convergence": stage_numbers(summaries["convergence"], ("reasons", "warnings")),
        "latent": stage_numbers(summaries["analyze"], ("leaks", "explained_variance", "kmeans", "bic")),
        "leaks": summaries["analyze"].get("leaks") or [],
        "siren": stage_numbers(summaries["siren"], ("blocks",)),
        "blocks": block_table(round_),
        "pieces": piece_set(reader, blobs, round_.map, round_.block_maps, piece_box),
        "siren_map": occupancy_map(round_.volume_table, "siren_", "block"),
        "maven": stage_numbers(summaries["maven"]),
        "maven_map": occupancy_map(round_.volume_table, "maven_", "unit"),
        "maven_histograms": occupancy_histograms(round_.particles),
        "truth": truth_context(summaries["truth"]),
        "gallery": gallery(round_, reader, space.figure_bytes),
    }


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
        note = "; ".join(f"{r:.1f} Å at {t:g}" for t, r in rest)
        found.append({"label": f"Half-map FSC = {threshold:g}", "value": f"{value:.1f} Å", "note": note})
    reliability = round_.summaries["linear"].get("held_out_reliability")
    if reliability and not math.isnan(max(reliability)):
        note = "fraction of its variance that is structure, by held-out tilts"
        found.append({"label": "Best linear latent", "value": f"{max(reliability):.2f}", "note": note})
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
    convergence = round_.summaries["convergence"]
    if convergence.get("epoch") is not None:
        note = text_of(convergence["verdict"]) if "verdict" in convergence else ""
        found.append({"label": "Network epoch used", "value": text_of(convergence["epoch"]), "note": note})
    leaks = round_.summaries["analyze"].get("leaks") or []
    if leaks:
        bad = [leak["nuisance"] for leak in leaks if leak.get("verdict") in ("leak", "look")]
        value = "clean" if not bad else f"{len(bad)} to look at"
        found.append({"label": "Leak audit", "value": value, "note": ", ".join(bad).replace("_", " ")})
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


def cluster_sizes(round_: Round) -> dict | None:
    """Make a bar chart of the k-means clusters' sizes, in the colours of the scatter plot."""
    if round_.particles is None or "kmeans" not in round_.particles:
        return None
    sizes = round_.particles["kmeans"].value_counts().sort_index()
    if len(sizes) > MOST_CATEGORIES:
        return None
    colours = plots.label_hex(len(sizes))
    return figures.bars(sizes.tolist(), "k-means cluster", "Particles", sizes.index.tolist(), colours)


def concerns(convergence: dict) -> list[str]:
    """List the convergence check's warnings, and its reasons unless the verdict is "converged"."""
    warnings = convergence.get("warnings") or []
    reasons = convergence.get("reasons") or []
    return [*warnings, *([] if convergence.get("verdict") == "converged" else reasons)]


def spectrum(linear: dict) -> dict | None:
    """Chart the leading eigenvalues of the particles' Gram (kernel) matrix.

    A gap shows how many components there are.
    """
    values = linear.get("kernel_eigenvalues")
    if not isinstance(values, list) or len(values) < 2:
        return None
    return figures.bars(values, "Component", "Kernel eigenvalue", range(1, len(values) + 1))


def state_sizes(states: dict) -> dict | None:
    """Make a bar chart of the number of particles in each discrete state."""
    sizes = states.get("sizes")
    return figures.bars(sizes, "State", "Particles", range(len(sizes))) if sizes else None


def explained_variance(analyze: dict) -> dict | None:
    """Chart the fraction of the latents' variance along each principal component."""
    values = analyze.get("explained_variance")
    if not isinstance(values, list) or len(values) < 2:
        return None
    return figures.bars(values, "Principal component", "Explained variance", range(1, len(values) + 1))


def stage_numbers(summary: dict, skip: tuple[str, ...] = ()) -> dict | None:
    """Return a stage's summary as facts and tables, or None when there is none."""
    facts, tables = facts_of(summary, skip), tables_of(summary, skip)
    return {"facts": facts, "tables": tables} if facts or tables else None


def block_table(round_: Round) -> dict | None:
    """Return SIREn's blocks, one row each, without columns that hold lists."""
    if round_.blocks is None or round_.blocks.empty:
        return None
    rows = round_.blocks.to_dict("records")
    plain = [
        {k: v for k, v in row.items() if not hasattr(v, "__len__") or isinstance(v, str)} for row in rows
    ]
    return tables_of({"blocks": plain})[0]


def occupancy_map(volumes: pd.DataFrame | None, prefix: str, unit: str) -> dict | None:
    """Make a clustermap of occupancies, volumes by blocks or units."""
    if volumes is None or "volume" not in volumes:
        return None
    return figures.clustermap(volumes.set_index("volume"), "volume", unit, prefix)


def occupancy_histograms(particles: pd.DataFrame | None) -> list[dict]:
    """Make a histogram over particles for each unit of MAVEn."""
    if particles is None:
        return []
    columns = figures.amounts(particles, "maven_")[:MOST_HISTOGRAMS]
    return figures.histograms(particles, {column: label_of(column) for column in columns}) if columns else []


def gallery(round_: Round, reader: Reader, most_bytes: int) -> list[dict]:
    """Embed the stages' own figures as data URIs, smallest first up to `most_bytes`; name the others."""
    entries, spent = {}, 0
    for path in sorted(round_.figures, key=lambda p: p.stat().st_size):
        size = path.stat().st_size
        fits = spent + size <= most_bytes
        spent += size if fits else 0
        coded = base64.b64encode(path.read_bytes()).decode("ascii") if fits else None
        entries[path] = {
            "name": reader.relative(path),
            "title": f"{path.parent.name}: {path.stem.replace('_', ' ')}",
            "uri": f"data:image/png;base64,{coded}" if coded else None,
        }
    return [entries[path] for path in round_.figures]
