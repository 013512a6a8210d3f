"""The tables and the summary that `maven` writes."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.maven.clustering import Tree
from tomohet.analysis.maven.occupancy import Gain
from tomohet.files.atomic import write_csv, write_parquet


def write_occupancies(path: Path, occupancies: np.ndarray, numbers: np.ndarray, units: pd.DataFrame) -> None:
    """Occupancies (V, U) in MAVEn's layout: header rows PDB and Chain, then one row per volume number."""
    columns = pd.MultiIndex.from_arrays([units.source, units.unit], names=["PDB", "Chain"])
    write_csv(path, pd.DataFrame(occupancies, index=numbers, columns=columns), index=True)


def write_volumes(
    path: Path, occupancies: np.ndarray, numbers: np.ndarray, units: pd.DataFrame, tree: Tree
) -> None:
    """Table of volumes: volume, maven_<unit> (0 absent, 1 present), maven_class (from 1, in leaf order)."""
    table = pd.DataFrame(occupancies, columns=[f"maven_{column}" for column in units.column])
    table.insert(0, "volume", numbers)
    table["maven_class"] = tree.groups
    write_parquet(path, table)


def unit_table(units: pd.DataFrame, described: pd.DataFrame, tree: Tree) -> pd.DataFrame:
    """One row per unit: where it is from, its mask and mass, the distribution of its occupancy, its group."""
    return pd.concat([units, described.drop(columns="unit"), pd.Series(tree.groups, name="group")], axis=1)


def summary(
    ensemble: Ensemble,
    units: pd.DataFrame,
    described: pd.DataFrame,
    required: pd.DataFrame,
    tree: Tree,
    gain: Gain | None,
    aligned: float,
) -> dict[str, object]:
    """What `summary.json` holds; `queries` are ready for a round's `select`."""
    return {
        "n_volumes": len(ensemble),
        "n_units": len(units),
        "model_map_correlation": aligned,
        "present_level": gain.level if gain else None,
        "present_level_spread": gain.spread if gain else None,
        "volume_classes": {
            str(group): ensemble.numbers[tree.groups == group].tolist() for group in np.unique(tree.groups)
        },
        "silhouette": tree.silhouette if np.isfinite(tree.silhouette) else None,
        "units": {
            row.unit: {"mean": row.mean, "sd": row.sd, "present": row.present, "cut": row.cut}
            for row in described.itertuples()
        },
        "dependencies": required.to_dict("records"),
        "queries": {
            unit: f"maven_{column} > {cut:.2f}"
            for unit, column, cut in zip(units.unit, units.column, described.cut, strict=True)
        },
    }
