"""What the readers of file formats raise when a file is damaged, and what they say, in one line."""

import pickle
import tokenize
import zipfile
import zlib

UNREADABLE = (
    ArithmeticError, AttributeError, BufferError, EOFError, ImportError, LookupError, MemoryError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError,
    pickle.UnpicklingError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def reason(error: Exception) -> str:
    """The message of an error in at most 200 characters of one line; its kind when it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
