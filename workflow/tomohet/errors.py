"""The one exception for mistakes that a user can mend."""


class InputError(Exception):
    """What is wrong with the user's input, in one line.

    The message says which file, row or column, what was found, what was expected and how to mend it.
    `tomohet.cli.command` prints it without a traceback and exits with status 1.
    """
