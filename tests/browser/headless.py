"""A browser without a window: plays a script on a page and returns what the script left in #outcome."""

import json
import os
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0"
).split()
LONGEST_S = 240
# Sends the outcome to the test when it is there. In real time: a browser's virtual time would be over before
# data that are unpacked beside the page's script are there.
SEND = """<script>
new MutationObserver((_, watch) => {
  const outcome = document.getElementById("outcome");
  if (!outcome) return;
  watch.disconnect();
  fetch("http://127.0.0.1:PORT/", { method: "POST", mode: "no-cors", body: outcome.textContent });
}).observe(document.body, { childList: true });
</script>"""


def find_browser() -> str:
    """The browser's path; without one the test is skipped, or fails where one is required."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("TOMOHET_REQUIRE_BROWSER") == "1":
        pytest.fail("TOMOHET_REQUIRE_BROWSER=1, but there is no chromium")
    return found or pytest.skip("no chromium")


def played(browser: str, page: str, player: Path, folder: Path, width: int = 1400, anchor: str = "") -> dict:
    """Open a page `width` pixels wide with the player's script at its end; return what that script found."""
    folder.mkdir(parents=True, exist_ok=True)
    with Listener() as listener:
        scripts = SEND.replace("PORT", str(listener.port)) + f"<script>{player.read_text()}</script></body>"
        file = folder / "played.html"
        file.write_text(page.replace("</body>", scripts))
        command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
        with subprocess.Popen([*command, file.as_uri() + anchor], stderr=subprocess.DEVNULL) as process:
            try:
                answer = listener.heard()
            finally:
                process.terminate()
    assert answer["failure"] is None, answer["failure"]
    return answer["scenes"]


class Listener:
    """A server on this machine that hears one message of a page."""

    def __enter__(self) -> "Listener":
        messages = self.messages = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                messages.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def heard(self) -> dict:
        """Return the message as JSON; fails when none comes within `LONGEST_S` seconds."""
        try:
            return json.loads(self.messages.get(timeout=LONGEST_S))
        except queue.Empty:
            pytest.fail(f"the page's script has left no outcome in {LONGEST_S} s")

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()
