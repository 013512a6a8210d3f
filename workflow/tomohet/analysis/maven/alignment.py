"""Alignment of the model to the volumes: a test of the usual mistakes, and a rigid-body fit."""

import logging
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from tomohet.files.atomic import atomic_path
from tomohet.files.grids import MapGrid
from tomohet.physics.docking import best_shifts, chance_level, refine, search
from tomohet.physics.model_match import Comparison, Placement, compare, correlation

CLEAR_OF_CHANCE = 1.6  # times the chance level: no placement of a short list of wrong ones reaches this
FIT_CLEAR_OF_CHANCE = 3.0  # the same for the best of all orientations; wrong hands of a ribosome reach 2.5
CLEARLY_BETTER = 1.25  # a placement replaces another if its correlation is this many times larger
LEAST_TURN_DEG = 0.5  # smaller rotations are not reported
AS_GOOD = 0.9  # times the highest correlation: the simplest placement that reaches this is chosen

FLIP = "decode the volumes with volumes.flip: true (eval_vol --flip)"
Z_MIRROR = np.diag([1.0, 1.0, -1.0])
TRANSPOSED = np.eye(3)[::-1]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tried:
    """A placement that was tried: what it would mean, its correlation, and how to correct the cause."""

    name: str
    placement: Placement
    correlation: float
    remedy: str = ""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Result of the alignment check.

    tried : the placements, first the model as given
    best : the placement that fits
    chance : correlation that wrong orientations reach at their best shift (nan for a constant map)
    well : whether the model is recognised as given
    moves : whether `best` is used although it is not the model as given
    verdict : a sentence
    centre_A : (3,) the model's centre as given
    """

    tried: tuple[Tried, ...]
    best: Tried
    chance: float
    well: bool
    moves: bool
    verdict: str
    centre_A: np.ndarray

    @property
    def used(self) -> Tried:
        """The placement at which the densities are drawn."""
        return self.best if self.moves else self.tried[0]

    def table(self) -> pd.DataFrame:
        """Tabulate one row per placement: correlation, move of the model's centre, turn, hand, remedy."""
        rows = []
        for entry in self.tried:
            move_A = entry.placement.move(self.centre_A) - self.centre_A
            rows.append(
                {
                    "placement": entry.name,
                    "correlation": entry.correlation,
                    "times_chance": entry.correlation / self.chance,
                    "move_x_A": move_A[0],
                    "move_y_A": move_A[1],
                    "move_z_A": move_A[2],
                    "turn_deg": _turn_deg(entry.placement),
                    "mirrored": entry.placement.mirrored,
                    "used": entry is self.used,
                    "remedy": entry.remedy,
                }
            )
        return pd.DataFrame(rows)

    def summary(self) -> dict[str, object]:
        """Summarise for `summary.json`.

        x' = rotation x + shift_A moves the atoms, in the volumes' coordinates.
        """
        return {
            "verdict": self.verdict,
            "placement": self.used.name,
            "correlation": self.used.correlation,
            "correlation_as_given": self.tried[0].correlation,
            "chance": self.chance,
            "moved": self.moves,
            "rotation": self.used.placement.rotation.tolist(),
            "shift_A": self.used.placement.shift_A.tolist(),
        }


