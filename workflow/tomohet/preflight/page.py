"""`validation.json` and `validation.html`: verdicts, counts and figures of a particle set."""

import base64
import datetime
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

from tomohet import __version__, plots
from tomohet.answers import Answer, Step, sentence, stated
from tomohet.files.atomic import write_json, write_text
from tomohet.particles.table import ParticleSet
from tomohet.preflight import figures, figures_of_images
from tomohet.preflight.check import Check, overall
from tomohet.preflight.checks import counts
from tomohet.preflight.figures import Picture
from tomohet.preflight.hypotheses import Hypotheses
from tomohet.preflight.image_sample import ImageSample
from tomohet.preflight.spectrum import PowerSpectrum
from tomohet.preflight.tilts import TiltSchemes

SECTIONS = {
    "Images": "What is in the stacks.",
    "CTF": "Whether flag and sign are as stated, tested on the images.",
    "Acquisition": "How the tilt series were recorded, as stated in the file.",
    "Particles": "Positions and orientations of the particles.",
}
FIRST = {
    "pass": "The particles are ready for preparing and training.",
    "look": "You can continue, but look at these first:",
    "stop": "Do not continue before this is corrected:",
}
MOST_RAISED = 2  # checks in the answer
MOST_FIRST = 6  # remedies named in the banner
DPI, SCALE = 150, 98  # px per inch in the file, and on the page


@dataclass(frozen=True)
class Evidence:
    """Results beside the table: images, their spectrum, the hypotheses; each may be missing."""

    sample: ImageSample | None = None
    spectrum: PowerSpectrum | None = None
    hypotheses: Hypotheses | None = None


def write_validation(
    folder: Path, s: ParticleSet, checks: list[Check], schemes: TiltSchemes, evidence: Evidence
) -> None:
    """Write both files into `folder`."""
    pictures = figures_of_images.pictures_of_images(evidence.sample, evidence.spectrum, evidence.hypotheses)
    pictures += figures.pictures_of_tables(s, schemes)
    write_text(folder / "validation.html", render(s, checks, pictures))
    numbers = described(s, checks, evidence)
    write_json(folder / "validation.json", numbers | stated([input_answer(checks)]))


def input_answer(checks: list[Check]) -> Answer:
    """Say what the checks of the input raised, the most severe first."""
    raised = [check for verdict in ("stop", "look") for check in checks if check.verdict == verdict]
    if not raised:
        return Answer("Input", "good", f"All {len(checks)} checks of the input passed.")
    text = " ".join(sentence(f"{check.name}: {check.message}") for check in raised[:MOST_RAISED])
    step = Step("Read what the check of the input says: validation/validation.html.")
    return Answer("Input", "bad" if raised[0].verdict == "stop" else "look", text, (step,))


def described(s: ParticleSet, checks: list[Check], evidence: Evidence) -> dict:
    """Return the content of `validation.json`.

    It holds verdict, counts, checks, findings, and the numbers of the figures.
    """
    hypotheses = evidence.hypotheses
    return {
        "source": str(s.source),
        "dialect": s.dialect,
        "verdict": overall(checks),
        "counts": counts(s),
        "box": s.box,
        "pixel_size_A": s.pixel_size_A,
        "checks": [vars(check) for check in checks],
        "findings": [vars(finding) for finding in hypotheses.findings] if hypotheses else [],
        "figures": {
            "distributions": figures.summaries(s),
            **figures_of_images.numbers(evidence.sample, evidence.spectrum, hypotheses),
        },
    }


def render(s: ParticleSet, checks: list[Check], pictures: list[Picture]) -> str:
    """Return the whole page as text; it loads nothing and needs no JavaScript."""
    number = counts(s)
    severe = [check for verdict in ("stop", "look") for check in checks if check.verdict == verdict]
    tiles = [
        {
            "label": name.capitalize(),
            "value": f"{number['kept'][name]:,}",
            "note": f"of {number['in'][name]:,}",
        }
        for name in number["kept"]
    ]
    tiles += [
        {"label": "Box", "value": f"{s.box} px", "note": f"{s.box * s.pixel_size_A:.4g} Å"},
        {
            "label": "Pixel size",
            "value": f"{s.pixel_size_A:.4g} Å",
            "note": f"Nyquist {2 * s.pixel_size_A:.4g} Å",
        },
    ]
    sections = [
        {
            "name": name,
            "lead": lead,
            "pictures": [
                {
                    "title": p.title,
                    "caption": p.caption,
                    "width": round(SCALE * p.figure.get_figwidth()),
                    "image": _embedded(p),
                }
                for p in pictures
                if p.section == name
            ],
        }
        for name, lead in SECTIONS.items()
    ]
    files = resources.files(__package__) / "static"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files / "page.html").read_text()).render(
        style=(files / "page.css").read_text(),
        name=s.source.name,
        folder=str(s.source.parent),
        dialect=s.dialect,
        version=__version__,
        written=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"),
        verdict=overall(checks),
        first=FIRST[overall(checks)],
        severe=severe,
        first_of=[check for check in severe if check.verdict == overall(checks)][:MOST_FIRST],
        passed=[check for check in checks if check.verdict == "pass"],
        tiles=tiles,
        sections=[section for section in sections if section["pictures"]],
    )


def _embedded(picture: Picture) -> str:
    with tempfile.TemporaryDirectory() as folder:
        content = plots.save(picture.figure, Path(folder) / "figure.png", dpi=DPI).read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
