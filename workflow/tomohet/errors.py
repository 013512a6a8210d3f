"""What commands raise: mistakes that a user can correct, and other ways in which work ends early."""


class InputError(Exception):
    """A mistake in the user's input, in one line.

    The message names the file, row or column, what was found, what was expected and how to correct it.
    `tomohet.cli` prints it without a traceback and exits with status 1.
    """


class FolderInUseError(InputError):
    """Another process writes into the output folder; `tomohet.cli` exits with `STATUS`."""

    STATUS = 73  # EX_CANTCREAT of sysexits.h: an output cannot be written


class Interrupted(BaseException):
    """A signal ended the work, and all is saved; `tomohet.cli` exits with status 128 + `signal`."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class DoneByCopies(BaseException):
    """Processes of their own, one per GPU, have done the work; `tomohet.cli` exits with their `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the processes ended with status {status}")
        self.status = status


class LostProcess(BaseException):
    """Another of several processes has died, and one line has said so; `tomohet.cli` exits with `STATUS`."""

    STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed
