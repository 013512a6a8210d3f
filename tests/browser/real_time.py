"""A page in a real browser, in real time, until its script says that it has finished.

Chromium's virtual time does not wait for workers. Here the page's load event waits for a picture instead,
which a local server sends when the page asks for another one.
"""

import http.server
import subprocess
import threading
from pathlib import Path

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --dump-dom"
).split()
LONGEST_S = 150


def played(browser: str, page: Path, folder: Path, width: int = 1400) -> str:
    """Return the page's elements as text after its script has called `finished()`, or after `LONGEST_S`."""
    finished = threading.Event()

    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/finished":
                finished.set()
            finished.wait(LONGEST_S)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        ask = f'const finished = () => (new Image().src = "{place}/finished");'
        script = f'<img src="{place}/hold" alt="" hidden><script>{ask}</script>'
        page.write_text(page.read_text().replace("<main ", script + "<main ", 1))
        command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
        try:
            done = subprocess.run(
                [*command, page.as_uri()], capture_output=True, text=True, timeout=LONGEST_S + 30
            )
        finally:
            finished.set()
            server.shutdown()
    return done.stdout
