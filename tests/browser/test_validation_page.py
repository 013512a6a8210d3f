"""The page of the pre-flight check in a real browser, without JavaScript: all pictures, nothing too wide."""

import os
import re
import shutil
import subprocess

import pytest

from tomohet.particles.dialects import read_particles
from tomohet.preflight import preflight, write_validation

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=10000 --dump-dom"
).split()
# The page has no script of its own: this one only measures what the browser laid out.
MEASURE = """<script>addEventListener("load", () => {
  const drawn = [...document.images].filter((i) => i.naturalWidth > 300 && i.width > 100).length;
  const wide = document.documentElement.scrollWidth - innerWidth;
  const badges = [...document.querySelectorAll(".verdict")].every((v) => v.offsetHeight > 10);
  const titles = [...document.querySelectorAll("h3")].map((h) => h.textContent).join("|");
  document.body.insertAdjacentHTML("beforeend", `<pre id="m">${drawn};${wide};${badges};${titles}</pre>`);
});</script></body>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("TOMOHET_REQUIRE_BROWSER") == "1":
        pytest.fail("TOMOHET_REQUIRE_BROWSER=1, but there is no chromium")
    return found or pytest.skip("no chromium")


@pytest.fixture(scope="module")
def validation(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    particle_set = read_particles(tiny / "warptools/particles_optimisation_set.star")
    write_validation(folder, particle_set, *preflight(particle_set, max_images=400))
    return (folder / "validation.html").read_text()


@pytest.mark.parametrize("width", [1400, 800])
def test_all_pictures_are_drawn_and_nothing_is_wider_than_the_window(browser, validation, tmp_path, width):
    page = tmp_path / "measured.html"
    page.write_text(validation.replace("</body>", MEASURE))
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=180)
    found = re.search(r'<pre id="m">(\d+;.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    drawn, wide, badges, titles = found[1].split(";")
    assert int(drawn) == len(titles.split("|")) == 10
    assert int(wide) <= 0 and badges == "true"
    assert {"Power spectrum and CTF", "Views", "Positions in the tomograms"} <= set(titles.split("|"))
