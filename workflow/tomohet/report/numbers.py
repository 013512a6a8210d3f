"""The numbers of each stage that a reader of the report needs, with names and units."""

from collections.abc import Callable

from tomohet.reconstruction.outputs import AT_NYQUIST
from tomohet.report.facts import text_of

NYQUIST = " (Nyquist: limited by the pixel size)"
Fact = tuple[str, str, Callable[[object], str]]


def _percent(value: object) -> str:
    return f"{100 * value:.1f}\u00a0%" if isinstance(value, int | float) else text_of(value)


def _angstrom(value: object) -> str:
    return f"{value:.1f}\u00a0Å" if isinstance(value, int | float) else text_of(value)


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else text_of(value)


def _degrees(value: object) -> str:
    return f"{value:.1f}°" if isinstance(value, int | float) else text_of(value)


# Stage -> (key of its summary, name, format); `a.b` is the entry b of the mapping a.
FACTS: dict[str, tuple[Fact, ...]] = {
    "half maps": (
        ("n_particles", "Particles", text_of),
        ("n_images", "Tilt images", text_of),
        ("resolution_A", "Resolution at FSC = 0.143", _angstrom),
        ("resolution_fsc05_A", "Resolution at FSC = 0.5", _angstrom),
        ("mask_fraction", "Mask, fraction of the box", _percent),
    ),
    "linear": (
        ("n_particles", "Particles", text_of),
        ("n_images", "Tilt images", text_of),
        ("pose_errors.rotation_deg", "Rotation error (rms)", _degrees),
        ("pose_errors.shift_A", "Shift error along each axis (rms)", _angstrom),
        ("tilt_shift_A", "Shift of single tilt images along each axis (rms)", _angstrom),
        ("surroundings_z", "Similarity of neighbouring tilts beyond the model (standard errors)", _number),
        ("mask_share_of_box", "Mask, fraction of the box", _percent),
    ),
    "states": (
        ("n_states", "States", text_of),
        ("mean_state_probability", "Mean probability of a particle's state", _number),
        ("advantage_of_states", "Held-out gain of states over the continuum (nats)", _number),
        ("standard_error_of_advantage", "Its standard error (nats)", _number),
    ),
    "convergence": (
        ("epoch", "Epoch used (from 0)", text_of),
        ("metrics.active_dimensions", "Latent dimensions that differ between particles", text_of),
        ("metrics.loss_change", "Change of the loss over the last quarter of epochs, of its range", _percent),
        ("metrics.latent_shift", "Movement of latents between the last epochs, of their spread", _percent),
        ("metrics.neighbours_kept", "Nearest neighbours kept", _percent),
        ("metrics.ari", "Agreement of clusters (adjusted Rand index)", _number),
        ("metrics.volume_cc", "Correlation of volumes between epochs (median)", _number),
        ("metrics.difference_cc", "The same of their differences from the mean volume", _number),
    ),
    "analyze": (
        ("zdim", "Latent dimensions", text_of),
        ("active_dimensions", "Dimensions that differ between particles", text_of),
        ("posterior_to_prior_sd", "Uncertainty of a latent, of its prior spread", _percent),
        ("kmeans.clusters", "k-means clusters", text_of),
        ("gmm.components", "Components of the Gaussian mixture", text_of),
    ),
    "analyze_volumes": (
        ("volumes", "Volumes", text_of),
        ("box_px", "Box (px)", text_of),
        ("pixel_size_A", "Pixel size (Å)", _number),
        ("mask_fraction", "Mask, fraction of the box", _percent),
        ("kmeans.clusters", "k-means clusters", text_of),
    ),
    "siren": (
        ("n_volumes", "Volumes", text_of),
        ("n_effective_volumes", "Volumes that differ from each other (effective number)", _number),
        ("n_voxels_tested", "Voxels tested", text_of),
        ("n_voxels_in_blocks", "Voxels in blocks", text_of),
        ("n_pairs_linked", "Pairs of voxels linked", text_of),
        ("n_pairs_exclusive", "Pairs of voxels that exclude each other", text_of),
        ("p_value", "Significance level of a pair", _number),
        ("least_phi", "Least phi coefficient of a linked pair", _number),
        ("randomised.n_blocks", "Blocks in volumes with shuffled voxels", text_of),
    ),
    "maven": (
        ("n_volumes", "Volumes", text_of),
        ("n_units", "Units of the model", text_of),
        ("resolution_A", "Resolution of the units' densities", _angstrom),
        ("model_map_correlation", "Correlation of model and mean volume", _number),
        ("alignment.placement", "Placement of the model", text_of),
        ("silhouette", "Separation of the volume classes (silhouette)", _number),
    ),
}  # fmt: skip


