"""Column names that appear twice in the header of a STAR table.

nextPYP's `to_star` writes `_rlnGroupNumber` twice and one value for it. RELION reads such a file: a repeated
name adds no column (src/metadata_table.cpp, `addLabel`).
"""

import re
from collections import Counter

import pandas as pd

from tomohet.errors import InputError

MARK = "\n"  # occurs in no column name


def repeated_names(columns: tuple[str, ...] | list[str]) -> list[str]:
    """Return the names that appear more than once in a header."""
    return [column for column, count in Counter(columns).items() if count > 1]


def columns_with_values(columns: list[str], first_row: str, token: re.Pattern) -> list[str]:
    """Return a header without its repeated names if the table's first row has no values for them."""
    distinct = list(dict.fromkeys(columns))
    if len(distinct) == len(columns) or len(token.findall(first_row)) != len(distinct):
        return columns
    return distinct


def told_apart(columns: tuple[str, ...]) -> list[str]:
    """Make names unique: each repetition becomes a count, `MARK` and the name."""
    seen: Counter = Counter()
    names = []
    for column in columns:
        names.append(f"{seen[column]}{MARK}{column}" if seen[column] else column)
        seen[column] += 1
    return names


def without_repeats(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Keep the first of each repeated column (named as `told_apart` does).

    Raises InputError where the repeated columns differ, because nothing shows which of them is right.
    """
    again = [column for column in table.columns if MARK in column]
    for column in again:
        name = column.partition(MARK)[2]
        first, second = table[name], table[column]
        differs = (first != second) & ~(first.isna() & second.isna())
        if differs.any():
            row = int(differs.to_numpy().argmax())
            raise InputError(
                f"{where}: column _{name} appears twice in the header, and row {row + 1} has two values for "
                f"it: {first.iloc[row]} and {second.iloc[row]}; remove one of the columns"
            )
    return table.drop(columns=again) if again else table
