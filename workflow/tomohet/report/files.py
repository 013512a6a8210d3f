"""The files of a stage as the report names and links them; numbered files stand in one line."""

import re
from pathlib import Path
from urllib.parse import quote

MOST_ALONE = 3  # numbered files of one kind with a line each


def files_of(folder: Path, root: Path) -> list[dict]:
    """List the files of a stage's folder: name, and address relative to the results folder.

    Files that differ by a number alone, and folders with more files, stand in one line with their count.
    """
    if not folder.is_dir():
        return []
    kinds: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            kinds.setdefault(re.sub(r"\d+", "#", path.name), []).append(path)
    lines = []
    for kind, paths in kinds.items():
        if "#" in kind and len(paths) > MOST_ALONE:
            first = min(paths, key=lambda path: (len(path.name), path.name))
            lines.append(_line(first, root, f"{first.name} and {len(paths) - 1} more like it"))
        else:
            lines += [_line(path, root, path.name + ("/" if path.is_dir() else "")) for path in paths]
    return lines


def pictures_of(files: list[dict]) -> list[dict]:
    """Return those of a stage's `files_of` that are pictures, for the page on paper."""
    return [file for file in files if file["address"].endswith(".png")]


def _line(path: Path, root: Path, name: str) -> dict:
    return {"name": name, "address": quote(path.relative_to(root).as_posix())}
