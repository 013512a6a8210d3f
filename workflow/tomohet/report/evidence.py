"""The evidence of a round, stage by stage: sentences, figures, numbers and files."""

from tomohet.answers import SEVERITY
from tomohet.report import figures
from tomohet.report.answers import lines
from tomohet.report.collect import STAGES, Round
from tomohet.report.facts import tables_of
from tomohet.report.files import files_of, pictures_of
from tomohet.report.numbers import component_table, facts, unit_tables
from tomohet.report.rates import rates_of
from tomohet.report.tables import label_of

MOST_HISTOGRAMS = 40
LEADS = {
    "half maps": "Two independent half maps of the particles' images, without any network.",
    "support": "Does the subset differ from the other particles by more than random subsets, and do held-out "
    "tilts confirm it?",
    "linear": "Latents in closed form, with the poses in the model.",
    "states": "Every particle is assigned to one of a few maps, which are reconstructed from the images.",
    "states support": "Does each state differ from all others by more than chance and noise?",
    "clusters support": "Does each k-means cluster differ from all others by more than chance and noise?",
    "classes support": "Does each of MAVEn's classes differ from all others by more than chance and noise?",
    "train_vae": "The network, judged by tilt images that trained nothing.",
    "siren": "Voxels that come and go together over the volumes, without a model.",
    "maven": "Occupancy of the model's pieces.",
}
HELD_OUT = (
    "By how many nats the network's volumes, and its latents, predict tilt images that trained nothing "
    "better than the linear model's do (without a linear model: better than one volume for all particles). "
    "Bars: standard error over particles."
)
CLUSTERED = (
    "both in the order of Ward's clustering. Colours from the 10th to the 90th percentile of all entries."
)
STATE_GAINS = (
    "By how many nats the held-out tilt images are predicted better than by the mean map. The states are "
    "discrete where their curve lies above that of the linear model."
)


def evidence(round_: Round, maps: dict[str, list[dict]]) -> list[dict]:
    """Return what the page shows of each stage that has left something.

    maps : stage -> figures of volumes, which stand first
    """
    shown = []
    for stage in STAGES:
        summary = round_.summaries.get(stage.name) or {}
        drawn = [*maps.get(stage.name, []), *CHARTS.get(stage.name, lambda round_: [])(round_)]
        files = files_of(round_.folder / stage.folder, round_.folder.parent) if stage.folder else []
        said = list(lines(summary))
        if not (summary or drawn or files) or stage.name == "truth":
            continue
        shown.append(
            {
                "name": stage.name,
                "title": stage.title,
                "lead": LEADS.get(stage.name, ""),
                "level": max((line.level for line in said), key=SEVERITY.index, default="fact"),
                "lines": said,
                "rates": rates_of(stage.name, [line.subject for line in said]),
                "concerns": concerns(summary) if stage.name == "convergence" else [],
                "figures": drawn,
                "facts": facts(stage.name, summary),
                "tables": TABLES.get(stage.name, lambda round_: [])(round_),
                "leaks": summary.get("leaks") or [],
                "files": files,
                "pictures": pictures_of(files),
            }
        )
    return shown


def figure(name: str, spec: dict | None, caption: str = "", kind: str = "chart") -> list[dict]:
    """Return a list of one figure, or of none without `spec`."""
    return [{"id": name, "kind": kind, "spec": spec, "caption": caption}] if spec else []


def concerns(convergence: dict) -> list[str]:
    """List the convergence check's warnings, and its reasons unless the verdict is "converged"."""
    warnings = convergence.get("warnings") or []
    reasons = convergence.get("reasons") or []
    return [*warnings, *([] if convergence.get("verdict") == "converged" else reasons)]


def _half_maps(round_: Round) -> list[dict]:
    return figure("fsc", figures.fsc_chart(round_.fsc), "Fourier shell correlation of the half maps.")


def _linear(round_: Round) -> list[dict]:
    chart = figures.held_out_directions(round_.summaries["linear"])
    caption = (
        "How well the latents predict held-out tilt images, for each latent direction in the order of the "
        "tests. Blue: confirmed; grey: not distinguishable from chance."
    )
    return figure("directions", chart, caption)


def _states(round_: Round) -> list[dict]:
    summary = round_.summaries["states"]
    sizes = summary.get("sizes")
    bars = figures.bars(sizes, "State", "Particles", range(len(sizes))) if sizes else None
    caption = "Particles in each state, column state of the particle table."
    return [
        *figure("states", bars, caption),
        *figure("state-gains", figures.state_gains(summary), STATE_GAINS),
    ]


def _training(round_: Round) -> list[dict]:
    held_out = figure("held-out", figures.held_out_chart(round_.held_out), HELD_OUT)
    losses = figures.loss_charts(round_.loss)
    return [*held_out, *(f for i, c in enumerate(losses, start=1) for f in figure(f"loss-{i}", c))]


def _latents(round_: Round) -> list[dict]:
    values = round_.summaries["analyze"].get("explained_variance")
    explained = None
    if isinstance(values, list) and len(values) > 1:
        numbers = range(1, len(values) + 1)
        explained = figures.bars(values, "Principal component", "Fraction of the latents' variance", numbers)
    return [
        *figure("sizes", figures.cluster_sizes(round_.particles), "Particles in each k-means cluster."),
        *figure("explained", explained, "Variance of the latents along each principal component."),
    ]


def _blocks(round_: Round) -> list[dict]:
    chart = figures.occupancies(round_.volume_table, "siren_", "block")
    return figure("siren-map", chart, f"Occupancy of each block in each volume, {CLUSTERED}", "heatmap")


def _units(round_: Round) -> list[dict]:
    chart = figures.occupancies(round_.volume_table, "maven_", "unit")
    shown = figure("maven-map", chart, f"Occupancy of each unit in each volume, {CLUSTERED}", "heatmap")
    if round_.particles is None:
        return shown
    columns = figures.amounts(round_.particles, "maven_")[:MOST_HISTOGRAMS]
    titles = {column: label_of(column) for column in columns}
    charts = figures.histograms(round_.particles, titles) if columns else []
    return [*shown, *(f for i, c in enumerate(charts, start=1) for f in figure(f"maven-{i}", c))]


def _block_table(round_: Round) -> list[dict]:
    """Tabulate SIREn's blocks, one row each, without columns that hold lists."""
    if round_.blocks is None or round_.blocks.empty:
        return []
    rows = [
        {key: value for key, value in row.items() if not hasattr(value, "__len__") or isinstance(value, str)}
        for row in round_.blocks.to_dict("records")
    ]
    return tables_of({"blocks": rows})


CHARTS = {
    "half maps": _half_maps,
    "linear": _linear,
    "states": _states,
    "train_vae": _training,
    "analyze": _latents,
    "siren": _blocks,
    "maven": _units,
}
TABLES = {
    "linear": lambda round_: component_table(round_.summaries["linear"]),
    "siren": _block_table,
    "maven": lambda round_: unit_tables(round_.summaries["maven"]),
}
