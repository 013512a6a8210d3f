"""The files that the report links: found within two folders, and sent so that none can act as our page."""

import html
import mimetypes
from pathlib import Path
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response

from tomohet.rounds.layout import SERVED

# What a browser shows; it saves everything else, pickles among them.
SHOWN = {".csv", ".html", ".json", ".log", ".png", ".svg", ".svgz", ".txt", ".yaml", ".yml"}
AS_TEXT = {".csv", ".log", ".txt", ".yaml", ".yml"}
# A file's scripts run without our cookie and cannot send anything anywhere.
ALONE = (
    "sandbox allow-scripts; default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'"
)


def find(address: str, results: Path, served: Path) -> Path:
    """Return the file or folder at an address relative to `results`; `served/...` lies in `served`.

    Raises HTTPException 404 for anything outside of these folders, also by symbolic links, and for hidden
    names.
    """
    first, _, rest = address.partition("/")
    root, inside = (served, rest) if first == SERVED else (results, address)
    parts = [part for part in inside.split("/") if part]
    if any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        raise HTTPException(404, f"There is no file {address}.")
    try:
        path = root.resolve().joinpath(*parts).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise HTTPException(404, f"There is no file {address}.") from error
    if not path.is_relative_to(root.resolve()) or not (path.is_file() or path.is_dir()):
        raise HTTPException(404, f"There is no file {address}.")
    return path


def sent(path: Path, address: str) -> Response:
    """Return the response with a file, or with the list of a folder."""
    if path.is_dir():
        return _listed(path, address)
    suffix = path.suffix.lower()
    if suffix not in SHOWN:
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)
    kind, coding = mimetypes.guess_type(path.name)
    headers = {"content-security-policy": ALONE}
    if coding == "gzip":  # .svgz
        headers["content-encoding"] = coding
    return FileResponse(path, media_type="text/plain" if suffix in AS_TEXT else kind, headers=headers)


def _listed(folder: Path, address: str) -> Response:
    """List a folder's files as links, with their sizes."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        link = "/".join(filter(None, [quote(address.strip("/")), quote(path.name)]))
        size = "folder" if path.is_dir() else f"{path.stat().st_size:,} bytes"
        lines.append(f'<li><a href="/{link}">{html.escape(path.name)}</a> {size}</li>')
    title = html.escape(address.strip("/") or "results")
    page = (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><h1>{title}</h1><ul>{''.join(lines)}</ul></html>"
    )
    return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'"})
