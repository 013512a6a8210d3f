"""Exceptions of the readers of file formats for damaged files, and their message in one line."""

import pickle
import tokenize
import zipfile
import zlib

UNREADABLE = (
    ArithmeticError, AttributeError, BufferError, EOFError, ImportError, LookupError, MemoryError, OSError,
    RuntimeError, SyntaxError, SystemError, TypeError, ValueError,
    pickle.UnpicklingError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def reason(error: Exception) -> str:
    """Return the message of an error in one line of at most 200 characters.

    An error without a message gives its type.
    """
    return one_line(str(error))[:200] or type(error).__name__


def one_line(text: str) -> str:
    """Return text of a file, such as the name of a column, without breaks of lines."""
    return " ".join(text.split())
