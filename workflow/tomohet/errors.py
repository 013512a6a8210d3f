"""The one exception for mistakes that a user can correct."""


class InputError(Exception):
    """A mistake in the user's input, in one line.

    The message names the file, row or column, what was found, what was expected and how to correct it.
    `tomohet.cli.command` prints it without a traceback and exits with status 1.
    """
