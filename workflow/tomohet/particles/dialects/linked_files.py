"""Files that a STAR file names: particles, tomograms and tilt series of a set.

WarpTools writes names relative to the file that contains them. RELION writes them relative to the project's
root, which is one of that file's parent folders.
"""

from pathlib import Path

from tomohet.errors import InputError


def find_linked(written: str, star: Path, datadir: str | Path | None, what: str) -> Path:
    """Find the file named `written` in `star`: beside it, below one of its parent folders, or in `datadir`.

    what : name of the entry, for the message

    Raises InputError, which lists the paths tried, when there is none.
    """
    places = candidates(written, star, datadir)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{places[0]}: cannot be read, no such file; {star} names it as {what}; all parent folders were "
            "searched too; correct the name, or give its folder with --datadir"
        )
    return found


def candidates(written: str, star: Path, datadir: str | Path | None) -> list[Path]:
    """List the paths where a named file may be, the folder of `star` first."""
    folders = [star.parent, *star.absolute().parent.parents]
    extra = [] if datadir is None else [Path(datadir) / written, Path(datadir) / Path(written).name]
    return list(dict.fromkeys([*(folder / written for folder in folders), Path(written), *extra]))
