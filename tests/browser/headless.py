"""A browser without a window: plays a script on a page and returns what the script left in #outcome."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --dump-dom"
).split()


def find_browser() -> str:
    """The browser's path; without one the test is skipped, or fails where one is required."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("TOMOHET_REQUIRE_BROWSER") == "1":
        pytest.fail("TOMOHET_REQUIRE_BROWSER=1, but there is no chromium")
    return found or pytest.skip("no chromium")


def played(
    browser: str,
    page: str,
    player: Path,
    folder: Path,
    width: int = 1400,
    anchor: str = "",
    budget_ms: int = 20_000,
) -> dict:
    """Open a page `width` pixels wide with the player's script at its end; return what that script found."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "played.html"
    file.write_text(page.replace("</body>", f"<script>{player.read_text()}</script></body>"))
    command = [browser, *FLAGS, f"--virtual-time-budget={budget_ms}", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width},900", file.as_uri() + anchor]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    outcome = re.search(r'<pre id="outcome">(.*?)</pre>', done.stdout, re.S)
    assert outcome, done.stderr[-2000:]
    answer = json.loads(html.unescape(outcome[1]))
    assert answer["failure"] is None, answer["failure"]
    return answer["scenes"]
