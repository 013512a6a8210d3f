"""A real browser plays pages: a script on the page leaves JSON in the element #outcome."""

import http.server
import json
import os
import queue
import shutil
import subprocess
import threading

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0"
).split()
LONGEST_S = 300  # a busy machine with two cores takes a minute
# The page is opened from disk, as users do. It waits for real time: virtual time runs ahead of workers.
SEND = """<script>(function send() {
  const outcome = document.getElementById("outcome");
  if (outcome) fetch("ADDRESS", { method: "POST", mode: "no-cors", body: outcome.textContent });
  else setTimeout(send, 50);
})();</script></body>"""


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("TOMOHET_REQUIRE_BROWSER") == "1":
        pytest.fail("TOMOHET_REQUIRE_BROWSER=1, but there is no chromium")
    return found or pytest.skip("no chromium")


@pytest.fixture(scope="session")
def play(browser, tmp_path_factory):
    """`play(page, script, width)`: JSON that the script leaves in #outcome, on a page of HTML text."""

    def act(page: str, script: str, width: int = 1400):
        folder = tmp_path_factory.mktemp("browser")
        with Listening() as (address, outcomes):
            text = page.replace("</body>", f"<script>{script}</script></body>")
            played = folder / "played.html"
            played.write_text(text.replace("</body>", SEND.replace("ADDRESS", address)))
            command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
            with open(folder / "browser.log", "wb") as log:
                process = subprocess.Popen([*command, played.as_uri()], stdout=log, stderr=log)
            try:
                return json.loads(outcomes.get(timeout=LONGEST_S))
            except queue.Empty:
                pytest.fail((folder / "browser.log").read_text()[-2000:])
            finally:
                process.kill()
                process.wait()

    return act


@pytest.fixture(scope="session")
def play_scenes(play):
    """`play_scenes(page, script, width)`: outcomes of a player's scenes by name; it must not have failed."""

    def act(page: str, script: str, width: int = 1400) -> dict:
        answer = play(page, script, width)
        assert answer["failure"] is None, answer["failure"]
        return answer["scenes"]

    return act


class Listening:
    """A server for one test on a free port: its address, and a queue of what pages send to it."""

    def __enter__(self):
        outcomes: queue.Queue[bytes] = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outcomes.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/", outcomes

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
