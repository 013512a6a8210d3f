"""The tables and the summary that `maven` writes."""

from pathlib import Path

import numpy as np
import pandas as pd

from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.maven.analysis import Analysis
from tomohet.files.atomic import write_csv, write_parquet


def write_tables(
    outdir: Path,
    published: np.ndarray,
    numbers: np.ndarray,
    units: pd.DataFrame,
    analysis: Analysis,
    particles: np.ndarray | None,
) -> None:
    """Write all tables: MAVEn's own, tidy, volumes, particles (store ordinals), units, dependencies."""
    write_occupancies(outdir / "occupancies.csv", published, numbers, units)
    write_parquet(outdir / "occupancies.parquet", tidy(published, analysis.volumes, numbers, units))
    by_volume = by_unit(analysis.volumes, units).assign(maven_class=analysis.volume_tree.groups)
    by_volume.insert(0, "volume", numbers)
    write_parquet(outdir / "volumes.parquet", by_volume)
    if analysis.particles is not None:
        by_particle = by_unit(analysis.particles, units).assign(maven_class=analysis.particle_classes)
        by_particle.insert(0, "particle", particles)
        write_parquet(outdir / "particles.parquet", by_particle)
    groups = pd.Series(analysis.unit_tree.groups, name="group")
    write_csv(
        outdir / "units.csv", pd.concat([units, analysis.described.drop(columns="unit"), groups], axis=1)
    )
    write_csv(outdir / "dependencies.csv", analysis.required)


def write_occupancies(path: Path, occupancies: np.ndarray, numbers: np.ndarray, units: pd.DataFrame) -> None:
    """Write occupancies (V, U) in MAVEn's layout.

    Two header rows, PDB and Chain, are followed by one row per volume number.
    """
    columns = pd.MultiIndex.from_arrays([units.source, units.unit], names=["PDB", "Chain"])
    write_csv(path, pd.DataFrame(occupancies, index=numbers, columns=columns), index=True)


def tidy(
    published: np.ndarray, calibrated: np.ndarray, numbers: np.ndarray, units: pd.DataFrame
) -> pd.DataFrame:
    """Tabulate one row per volume and unit.

    Columns: volume, source, unit, maven (MAVEn's number), occupancy (calibrated).
    """
    n, m = published.shape
    return pd.DataFrame(
        {
            "volume": np.repeat(numbers, m),
            "source": np.tile(units.source, n),
            "unit": np.tile(units.unit, n),
            "maven": published.ravel(),
            "occupancy": calibrated.ravel(),
        }
    )


def by_unit(occupancies: np.ndarray, units: pd.DataFrame) -> pd.DataFrame:
    """Tabulate columns maven_<unit>."""
    return pd.DataFrame(occupancies, columns=[f"maven_{column}" for column in units.column])


def summary(ensemble: Ensemble, units: pd.DataFrame, analysis: Analysis) -> dict[str, object]:
    """Collect the analysis for `summary.json`; `queries` are ready for a round's `select`."""
    tree, level = analysis.volume_tree, analysis.calibration.level
    shown = ["mean", "sd", "present", "low_mode", "high_mode", "confused", "cut"]
    described = analysis.described.astype(object).where(analysis.described.notna(), None)
    queries = {
        unit: f"maven_{column} > {cut:.2f}"
        for unit, column, cut in zip(units.unit, units.column, analysis.described.cut, strict=True)
    }
    return {
        "n_volumes": len(ensemble),
        "n_units": len(units),
        "n_particles": None if analysis.particles is None else len(analysis.particles),
        "present_level": level.level if level else None,
        "present_level_spread": level.spread if level else None,
        "volume_classes": {
            str(group): ensemble.numbers[tree.groups == group].tolist() for group in np.unique(tree.groups)
        },
        "particles_of_class": None
        if analysis.particle_classes is None
        else {
            str(group): int(count)
            for group, count in zip(*np.unique(analysis.particle_classes, return_counts=True), strict=True)
        },
        "silhouette": tree.silhouette if np.isfinite(tree.silhouette) else None,
        "units": {row["unit"]: {key: row[key] for key in shown} for row in described.to_dict("records")},
        "dependencies": analysis.required.to_dict("records"),
        "assembly": analysis.assembly.summary(),
        "queries": queries
        | {f"class {group}": f"maven_class == {group}" for group in np.unique(tree.groups)},
    }
