"""The report on paper: all rounds, tabs and pictures are drawn although a browser does not wait."""

import re
import shutil
import subprocess

import pytest
from headless import FLAGS, find_browser

from fake_results import make_results
from tomohet import plots
from tomohet.report import write_report

# Of the page, and of the figures: their words are text in the document only when they are drawn.
WORDS = (
    "Found",
    "Trust",
    "Rounds",
    "Half maps",
    "Linear model",
    "MAVEn",
    "Against the truth",
    "Reproducibility",
)
DRAWN = ("Fourier shell correlation", "occupancy of B", "Fraction of the latents", "spectrum.png")
NEVER = ("Copy", "Swap", "Reset view", "could not be drawn")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = make_results(tmp_path_factory.mktemp("printed") / "fake", n=120, rounds=("all", "bound"))
    fig, ax = plots.figure(width=3, height=2)
    ax.plot([0, 1])
    plots.save(fig, folder / "all" / "linear" / "spectrum.png")
    return folder


@pytest.fixture(scope="module")
def printed(results, tmp_path_factory):
    """The page as PDF, printed as soon as it is loaded."""
    browser, page = find_browser(), write_report(results)
    folder = tmp_path_factory.mktemp("pdf")
    flags = [flag for flag in FLAGS if "remote-debugging" not in flag]
    wanted = [f"--print-to-pdf={folder / 'page.pdf'}", "--no-pdf-header-footer"]
    command = [browser, *flags, f"--user-data-dir={folder / 'profile'}", *wanted, page.as_uri()]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True, timeout=240)
    return folder / "page.pdf"


def test_pages_are_neither_few_nor_many(printed):
    data = printed.read_bytes()
    assert 12 <= len(re.findall(rb"/Type /Page\b(?!s)", data)) <= 40
    # Volumes, heat maps and plots are images, beside the picture of the linear model.
    assert len(re.findall(rb"/Subtype /Image\b", data)) > 40


def test_the_words_of_all_rounds_and_figures_are_there(printed):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (poppler-utils)")
    text = subprocess.run(
        ["pdftotext", "-layout", printed, "-"], capture_output=True, text=True, check=True
    ).stdout
    flat = " ".join(text.split())
    for words in WORDS + DRAWN:
        assert words in flat, words
    for words in NEVER:
        assert words not in flat, words
    assert flat.count("Two independent half maps") == 2  # of each round
