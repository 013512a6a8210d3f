"""Files that a STAR file names: particles, tomograms and tilt series of a set.

WarpTools names them relative to the file that names them, RELION relative to the project's root, which is one
of that file's parent folders.
"""

from pathlib import Path

from tomohet.errors import InputError


def find_linked(written: str, star: Path, datadir: str | Path | None, what: str) -> Path:
    """The file named `written` in `star`: beside it, below one of its parent folders, or in `datadir`.

    Raises InputError, which says what was tried, when there is none. `what` names the entry.
    """
    places = candidates(written, star, datadir)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{places[0]}: cannot be read, no such file; {star} names it as {what}; all parent folders were "
            "tried too; correct the name, or give its folder with --datadir"
        )
    return found


def candidates(written: str, star: Path, datadir: str | Path | None) -> list[Path]:
    """Places where a named file may be, the folder of `star` first."""
    folders = [star.parent, *star.absolute().parent.parents]
    extra = [] if datadir is None else [Path(datadir) / written, Path(datadir) / Path(written).name]
    return list(dict.fromkeys([*(folder / written for folder in folders), Path(written), *extra]))