def _turn_deg(placement: Placement) -> float:
    """Return the angle of the rotation, after a mirror along z where the hand changes."""
    turn = placement.rotation @ Z_MIRROR if placement.mirrored else placement.rotation
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def align(
    atoms: pd.DataFrame,
    mean: np.ndarray,
    grid: MapGrid,
    mode: str = "auto",
    model_origin: str = "header",
) -> Alignment:
    """Test the model as given, at the placements of the usual mistakes and, if necessary, at all placements.

    Parameters
    ----------
    atoms : all atoms of the model, in the volumes' coordinates: x_A, y_A, z_A, Z.
    mean : (D, D, D) mean volume [z, y, x] on `grid`.
    mode : `auto` leaves the model unless another placement is clearly better, and searches all rotations only
        when no placement is clear of chance; `fit` always searches and refines; `check` moves nothing.
    model_origin : the stated origin of the coordinates, `header` or `centre`; it changes only the wording.

    Returns
    -------
    The placements with their whitened correlations (`physics.model_match`), and the placement to use.

    """
    xyz_A, weights = atoms[["x_A", "y_A", "z_A"]].to_numpy(), atoms.Z.to_numpy()
    given_to = (xyz_A, weights, mean, grid.pixel_size_A, grid.origin_A)
    whole, points = compare(*given_to), compare(*given_to, binned=True)
    stay = Placement(np.eye(3), np.zeros(3))
    centre_A = np.average(xyz_A, axis=0, weights=weights)
    if whole is None:
        given = Tried("as given", stay, float("nan"))
        verdict = "the mean volume is constant: the alignment of the model cannot be tested"
        return Alignment((given,), given, float("nan"), False, False, verdict, centre_A)
    chance = chance_level(points)

    tried = [
        Tried(name, placement, correlation(whole, placement), remedy)
        for name, placement, remedy in obvious_placements(grid, model_origin)
    ]
    for mirror in (stay, _about_middle(Z_MIRROR, grid)):
        tried.append(_shifted(whole, points, mirror))
    given, best = tried[0], _choose(tried, chance)
    recognised = best.correlation >= CLEAR_OF_CHANCE * chance
    if mode == "fit" or (mode == "auto" and not recognised):
        fits = _fitted(whole, points, search(*given_to), best if recognised else None)
        tried += fits
        best = _choose_fit(best, fits, chance, recognised)
        recognised = best.correlation >= CLEAR_OF_CHANCE * chance
    moves = mode != "check" and best is not given
    verdict = _verdict(given, best, chance, recognised, moves, points.centre_A, mode)
    return Alignment(tuple(tried), best, chance, recognised and best is given, moves, verdict, centre_A)


def obvious_placements(grid: MapGrid, model_origin: str = "header") -> list[tuple[str, Placement, str]]:
    """List the model as given and the corrections of the usual mistakes: (name, placement, remedy)."""
    origin_A = np.asarray(grid.origin_A, float)
    middle_A = _middle_A(grid)
    none = np.eye(3)
    hand = _about_middle(Z_MIRROR, grid)
    found = [("as given", Placement(none, np.zeros(3)), "")]
    if model_origin == "centre":
        other, move_A, option = "coordinates count from the header origin", -middle_A, "header"
    else:
        other, move_A, option = "coordinates count from the centre voxel", middle_A, "centre"
    remedy = f"set maven.model_origin: {option} (--model-origin {option})"
    found.append((other, Placement(none, move_A), remedy))
    if origin_A.any() and model_origin == "header":
        found += [
            (
                "coordinates count from the first voxel",
                Placement(none, origin_A),
                "the model ignores the header origin of the volumes: set it to 0, or move the model by it",
            ),
            (
                "header origin applied twice",
                Placement(none, -origin_A),
                "the model was moved by the header origin of the volumes a second time: move it back",
            ),
        ]
    found += [
        ("wrong hand", hand, FLIP),
        (f"wrong hand, {other}", Placement(hand.rotation, hand.move(move_A)), f"{FLIP}; {remedy}"),
        (
            "axes x and z swapped",
            Placement(TRANSPOSED, origin_A - TRANSPOSED @ origin_A),
            "the volumes were written with their axes in reverse order: transpose them",
        ),
    ]
    return found