def facts(stage: str, summary: dict) -> list[tuple[str, str]]:
    """List (name, text) of the stage's numbers that are in its summary."""
    found = ((name, _entry(summary, key), form) for key, name, form in FACTS.get(stage, ()))
    pixel_size_A = summary.get("pixel_size_A")
    nyquist_A = 2 * pixel_size_A if isinstance(pixel_size_A, int | float) else 0.0
    return [
        (
            name,
            form(value)
            + (NYQUIST if name.startswith("Resolution at") and _reaches(value, nyquist_A) else ""),
        )
        for name, value, form in found
        if isinstance(value, int | float | str)
    ]


def _reaches(value: object, nyquist_A: float) -> bool:
    return isinstance(value, int | float) and value <= AT_NYQUIST * nyquist_A


def component_table(linear: dict) -> list[dict]:
    """Tabulate the linear model's components: one row for each.

    Their number is the number of components that held-out tilt images confirm, unless it was given.
    """
    columns = {
        "Power, of the mean map's": [_percent(v) for v in _list(linear, "power_relative_to_mean")],
        "p by held-out tilts": [_p(v) for v in _list(linear, "held_out_p_values")],
        "Structure, of the latent's variance": [_percent(v) for v in _list(linear, "held_out_reliability")],
        "Determined by a particle's images": [_percent(v) for v in _list(linear, "reliability")],
    }
    n = len(columns["Power, of the mean map's"])
    if not n:
        return []
    rows = [
        [f"z{i + 1}", *(column[i] if i < len(column) else "–" for column in columns.values())]
        for i in range(n)
    ]
    return [{"title": "Components", "columns": ["", *columns], "rows": rows}]


def unit_tables(maven: dict) -> list[dict]:
    """Tabulate the units with their occupancies, and which unit needs which."""
    units = maven.get("units")
    rows = [
        [str(name), _percent(row.get("present")), _number(row.get("mean")), _number(row.get("sd"))]
        for name, row in (units.items() if isinstance(units, dict) else ())
        if isinstance(row, dict)
    ]
    tables = []
    if rows:
        columns = ["Unit", "Present in particles", "Mean occupancy", "Standard deviation"]
        tables.append({"title": "Units of the model", "columns": columns, "rows": rows})
    needed = [
        [*(str(row.get(key)) for key in ("unit", "requires")), *(_number(row.get(key)) for key in COUNTS)]
        for row in _list(maven, "dependencies")
        if isinstance(row, dict)
    ]
    if needed:
        columns = ["Unit", "Is never there without", "Volumes with the unit", "Exceptions", "p"]
        tables.append({"title": "Dependencies", "columns": columns, "rows": needed})
    return tables


COUNTS = ("n_present", "exceptions", "p_value")


def _entry(summary: dict, key: str) -> object:
    value: object = summary
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _list(summary: dict, key: str) -> list:
    value = summary.get(key)
    return value if isinstance(value, list) else []


def _p(value: object) -> str:
    return f"{value:.1g}" if isinstance(value, int | float) else text_of(value)
