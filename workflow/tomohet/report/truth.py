"""Comparison with a simulation's truth, block by block beside the oracle, as tables."""

from tomohet.report.facts import facts_of, tables_of, text_of

KNOWN = ("oracle", "latents", "maven", "siren", "clusters", "maps", "frequency", "mass_share")
MODELS = {"linear": "Linear latents", "train_vae": "Network latents"}
LABELS = {"auc_kmeans": "k-means", "auc_gmm": "Mixture"}


def truth_context(truth: dict) -> dict | None:
    """Tabulate `truth.json`: AUC of each block's presence, and the maps of each state.

    Every AUC measures how well one result separates particles with the block from those without. The oracle's
    AUC, from the true maps, is the most that the images allow.
    """
    if not truth:
        return None
    maps = truth.get("maps") or {}
    clusters = truth.get("clusters") or {}
    rest = {key: value for key, value in truth.items() if key not in KNOWN}
    numbers = {key: value for key, value in clusters.items() if not isinstance(value, dict)}
    for model, found in (truth.get("latents") or {}).items():
        if found.get("angle_r2") is not None:
            numbers[f"R² of the moving block's angle, {model}"] = found["angle_r2"]
    return {
        "blocks": block_rows(truth, clusters, maps),
        "states": state_rows(maps.get("states") or {}),
        "facts": facts_of({**rest, **numbers}),
        "tables": tables_of(rest),
    }


def block_rows(truth: dict, clusters: dict, maps: dict) -> dict | None:
    """Make one row per block: its properties, the oracle's AUC, and each result's AUC."""
    names = list(truth.get("oracle") or {})
    if not names:
        return None
    columns = {"Oracle": truth["oracle"]}
    for model, found in (truth.get("latents") or {}).items():
        blocks = found.get("blocks") or {}
        columns[MODELS.get(model, model)] = {name: (blocks.get(name) or {}).get("auc") for name in names}
    for key, label in LABELS.items():
        blocks = clusters.get("blocks") or {}
        if any(key in entry for entry in blocks.values()):
            columns[label] = {name: (blocks.get(name) or {}).get(key) for name in names}
    for key, label in (("siren", "SIREn, best block"), ("maven", "MAVEn occupancy")):
        if found := truth.get(key):
            columns[label] = {name: (found.get(name) or {}).get("auc") for name in names}
    return {"columns": list(columns), "rows": [block_row(name, truth, columns, maps) for name in names]}


def block_row(name: str, truth: dict, columns: dict, maps: dict) -> dict:
    """Return a block's name, mass, frequency, AUCs (numbers, for shading) and difference-map correlation."""
    share, frequency = (truth.get(key, {}).get(name) for key in ("mass_share", "frequency"))
    difference = ((maps.get("blocks") or {}).get(name) or {}).get("difference_cc")
    return {
        "name": name,
        "mass": percent(share),
        "frequency": percent(frequency),
        "aucs": [values.get(name) for values in columns.values()],
        "difference": text_of(difference),
    }


def state_rows(states: dict) -> list[dict]:
    """Make one row per true state: particles, correlation and resolution of the mean decoded map."""
    return [
        {
            "name": name.replace("+", " + "),
            "particles": text_of(found.get("particles")),
            "cc": text_of(found.get("cc")),
            "fsc": f"{found['fsc_half_A']:.1f} Å" if found.get("fsc_half_A") is not None else "–",
        }
        for name, found in states.items()
    ]


def percent(share: float | None) -> str:
    """Format a fraction as a percentage."""
    return "–" if share is None else f"{100 * share:.1f} %"