def _middle_A(grid: MapGrid) -> np.ndarray:
    """Return the position of voxel D//2 in Å."""
    return np.asarray(grid.origin_A, float) + (grid.box // 2) * grid.pixel_size_A


def _about_middle(rotation: np.ndarray, grid: MapGrid) -> Placement:
    """Place a rotation about voxel D//2, the voxel that `volumes.flip` leaves in place."""
    middle_A = _middle_A(grid)
    return Placement(rotation, middle_A - rotation @ middle_A)


def _shifted(whole: Comparison, points: Comparison, start: Placement) -> Tried:
    """Find the best shift, by FFT and then refined, with the rotation (or mirror) of `start`."""
    places_A, _ = best_shifts(points, start.rotation[None])
    placement, _ = refine(points, start.rotation, places_A[0], turn=False)
    name, remedy = ("wrong hand, shifted", FLIP) if start.mirrored else ("shifted", "")
    return Tried(name, placement, correlation(whole, placement), remedy)


def _choose(tried: list[Tried], chance: float) -> Tried:
    """Choose the model as given, unless another obvious placement is clear of chance and clearly better."""
    given, others = tried[0], tried[1:]
    highest = max(entry.correlation for entry in others)
    if highest < max(CLEAR_OF_CHANCE * chance, CLEARLY_BETTER * given.correlation):
        return given
    return next(entry for entry in others if entry.correlation >= AS_GOOD * highest)


def _fitted(
    whole: Comparison, points: Comparison, everywhere: list[tuple[Placement, float]], start: Tried | None
) -> list[Tried]:
    """List the best fit of each hand after a global search, and `start` refined locally."""
    fits = []
    if start is not None:
        near = start.placement
        placement, _ = refine(points, near.rotation, near.move(points.centre_A))
        fits.append(Tried(f"{start.name}, refined", placement, correlation(whole, placement)))
    for name, mirrored, remedy in (("fitted", False, ""), ("wrong hand, fitted", True, FLIP)):
        placement = next(fit for fit, _ in everywhere if fit.mirrored == mirrored)
        fits.append(Tried(name, placement, correlation(whole, placement), remedy))
    return fits


def _choose_fit(start: Tried, fits: list[Tried], chance: float, recognised: bool) -> Tried:
    """Choose the recognised start refined, or a global fit that is clear of chance and clearly better."""
    if recognised:
        refined, *everywhere = fits
        best = refined if refined.correlation > start.correlation else start
    else:
        best, everywhere = start, fits
    for fit in everywhere:  # the wrong hand comes last: it must be clearly better than the other hand
        if fit.correlation >= max(FIT_CLEAR_OF_CHANCE * chance, CLEARLY_BETTER * best.correlation):
            best = fit
    return best


def _verdict(
    given: Tried, best: Tried, chance: float, recognised: bool, moves: bool, centre_A: np.ndarray, mode: str
) -> str:
    numbers = f"correlation {best.correlation:.2f}, by chance {chance:.2f}"
    if given.correlation < -CLEAR_OF_CHANCE * chance and not recognised:
        return (
            f"the contrast of the volumes is inverted (correlation {given.correlation:.2f}, by chance "
            f"{chance:.2f}): decode them with volumes.invert: true (eval_vol --invert)"
        )
    if not recognised:
        tail = (
            "use --align fit to search all rotations"
            if mode == "check"
            else "give the whole model or align it by hand"
        )
        return (
            f"no placement of the model stands out from chance ({numbers}): the model stays as given; see "
            f"alignment.png, and if the model is misplaced there, {tail}"
        )
    if best is given:
        return f"the model lies in the mean volume as given ({numbers})"
    move_A = best.placement.move(centre_A) - centre_A
    steps = ["the model's centre {} by ({:.1f}, {:.1f}, {:.1f}) Å".format("{}", *move_A)]
    turn = _turn_deg(best.placement)
    if best.placement.mirrored and "axes" not in best.name:
        steps.append("its z axis reversed")
    if turn > LEAST_TURN_DEG and "axes" not in best.name:
        steps.append(f"turned by {turn:.0f}°")
    action = ", ".join(steps).format("was moved" if moves else "should move")
    sentence = f"{best.name}: {action} ({numbers}, as given {given.correlation:.2f})"
    if not moves:
        sentence += "; the model stays as given, --align auto moves it"
    return f"{sentence}; to correct the cause, {best.remedy}" if best.remedy else sentence


def moved(atoms: pd.DataFrame, placement: Placement) -> pd.DataFrame:
    """Move atoms (columns x_A, y_A, z_A) to a placement."""
    xyz_A = placement.move(atoms[["x_A", "y_A", "z_A"]].to_numpy())
    return atoms.assign(x_A=xyz_A[:, 0], y_A=xyz_A[:, 1], z_A=xyz_A[:, 2])


def write_aligned(
    files: list[Path], placement: Placement, grid: MapGrid, model_origin: str, outdir: Path
) -> list[Path]:
    """Write every model file, moved, as `aligned_<name>.pdb` or `.cif` in its own format; return the paths.

    The written coordinates count from the header origin, even where those of `files` count from the centre.
    """
    start_A = _middle_A(grid) if model_origin == "centre" else np.zeros(3)
    shift_A = placement.move(start_A)
    turn = gemmi.Transform(gemmi.Mat33(placement.rotation.tolist()), gemmi.Vec3(*shift_A))
    written = []
    for file in map(Path, files):
        structure = gemmi.read_structure(str(file))
        for model in structure:
            model.transform_pos_and_adp(turn)
        name = Path(file.name.removesuffix(".gz"))
        as_cif = name.suffix.lower() in (".cif", ".mmcif")
        path = outdir / f"aligned_{name.stem}{'.cif' if as_cif else '.pdb'}"
        with atomic_path(path) as temporary:
            if as_cif:
                structure.make_mmcif_document().write_file(str(temporary))
            else:
                structure.write_pdb(str(temporary))
        written.append(path)
    return written
