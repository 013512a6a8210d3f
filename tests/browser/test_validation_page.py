"""The page of the pre-flight check in a real browser, without JavaScript: all pictures, nothing too wide."""

import pytest
from headless import find_browser, played

from tomohet.particles.dialects import read_particles
from tomohet.preflight import preflight, write_validation

# The page has no script of its own: this one only measures what the browser laid out.
MEASURE = """addEventListener("load", () => {
  const scenes = {
    drawn: [...document.images].filter((i) => i.naturalWidth > 300 && i.width > 100).length,
    wide: document.documentElement.scrollWidth - innerWidth,
    badges: [...document.querySelectorAll(".verdict")].every((v) => v.offsetHeight > 10),
    titles: [...document.querySelectorAll("h3")].map((h) => h.textContent),
  };
  document.body.insertAdjacentHTML("beforeend", `<pre id="outcome"></pre>`);
  document.getElementById("outcome").textContent = JSON.stringify({ scenes, failure: null });
});"""


@pytest.fixture(scope="module")
def validation(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    particle_set = read_particles(tiny / "warptools/particles_optimisation_set.star")
    write_validation(folder, particle_set, *preflight(particle_set, max_images=400))
    return (folder / "validation.html").read_text()


@pytest.mark.parametrize("width", [1400, 800])
def test_all_pictures_are_drawn_and_nothing_is_wider_than_the_window(validation, tmp_path, width):
    script = tmp_path / "measure.js"
    script.write_text(MEASURE)
    found = played(find_browser(), validation, script, tmp_path, width)
    assert found["drawn"] == len(found["titles"]) == 10
    assert found["wide"] <= 0 and found["badges"]
    assert {"Power spectrum and CTF", "Views", "Positions in the tomograms"} <= set(found["titles"])
