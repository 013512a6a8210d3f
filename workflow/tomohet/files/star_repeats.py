"""Columns that stand twice in the header of a STAR table.

nextPYP's `to_star` writes `_rlnGroupNumber` twice and one value for it. RELION reads such a file: a name that
is repeated adds no column (src/metadata_table.cpp, `addLabel`).
"""

import re
from collections import Counter

import pandas as pd

from tomohet.errors import InputError

MARK = "\n"  # stands in no name of a column


def repeated_names(columns: tuple[str, ...] | list[str]) -> list[str]:
    """The names that stand more than once in a header."""
    return [column for column, count in Counter(columns).items() if count > 1]


def columns_with_values(columns: list[str], first_row: str, token: re.Pattern) -> list[str]:
    """A header without its repeated names if the table's first row has no values for them."""
    distinct = list(dict.fromkeys(columns))
    if len(distinct) == len(columns) or len(token.findall(first_row)) != len(distinct):
        return columns
    return distinct


def told_apart(columns: tuple[str, ...]) -> list[str]:
    """Names of which none stands twice: `MARK` and the name for each repetition, with a count before it."""
    seen: Counter = Counter()
    names = []
    for column in columns:
        names.append(f"{seen[column]}{MARK}{column}" if seen[column] else column)
        seen[column] += 1
    return names


def without_repeats(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table with the first of each repeated column (named as `told_apart` does).

    Raises InputError where the repeated columns differ, as nothing tells which of them is right.
    """
    again = [column for column in table.columns if MARK in column]
    for column in again:
        name = column.partition(MARK)[2]
        first, second = table[name], table[column]
        differs = (first != second) & ~(first.isna() & second.isna())
        if differs.any():
            row = int(differs.to_numpy().argmax())
            raise InputError(
                f"{where}: column _{name} stands twice in the header, and row {row + 1} has two values for "
                f"it: {first.iloc[row]} and {second.iloc[row]}; remove one of the columns"
            )
    return table.drop(columns=again) if again else table
