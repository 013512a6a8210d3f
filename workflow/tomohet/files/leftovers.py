"""Removal of files that an earlier run of a command left and the present run did not write.

A command lists the files that it wrote in `.<command>.files` of the folder. Only files in that list are ever
removed; files of the user or of another command stay.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomohet.files.atomic import write_json, written_files
from tomohet.files.damage import UNREADABLE
from tomohet.files.digests import forget
from tomohet.files.regular import refuse_irregular

log = logging.getLogger(__name__)


@contextmanager
def replacing(folder: Path, command: str) -> Iterator[None]:
    """Remove at the end of the block the files that an earlier run of `command` wrote below `folder`.

    Files that were written in the block stay: those that `files.atomic` has put in place, or that were named
    to `files.atomic.keep`. When the block fails nothing is removed, and the next run knows the files of both
    runs.
    """
    listing = folder / f".{command}.files"
    earlier = _listed(listing)
    with written_files() as written:
        try:
            yield
        except BaseException:
            if written or earlier:
                write_json(listing, sorted(earlier | _below(folder, written)))
            raise
    now = _below(folder, written)
    stale = sorted(name for name in earlier - now if (folder / name).is_file())
    for name in stale:
        forget(folder / name)
        (folder / name).unlink()
    for parent in sorted({(folder / name).parent for name in stale} - {folder}, reverse=True):
        if not any(parent.iterdir()):
            parent.rmdir()
    if stale:
        named = ", ".join(stale[:3]) + (f" and {len(stale) - 3} more" if len(stale) > 3 else "")
        log.info("%s: removed files of an earlier run: %s", folder, named)
    write_json(listing, sorted(now))


def _below(folder: Path, paths: set[Path]) -> set[str]:
    """Return the names relative to `folder` of those paths that lie in it."""
    root = folder.absolute()
    return {str(path.relative_to(root)) for path in paths if path.is_relative_to(root)}


def _listed(listing: Path) -> set[str]:
    """Return the names in a list, without names that lead out of the folder.

    There are none when the list is absent or damaged.
    """
    refuse_irregular(listing)
    try:
        names = json.loads(listing.read_text())
    except UNREADABLE:
        return set()
    names = {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    return {name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts}
