"""The output folders of a command, each its own until the command ends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tomohet.files.locks import writing
from tomohet.options import Options

_held: ExitStack | None = None  # of the command that runs
_taken: set[Path] = set()


@contextmanager
def holding_outputs(options: Options) -> Iterator[None]:
    """Hold the folder named by `--outdir`, and those of `take_output`, while a command runs.

    Commands that may run as several processes (`--multigpu`) take theirs when they know which one they are.
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
    """`folder`, for this command alone until it ends; `shared`: for all processes of its job.

    Raises InputError when another command is writing there.
    """
    if _held is not None and folder.resolve() not in _taken:
        _held.enter_context(writing(folder, shared))
        _taken.add(folder.resolve())
    return folder
