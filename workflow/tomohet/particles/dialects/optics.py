"""The optics table of a STAR file, joined to the table of its particles or images."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.errors import InputError
from tomohet.files.star import require_columns

GROUP = "rlnOpticsGroup"


def join_optics(table: pd.DataFrame, optics: pd.DataFrame | None, star: Path, where: str) -> pd.DataFrame:
    """Join each row's optics group to the table; a value of the row itself wins.

    optics: the file's table data_optics, None without one. where: what messages call the table.
    Raises InputError when the group of a row is missing, or is in data_optics twice or not at all.
    """
    if optics is None:
        return table
    require_columns(table, [GROUP], where)
    require_columns(optics, [GROUP], f"{star}: table data_optics")
    groups, wanted = (numbers.astype(str) for numbers in (optics[GROUP], table[GROUP]))
    if (twice := groups.duplicated()).any():
        raise InputError(
            f"{star}: table data_optics: optics group {groups[twice].iloc[0]} appears twice, expected once"
        )
    if (unknown := np.flatnonzero(~wanted.isin(groups))).size:
        raise InputError(
            f"{where}: column _{GROUP}, row {unknown[0] + 1}: group {wanted.iloc[unknown[0]]} is not in "
            f"data_optics ({len(unknown)} such rows)"
        )
    own = [column for column in optics.columns if column not in table.columns]
    joined = optics[own].iloc[pd.Index(groups).get_indexer(pd.Index(wanted))].reset_index(drop=True)
    return pd.concat([table.reset_index(drop=True), joined], axis=1)
