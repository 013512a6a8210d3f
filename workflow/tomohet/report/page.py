"""Writing of the report: collect the results, fill the templates, embed styles and scripts in one file."""

import datetime
import json
import os
import platform
from importlib import metadata, resources
from pathlib import Path
from urllib.parse import quote

import jinja2

from tomohet import __version__
from tomohet.answers import STATED
from tomohet.files.atomic import write_text
from tomohet.plots import PALETTE
from tomohet.report import figures
from tomohet.report.answers import answers
from tomohet.report.blobs import Blobs
from tomohet.report.bundle import bundle
from tomohet.report.collect import Results, collect
from tomohet.report.facts import facts_of, tables_of, text_of
from tomohet.report.reading import Reader
from tomohet.report.round_section import round_context, stage_numbers
from tomohet.report.space import LARGEST_MAP_BOX
from tomohet.report.volumes import volume_set
from tomohet.rounds.layout import REPORT
from tomohet.rounds.tree import RESERVED

STYLES = ("report.css", "volumes.css", "print.css")
PACKAGES = (
    "numpy scipy pandas torch scikit-learn umap-learn scikit-image mrcfile starfile gemmi snakemake".split()
)


def write_report(results: str | Path, output: str | Path | None = None) -> Path:
    """Write one HTML file about a dataset's results folder and return its path.

    output : the file to write (default: `report.html` in the folder)

    Raises InputError when the folder does not exist or holds no results.
    """
    found = collect(results)
    output = Path(output) if output else found.folder / REPORT
    write_text(output, render(found, prefix=address_of(found.folder, output.resolve().parent)))
    return output


def address_of(folder: Path, from_: Path) -> str:
    """Return what stands before the addresses of files of `folder` in a page that lies in `from_`."""
    path = os.path.relpath(folder, from_)
    return "" if path == "." else quote(Path(path).as_posix()) + "/"


def render(found: Results, served: bool = False, prefix: str = "") -> str:
    """Return the whole page as text; it loads nothing from other addresses.

    served : whether `tomohet serve` sends the page, which then can ask the server for volumes and means
    prefix : stands before the addresses of the dataset's files
    """
    blobs, reader = Blobs(), Reader(found.folder)
    rounds = [round_context(r, found.rounds, reader, blobs) for r in found.rounds]
    homogeneous = homogeneous_context(found, reader, blobs)
    reader.problems[:0] = found.problems
    files = resources.files(__package__)
    return (
        _environment()
        .get_template("page.html")
        .render(
            name=found.name,
            version=__version__,
            written=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"),
            summary=summary(found),
            answers=answers(found),
            turning=turning(rounds),
            validation=validation_context(found.validation),
            homogeneous=homogeneous,
            rounds=rounds,
            supported=any(r["support"] for r in rounds),
            most=max((r["n"] or 0 for r in rounds), default=0),
            problems=reader.problems,
            config=found.config_text,
            commands=commands(found.folder),
            store=stage_numbers(found.store),
            versions=versions(),
            style="\n".join((files / "static" / name).read_text() for name in STYLES),
            script=bundle(served),
            served=served,
            prefix=prefix,
            palette=" ".join(PALETTE),
            reserved=" ".join(sorted(RESERVED)),
            blobs=blobs.elements,
        )
    )


def turning(rounds: list[dict]) -> str | None:
    """Return the name of the first round's figure that turns on the first screen: blocks, else the map."""
    figures_ = [one["id"] for stage in (rounds[0]["evidence"] if rounds else []) for one in stage["figures"]]
    found = next((name for name in ("pieces", "map") if name in figures_), None)
    return f"{rounds[0]['id']}-{found}" if found else None


def summary(found: Results) -> list[dict]:
    """Summarise the dataset in a few numbers from the prepared store's description."""
    store = found.store
    counts = store.get("counts") if isinstance(store.get("counts"), dict) else {}
    known = {**store, **counts}
    wanted = (
        ("Particles", ("n_particles", "particles")),
        ("Tilt images", ("n_images", "images")),
        ("Tomograms", ("n_tomograms", "tomograms")),
        ("Box (px)", ("box",)),
        ("Pixel size (Å)", ("pixel_size_A",)),
    )
    rows = []
    for label, keys in wanted:
        value = next((known[k] for k in keys if isinstance(known.get(k), int | float)), None)
        if value is not None:
            rows.append({"label": label, "value": text_of(value), "note": ""})
    *_, threshold = figures.THRESHOLDS
    resolution = figures.resolution_text(found.homogeneous_fsc, threshold)
    if resolution:
        rows.append({"label": f"Consensus, FSC = {threshold:g}", "value": resolution, "note": ""})
    return rows


def validation_context(validation: dict) -> dict | None:
    """Return the checks first, then the rest of the validation's numbers."""
    if not validation:
        return None
    checks = next((v for v in validation.values() if _are_checks(v)), [])
    # Findings are already among the checks; the figures' numbers are for validation.html.
    skip = (*(k for k, v in validation.items() if v is checks), "verdict", "findings", "figures", *STATED)
    return {
        "passed": [check for check in checks if check["verdict"] == "pass"],
        "raised": [check for check in checks if check["verdict"] != "pass"],
        "verdict": validation.get("verdict"),
        "facts": facts_of(validation, skip),
        "tables": tables_of(validation, skip),
    }


def homogeneous_context(found: Results, reader: Reader, blobs: Blobs) -> dict | None:
    """Return map, FSC and resolutions of the reconstruction from all particles.

    None where a round of all particles has its own half maps, which are the same.
    """
    path = found.homogeneous_map
    if path is None and found.homogeneous_fsc is None:
        return None
    if any(not round_.chosen_by and round_.map for round_ in found.rounds):
        return None
    caption = [{"label": "Consensus map", "note": "all particles"}]
    return {
        "map": volume_set(reader, blobs, [path], LARGEST_MAP_BOX, caption) if path else None,
        "fsc": figures.fsc_chart(found.homogeneous_fsc),
        "resolutions": {
            t: figures.resolution_text(found.homogeneous_fsc, t)
            for t in figures.resolutions(found.homogeneous_fsc)
        },
    }


def commands(folder: Path) -> list[dict]:
    """List the command that each stage logged at the head of its run.log, in the order they were run."""
    found = []
    for path in folder.rglob("run.log"):
        lines = [line for line in path.read_text(errors="replace").splitlines() if " command: " in line]
        for line in lines:
            time, command = line.split(" command: ", 1)
            found.append(
                {"time": time.strip(), "command": command, "log": path.relative_to(folder).as_posix()}
            )
    return sorted(found, key=lambda entry: entry["time"])


def versions() -> list[tuple[str, str]]:
    """List the versions of this program, of Python, and of the libraries behind the numbers, if installed."""
    rows = [("tomohet", __version__), ("Python", platform.python_version()), ("system", platform.platform())]
    for name in PACKAGES:
        if any(True for _ in metadata.distributions(name=name)):
            rows.append((name, metadata.version(name)))
    return rows


def _are_checks(value) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "verdict" in v for v in value)
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tomohet.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline_json"] = _inline_json
    environment.filters["number"] = text_of
    return environment


def _inline_json(value) -> str:
    """Return JSON that cannot end its own script element; not-a-number becomes null."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
