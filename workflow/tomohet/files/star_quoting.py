"""Quoting of values in a STAR file, so that they are read again as they were written."""

import re

from tomohet.errors import InputError

# Text that, without quotes, would be read as two values, a comment, a quote, a column's name or a keyword.
_SPECIAL = re.compile(r"[\s\0\"'#\\\ud800-\udfff]|^(?:[_;]|(?:data|loop|save|global|stop)_)", re.IGNORECASE)
_COMMENT_LINE = re.compile(rb"^[ \t]*#[^\n]*\n?", re.MULTILINE)
# A comment behind a row's values; group 1 keeps a quoted value, in which `#` begins no comment.
_COMMENT_END = re.compile(rb"((?<![^ \t\r\n])(?:\"[^\"\n]*\"|'[^'\n]*')(?![^ \t\r\n]))|(?<=[ \t])#[^\n]*")
_UNWRITABLE = re.compile(r"[\0\n\r\ud800-\udfff]")


def quoted(value: str) -> str:
    """Return the text as one value of a STAR file.

    It has no quotes where possible, else double or single ones.

    Raises InputError for a text with a line break, a null, bytes that are not UTF-8, or both kinds of quotes.
    """
    if not value:
        return '""'
    if not _SPECIAL.search(value):
        return value
    if _UNWRITABLE.search(value) or {'"', "'"} <= set(value):
        raise InputError(
            f"{value!r}: this name must be written in a STAR file, which cannot hold a line break, bytes "
            "that are not UTF-8, or both kinds of quotes in one name; give another -o, or rename the file or "
            "folder"
        )
    return f"'{value}'" if '"' in value else f'"{value}"'


def unquoted(token: str) -> str:
    """Return a value of a STAR file without the quotes around it."""
    return token[1:-1] if len(token) > 1 and token[0] in "'\"" and token[-1] == token[0] else token


def without_comments(rows: bytes) -> bytes:
    """Return the rows of a table without comment lines and without comments behind their values."""
    rows = _COMMENT_LINE.sub(b"", rows)
    return _COMMENT_END.sub(rb"\1", rows) if b" #" in rows or b"\t#" in rows else rows
