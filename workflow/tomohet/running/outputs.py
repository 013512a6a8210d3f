"""Exclusive use of a command's output folders until the command ends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tomohet.files.locks import writing
from tomohet.options import Options

_held: ExitStack | None = None  # locks of the running command
_taken: set[Path] = set()


@contextmanager
def holding_outputs(options: Options) -> Iterator[None]:
    """Lock the folder of `--outdir`, and the folders of `take_output`, while a command runs.

    Commands that may run as several processes (`--multigpu`) lock their folder once they know their rank.
    """
    global _held  # noqa: PLW0603 (one per process)
    outside, taken = _held, set(_taken)
    with ExitStack() as _held:
        try:
            folder = getattr(options, "outdir", None)
            if folder is not None and not hasattr(options, "multigpu") and Path(folder).suffix != ".txt":
                take_output(Path(folder))
            yield
        finally:
            _held.close()
            _held = outside
            _taken.intersection_update(taken)


def take_output(folder: Path, shared: bool = False) -> Path:
    """Lock `folder` for this command until it ends, and return it.

    shared : whether to lock it for all processes of the command's job

    Raises FolderInUseError if another command is writing there.
    """
    if _held is not None and folder.resolve() not in _taken:
        _held.enter_context(writing(folder, shared))
        _taken.add(folder.resolve())
    return folder
