"""The figures, maps and ChimeraX scripts that `maven` writes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.filters import threshold_otsu

from tomohet import plots
from tomohet.analysis.ensemble import Ensemble
from tomohet.analysis.maven import chimerax, figures
from tomohet.analysis.maven.alignment import Alignment
from tomohet.analysis.maven.analysis import Analysis
from tomohet.analysis.maven.assembly import assembly_figure
from tomohet.analysis.maven.units import Units, strongest_unit
from tomohet.files.atomic import write_text
from tomohet.files.grids import write_on_grid


@dataclass(frozen=True)
class Model:
    """The atoms with their units, the files they came from and, if moved, the files of the moved model."""

    atoms: pd.DataFrame
    given: list[Path]
    files: list[Path]
    resolution_A: float
    placed: Alignment | None


def write_masks_figure(outdir: Path, kind: str, mean: np.ndarray, units: Units) -> None:
    """Draw the units' outlines on the mean volume."""
    picture = figures.masks_on_mean(mean, strongest_unit(units, mean.shape), list(units.table.unit))
    plots.save(picture, outdir / f"masks.{kind}")


def write_figures(outdir: Path, kind: str, names: list[str], analysis: Analysis) -> None:
    """Draw clustered heat map, histograms and correlation.

    Where units depend on others, the assembly graph is drawn too.
    """
    limited, order = np.clip(analysis.volumes, 0, 1), analysis.unit_tree.order
    of = "volumes" if analysis.particles is None else "particles"
    drawn = {
        "clustermap": figures.clustermap(limited, names, analysis.volume_tree, analysis.unit_tree),
        "histograms": figures.histograms(analysis.observed, analysis.described, of),
        "correlation": figures.correlation(analysis.observed, names, order, of),
    }
    if analysis.assembly.groups:
        present = dict(zip(names, analysis.described.present, strict=True))
        drawn["assembly"] = assembly_figure(analysis.assembly, present)
    for name, fig in drawn.items():
        plots.save(fig, outdir / f"{name}.{kind}")


def write_class_maps(outdir: Path, ensemble: Ensemble, analysis: Analysis, mean: np.ndarray) -> None:
    """Write the mean volume of every class, class_<n>.mrc, and classes.cxc, which opens them in ChimeraX."""
    maps = []
    for number, volume in enumerate(ensemble.group_means(analysis.volume_tree.groups), start=1):
        maps.append(outdir / f"class_{number}.mrc")
        write_on_grid(maps[-1], volume, ensemble.grid)
    level = float(threshold_otsu(mean)) if np.ptp(mean) > 0 else float(mean.flat[0])
    write_text(outdir / "classes.cxc", chimerax.class_script(maps, level))


def write_model_scripts(outdir: Path, model: Model, units: pd.DataFrame, analysis: Analysis) -> None:
    """Write occupancy.cxc and groups.cxc: the model in ChimeraX by mean occupancy, and by group of units."""
    names = list(units.unit)
    mean = chimerax.occupancy_colours(analysis.observed.mean(axis=0), names)
    groups = chimerax.group_colours(analysis.unit_tree.groups, names, units.get("colour"))
    renamed = model.atoms.assign(file=model.atoms.file.map(_new_names(model)))
    for name, colours in {"occupancy": mean, "groups": groups}.items():
        script = chimerax.model_script(model.files, renamed, colours, outdir)
        write_text(outdir / f"{name}.cxc", script)


def _new_names(model: Model) -> dict[str, str]:
    """Map the model files' names as stored with the atoms to their present names, moved or not."""
    stems = [[chimerax.stem(file) for file in files] for files in (model.given, model.files)]
    return dict(zip(*stems, strict=True))
