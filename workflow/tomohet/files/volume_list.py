"""`volumes.json`: the list of the volumes of a folder, which reveals lost, foreign, damaged and old ones.

The list holds a section for each set of volumes, under the start of their names (`vol_`): the number of
volumes, which of them are complete, and a checksum of the voxels of each. A writer of volumes first removes
the listed files of a set of other content, and never another file. A folder without a list, such as one
filled by another program, is read by its names.
"""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomohet.errors import InputError
from tomohet.files.atomic import write_json
from tomohet.files.damage import UNREADABLE, reason
from tomohet.files.mrc import read_volume
from tomohet.files.parts import content_digest, locked
from tomohet.files.regular import refuse_irregular

LIST = "volumes.json"
NUMBERED = re.compile(r"_(\d+)$")
NUMBER = re.compile(r"(\d{3,12})\.mrc")
REMEDY = "decode the volumes again (eval_vol)"


@dataclass(frozen=True)
class ListedVolumes:
    """Volumes in ascending order of their numbers; a volume's checksum is None if no list contains it."""

    numbers: list[int]
    paths: list[Path]
    checksums: list[int | None]

    def check(self, row: int, checksum: int) -> None:
        """Raise InputError when the voxels read, with this `checksum`, are not those that were written."""
        if self.checksums[row] not in (None, checksum):
            raise InputError(
                f"{self.paths[row]}: volume {self.numbers[row]} is not the one that was written there "
                f"({LIST}): it is damaged, or from another run; {REMEDY}"
            )


class VolumeList:
    """The list's section of one set of volumes while one or several processes write them.

    content : digest of everything that decides the volumes; a set of other content is forgotten and its files
        are removed
    count : number of volumes of the whole set
    stack : name of the file that holds all of them; None: each has a file, `<prefix>NNN.mrc`
    facts : further entries of the section
    """

    def __init__(
        self, folder: Path, prefix: str, content: str, count: int, stack: str | None = None, **facts: object
    ) -> None:
        self.path, self.prefix = folder / LIST, prefix
        self._new = {"content": content, "count": count, "stack": stack, **facts, "checksums": {}}

    def start(self, numbers: range) -> None:
        """Note that the volumes `numbers` are about to be written."""
        with locked(self.path):
            sections = _read(self.path)
            old = sections.get(self.prefix)
            if old is not None and not self._is_of_this(old):
                for path in _files(self.path.parent, self.prefix, old):
                    path.unlink(missing_ok=True)
                old = None
            section = old or self._new
            for number in numbers:
                section["checksums"].pop(str(number), None)
            write_json(self.path, sections | {self.prefix: section})

    def finish(self, checksums: dict[int, int]) -> None:
        """Note that these volumes are written: number -> checksum.

        Raises InputError when a job with other volumes has begun to write here meanwhile.
        """
        with locked(self.path):
            sections = _read(self.path)
            section = sections.get(self.prefix)
            if section is None or not self._is_of_this(section):
                raise InputError(
                    f"{self.path}: another job has begun to write other volumes here; give each job a folder"
                )
            known = section["checksums"] | {str(number): value for number, value in checksums.items()}
            section["checksums"] = dict(sorted(known.items(), key=lambda one: int(one[0])))
            write_json(self.path, sections)

    def _is_of_this(self, section: dict) -> bool:
        return all(section.get(key) == self._new[key] for key in ("content", "count", "stack"))


def checksum(voxels: np.ndarray, before: int = 0) -> int:
    """Compute the CRC-32 of voxels as float32; `before` is that of the preceding sections."""
    return zlib.crc32(np.ascontiguousarray(voxels, dtype="<f4").data, before)


def listed_volumes(folder: str | Path) -> ListedVolumes:
    """Find all `*_<number>.mrc` of a folder and compare them with its list, if there is one.

    Raises InputError when a volume of the list is missing or not yet written, or when there is a numbered
    volume that is not in the list.
    """
    folder = Path(folder)
    found = {
        path.name: int(match[1]) for path in folder.glob("*.mrc") if (match := NUMBERED.search(path.stem))
    }
    known: dict[str, int] = {}
    sections = _read(folder / LIST)
    for prefix, section in sections.items():
        _refuse_unfinished(folder, prefix, section)
        known |= {
            name: crc for name, crc in _named_checksums(prefix, section).items() if name.endswith(".mrc")
        }
    lost = sorted(name for name in known if not (folder / name).is_file())
    if lost:
        raise InputError(f"{folder / lost[0]}: this volume is missing, {LIST} names it; {REMEDY}")
    extra = sorted(set(found) - set(known))
    if sections and extra:
        raise InputError(
            f"{folder / extra[0]}: not one of the {len(known)} volumes that were written here ({LIST}); move "
            "it to another folder"
        )
    names = sorted(found, key=lambda name: (found[name], name))
    return ListedVolumes(
        [found[name] for name in names],
        [folder / name for name in names],
        [known.get(name) for name in names],
    )


