"""Alignment of a model to volumes: the usual mistakes, the verdict, the command, a ribosome."""

import json

import gemmi
import numpy as np
import pandas as pd
import pytest
import yaml
from jsonschema import validate
from scipy.spatial.transform import Rotation
from walking_model import GRID, MIDDLE_A, PIXEL, drawn, positions, walking_model

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven import alignment
from tomohet.analysis.maven.alignment_figure import alignment_figure
from tomohet.files.grids import MapGrid, read_grid, write_on_grid
from tomohet.physics.model_match import Placement
from tomohet.physics.molmap import read_model
from tomohet.rounds.flags import command_line
from tomohet.rounds.schema import read_schema

ODD = Rotation.from_rotvec(np.radians(140) * np.array([0.6, -0.64, 0.48])).as_matrix()
SHIFT_20_A = np.array([12.0, -12.8, 9.6])
PDB_LINE = "ATOM  {n:5d}  CA  ALA {chain}{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n"


@pytest.fixture(scope="module")
def atoms():
    return walking_model()


def rms_A(found, given, true):
    """Distance of atoms placed by `found` from where they belong."""
    place = found.used.placement.move(positions(given))
    return np.sqrt(((place - positions(true)) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_model_in_place_is_left_alone(atoms, noise):
    found = alignment.align(atoms, drawn(atoms, noise=noise), GRID)
    assert found.well and not found.moves and "as given" in found.verdict
    np.testing.assert_array_equal(found.used.placement.rotation, np.eye(3))
    np.testing.assert_array_equal(found.used.placement.shift_A, np.zeros(3))
    assert not any("fitted" in tried.name for tried in found.tried)


def shifted_origin(origin_A):
    return MapGrid(GRID.shape, PIXEL, origin_A)


MIRROR = Placement(np.diag([1.0, 1.0, -1.0]), np.array([0, 0, 2 * MIDDLE_A]))
ORIGIN_A = (-30.0, 12.0, 42.0)
MISTAKES = {
    "shifted": (Placement(np.eye(3), SHIFT_20_A), "shifted", (0, 0, 0), 0.5),
    "hand": (MIRROR, "wrong hand", (0, 0, 0), 1e-6),
    "centre": (Placement(np.eye(3), -np.full(3, MIDDLE_A)), "centre voxel", (0, 0, 0), 1e-6),
    "hand, centre": (
        Placement(MIRROR.rotation, MIRROR.shift_A - MIDDLE_A),
        "wrong hand, coordinates count from the centre voxel",
        (0, 0, 0),
        1e-6,
    ),
    "axes": (Placement(np.eye(3)[::-1], np.zeros(3)), "axes x and z swapped", (0, 0, 0), 1e-6),
    "origin ignored": (Placement(np.eye(3), -np.array(ORIGIN_A)), "first voxel", ORIGIN_A, 1e-6),
    "origin twice": (Placement(np.eye(3), np.array(ORIGIN_A)), "applied twice", ORIGIN_A, 1e-6),
    "hand, shifted": (
        Placement(MIRROR.rotation, MIRROR.shift_A + SHIFT_20_A),
        "wrong hand, shifted",
        (0, 0, 0),
        0.5,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_usual_mistakes_are_named_and_mended(atoms, mistake):
    wrong, name, origin_A, tolerance_A = MISTAKES[mistake]
    grid = shifted_origin(origin_A)
    true = alignment.moved(atoms, Placement(np.eye(3), np.array(origin_A, float)))
    given = alignment.moved(true, wrong)
    mean = drawn(true, grid, noise=1.0)
    found = alignment.align(given, mean, grid)
    assert found.moves and name in found.verdict and name in found.used.name
    assert rms_A(found, given, true) < tolerance_A
    table = found.table()
    assert table.correlation[table.used].item() > 5 * abs(table.correlation[0])
    reported = alignment.align(given, mean, grid, "check")
    assert not reported.moves and not reported.well and name in reported.verdict
    assert rms_A(reported, given, given) == 0


@pytest.mark.parametrize("hand", [np.eye(3), np.diag([1.0, 1.0, -1.0])])
def test_a_turned_model_is_fitted_from_anywhere(atoms, hand):
    given = alignment.moved(atoms, Placement(ODD @ hand, np.array([250.0, -90.0, 400.0])))
    found = alignment.align(given, drawn(atoms, noise=1.0), GRID)
    assert found.moves and rms_A(found, given, atoms) < 0.5
    assert found.used.placement.mirrored == (np.linalg.det(hand) < 0)
    assert ("wrong hand" in found.verdict) == found.used.placement.mirrored
    assert "turned by 140°" in found.verdict


def test_fit_refines_what_auto_leaves(atoms):
    slightly = Placement(Rotation.from_rotvec([0.04, 0, 0.03]).as_matrix(), np.zeros(3))
    given = alignment.moved(atoms, slightly)
    given = alignment.moved(given, Placement(np.eye(3), (positions(atoms) - positions(given)).mean(axis=0)))
    mean = drawn(atoms, noise=1.0)
    left, fitted = (alignment.align(given, mean, GRID, mode) for mode in ("auto", "fit"))
    assert not left.moves
    assert fitted.moves and fitted.used.name == "as given, refined"
    assert rms_A(fitted, given, atoms) < 0.5 * rms_A(left, given, atoms)


def test_one_chain_of_three_in_noise(atoms):
    part = atoms[atoms.chain == "B"]
    mean = drawn(atoms, noise=2.0, seed=3)
    assert alignment.align(part, mean, GRID).well
    given = alignment.moved(part, Placement(np.eye(3), SHIFT_20_A))
    found = alignment.align(given, mean, GRID)
    assert found.used.name == "shifted" and rms_A(found, given, part) < 1.5


def test_maps_without_the_model_get_a_sentence(atoms):
    constant = alignment.align(atoms, np.full(GRID.shape, 3.0, np.float32), GRID)
    assert not constant.moves and "constant" in constant.verdict
    noise = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    nothing = alignment.align(atoms, noise, GRID)
    assert not nothing.moves and not nothing.well and "chance" in nothing.verdict
    assert any("fitted" in tried.name for tried in nothing.tried)
    inverted = alignment.align(atoms, -drawn(atoms), GRID, "check")
    assert not inverted.well and "contrast" in inverted.verdict


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_moved_models_are_written(atoms, tmp_path, suffix):
    file = write_pdb(tmp_path / "m.pdb", atoms)
    if suffix == ".cif":
        structure = gemmi.read_structure(str(file))
        file = tmp_path / "m.cif"
        structure.make_mmcif_document().write_file(str(file))
    placement = Placement(ODD, np.array([1.0, 2.0, 3.0]))
    grid = shifted_origin((10.0, 0.0, 0.0))
    [path] = alignment.write_aligned([file], placement, grid, "centre", tmp_path / "out")
    assert path.name == f"aligned_m{suffix}"
    expected = placement.move(positions(read_model(file)) + MIDDLE_A + np.array([10.0, 0.0, 0.0]))
    np.testing.assert_allclose(positions(read_model(path)), expected, atol=2e-3)


def write_pdb(path, atoms):
    lines = [
        PDB_LINE.format(n=n + 1, chain=row.chain, residue=n % 200 + 1, x=row.x_A, y=row.y_A, z=row.z_A)
        for n, row in enumerate(atoms.itertuples())
    ]
    path.write_text("".join(lines) + "END\n")
    return path


def test_the_command_mends_a_shifted_model(atoms, tmp_path, run_script):
    rng = np.random.default_rng(2)
    parts = [drawn(atoms[atoms.chain == chain]) + 7 for chain in "ABC"]
    for number in range(8):
        volume = parts[0] + parts[1] + (number % 2) * parts[2]
        volume += 0.05 * volume.std() * rng.normal(size=volume.shape)
        write_on_grid(tmp_path / "v" / f"vol_{number:03d}.mrc", volume, GRID)
    right = write_pdb(tmp_path / "right.pdb", atoms)
    wrong = write_pdb(tmp_path / "wrong.pdb", alignment.moved(atoms, Placement(np.eye(3), SHIFT_20_A)))
    tables = {}
    for name, model, options in (
        ("off", right, ["--align", "off"]),
        ("mended", wrong, []),
    ):
        log = run_script(
            "maven", "--volumes", tmp_path / "v", "--model", model, "-o", tmp_path / name, *options
        )
        tables[name] = pd.read_csv(tmp_path / name / "occupancies.csv", header=[0, 1], index_col=0).to_numpy()
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert (summary["alignment"] or {}).get("moved", False) == (name == "mended")
        assert (tmp_path / name / "alignment.png").exists() == (name != "off")
        assert ("shifted" in log.stdout + log.stderr) == (name == "mended")
    assert np.abs(tables["mended"] - tables["off"]).max() < 0.05 * np.abs(tables["off"]).max()
    written = positions(read_model(tmp_path / "mended" / "aligned_wrong.pdb"))
    assert np.abs(written - positions(atoms)).max() < 1.0
    assert not list((tmp_path / "off").glob("aligned_*"))
    table = pd.read_csv(tmp_path / "mended" / "alignment.csv")
    assert table.placement[table.used].item() == "shifted"


def test_off_in_a_configuration_reaches_the_command():
    for written in ("align: off", "align: 'off'"):
        assert command_line("maven", yaml.safe_load(written)) == "--align off"
    assert command_line("maven", {"align": "fit"}) == "--align fit"
    validate(yaml.safe_load("{maven: {align: off}}"), {**read_schema(), "required": []})


def test_figure_shows_the_model_as_given_and_as_used(atoms):
    given = alignment.moved(atoms, Placement(np.eye(3), SHIFT_20_A))
    mean = drawn(atoms)
    for volume, rows in ((mean, 2), (np.zeros_like(mean), 1)):
        found = alignment.align(given, volume, GRID)
        fig = alignment_figure(volume, given, GRID, 15.0, found)
        assert len(fig.axes) == 3 * rows
        assert all("(Å)" in ax.get_xlabel() and "(Å)" in ax.get_ylabel() for ax in fig.axes)
        outlines = [ax.collections for ax in fig.axes]
        assert all(len(lines) for lines in outlines)


@pytest.fixture(scope="module")
def ribosome(shared):
    """Mean volume, its grid and the 50S model that lies in it."""
    example = shared / "data" / "maven-example"
    return (
        open_ensemble(example / "aligned").mean(),
        read_grid(next((example / "aligned").glob("*.mrc"))),
        read_model(sorted((example / "model").glob("*.pdb"))),
    )


def test_ribosome_is_recognised_as_given(ribosome):
    mean, grid, model = ribosome
    found = alignment.align(model, mean, grid)
    assert found.well and not found.moves
    others = [tried.correlation for tried in found.tried if tried.name not in ("as given", "shifted")]
    assert found.used.correlation > 8 * max(others)
    proteins = alignment.align(model[model.file == "prots1"], mean, grid)
    assert proteins.well and not proteins.moves


@pytest.mark.parametrize(
    ("rotation", "name"), [(np.eye(3), "shifted"), (np.diag([1.0, 1.0, -1.0]), "wrong hand, shifted")]
)
def test_ribosome_shifted_or_mirrored_is_mended(ribosome, rotation, name):
    mean, grid, model = ribosome
    given = alignment.moved(model, Placement(rotation, SHIFT_20_A + (1 - np.diag(rotation)) * 200))
    found = alignment.align(given, mean, grid)
    assert found.moves and found.used.name == name
    assert rms_A(found, given, model) < 0.1 * grid.pixel_size_A


def test_ribosome_of_any_orientation_and_wrong_hand_is_fitted(ribosome):
    mean, grid, model = ribosome
    given = alignment.moved(model, Placement(ODD @ np.diag([1.0, 1.0, -1.0]), np.array([90.0, -300.0, 50.0])))
    found = alignment.align(given, mean, grid)
    assert found.used.placement.mirrored
    assert rms_A(found, given, model) < 0.2 * grid.pixel_size_A