def listed_stack(path: str | Path, count: int) -> ListedVolumes:
    """Compare the `count` volumes of one stack, numbered from 0, with the list beside it, if that names it.

    Raises InputError when the list names another number of volumes.
    """
    path = Path(path)
    checksums: list[int | None] = [None] * count
    for prefix, section in _read(path.parent / LIST).items():
        if section["stack"] == path.name:
            _refuse_unfinished(path.parent, prefix, section)
            if section["count"] != count:
                raise InputError(f"{path}: {count} volumes, {LIST} says {section['count']}; {REMEDY}")
            checksums = [section["checksums"][str(number)] for number in range(count)]
    return ListedVolumes(list(range(count)), [path] * count, checksums)


def read_listed(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a volume as `files.mrc.read_volume` does, and compare it with the list beside it, if listed.

    Raises InputError when it is not the volume that was written.
    """
    path = Path(path)
    volume, pixel_size_A = read_volume(path)
    for prefix, section in _read(path.parent / LIST).items():
        expected = _named_checksums(prefix, section).get(path.name)
        number = NUMBERED.search(path.stem)
        if section["stack"] is None and expected is not None and number:
            ListedVolumes([int(number[1])], [path], [expected]).check(0, checksum(volume))
    return volume, pixel_size_A


def refuse_other_latents(folder: Path, z: np.ndarray, source: Path) -> None:
    """Raise InputError when the folder's list names the latents of its volumes, and they are not `z`."""
    sections = _read(folder / LIST).values()
    if sections and latents_digest(z) not in [section.get("latents") for section in sections]:
        raise InputError(f"{source}: the volumes were decoded from other latents ({LIST}); {REMEDY}")


def latents_digest(z: np.ndarray) -> str:
    """Compute the digest of latents (m, zdim), as in the list."""
    return content_digest(np.asarray(z, np.float32))


def _files(folder: Path, prefix: str, section: dict) -> list[Path]:
    """List all files that a set has left, complete or not."""
    if section["stack"] is not None:
        return [folder / section["stack"]]
    numbered = ((path, NUMBER.fullmatch(path.name.removeprefix(prefix))) for path in folder.iterdir())
    return [
        path
        for path, match in numbered
        if match and int(match[1]) < section["count"] and path.name == file_name(prefix, int(match[1]))
    ]


def _named_checksums(prefix: str, section: dict) -> dict[str, int]:
    if section["stack"] is not None:
        return {section["stack"]: 0}
    return {file_name(prefix, int(number)): crc for number, crc in section["checksums"].items()}


def file_name(prefix: str, number: int) -> str:
    """Return the name of a volume that has its own file."""
    return f"{prefix}{number:03d}.mrc"


def _refuse_unfinished(folder: Path, prefix: str, section: dict) -> None:
    written, count = len(section["checksums"]), section["count"]
    if written < count:
        missing = next(number for number in range(count) if str(number) not in section["checksums"])
        name = section["stack"] or file_name(prefix, missing)
        raise InputError(
            f"{folder / name}: {written} of {count} volumes are written ({LIST}); run eval_vol again, or its "
            "other parts"
        )


def _read(path: Path) -> dict[str, dict]:
    """Read the sections of the list, by the start of the volumes' names; empty when there is no list."""
    refuse_irregular(path)
    try:
        sections = json.loads(path.read_text())
        for section in sections.values():
            section["checksums"] = {str(int(number)): crc for number, crc in section["checksums"].items()}
            if not isinstance(section["count"], int) or not isinstance(section["stack"], str | None):
                raise ValueError("count or stack is not what it should be")
        # Files are removed by these names, and the folder may belong to another user.
        names = [*sections, *(section["stack"] or "" for section in sections.values())]
        if any("/" in name or "\0" in name or name in (".", "..") for name in names):
            raise ValueError("a name leads out of the folder")
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        raise InputError(f"{path}: damaged ({reason(error)}); remove it and {REMEDY}") from error
    return sections
