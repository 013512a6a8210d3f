"""Masks, occupancies and their calibration: RELION's and MAVEn's numbers, and known mixtures of units."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_dilation

from tomohet.analysis import cooccurrence
from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven import calibration, clustering, units
from tomohet.analysis.maven.masks import density_threshold, unit_mask
from tomohet.errors import InputError
from tomohet.files.grids import MapGrid, read_grid, write_on_grid
from tomohet.files.mrc import read_volume, write_volume

BOX, PIXEL = 24, 4.0
GRID = MapGrid((BOX,) * 3, PIXEL, (0.0, 0.0, 0.0))
PDB_LINE = "ATOM  {n:5d}  CA  ALA {chain}{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n"


def write_model(path, centres, seed=0, atoms=150):
    """One ball of carbon atoms of radius 9 Å per chain."""
    rng = np.random.default_rng(seed)
    lines = []
    for chain, centre in zip("ABCDEFGH", centres, strict=False):
        directions = rng.normal(size=(atoms, 3))
        radii = 9 * rng.uniform(size=(atoms, 1)) ** (1 / 3)
        xyz = np.add(centre, radii * directions / np.linalg.norm(directions, axis=1, keepdims=True))
        lines += [
            PDB_LINE.format(n=1, chain=chain, residue=1 + i, x=x, y=y, z=z) for i, (x, y, z) in enumerate(xyz)
        ]
    path.write_text("".join(lines) + "END\n")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Four touching balls: A and B always there, C comes and goes, D only with C."""
    centres = [(38, 48, 48), (54, 48, 48), (46, 62, 48), (46, 76, 48)]
    return write_model(tmp_path_factory.mktemp("model") / "balls.pdb", centres)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory, model):
    """Volumes with known units, on a grey scale of their own: gain 37, no DC, halo, noise. (folder, truth)"""
    folder = tmp_path_factory.mktemp("mixture")
    rng = np.random.default_rng(1)
    drawn = units.draw_units(
        units.units_of_model([model]), GRID, 10.0, "chimerax", None, 0, 0, folder / "drawn"
    )
    truth = np.ones((40, 4))
    truth[:, 2] = np.arange(40) % 2
    truth[:, 3] = np.arange(40) % 4 == 3
    for number, states in enumerate(truth):
        volume = (states @ drawn.densities).reshape(GRID.shape)
        volume += rng.normal(0, 0.01, GRID.shape)
        volume = 37 * (volume - volume.mean() - 0.02)
        write_volume(folder / "volumes" / f"vol_{3 * number + 7:03d}.mrc", volume, PIXEL)
    return folder / "volumes", truth


@pytest.mark.parametrize("extend", [2.0, 3.5, -1.5])
def test_mask_grows_strictly_below_the_distance(extend):
    density = np.zeros((15, 15, 15))
    density[5:9, 6:9, 7:10] = 1
    grid = np.argwhere(np.ones(density.shape))
    inside = np.argwhere(density >= 0.5)
    outside = np.argwhere(density < 0.5)
    seeds = inside if extend > 0 else outside
    nearest = np.sqrt(((grid[:, None] - seeds[None]) ** 2).sum(axis=2)).min(axis=1).reshape(density.shape)
    expected = (nearest < extend) if extend > 0 else (nearest >= -extend)
    np.testing.assert_array_equal(unit_mask(density, 0.5, extend), expected)


def test_soft_edge_is_a_raised_cosine():
    density = np.zeros((11, 11, 11))
    density[5, 5, 5] = 1
    mask = unit_mask(density, 1.0, soft_edge_px=4)
    assert mask[5, 5, 5] == 1
    assert mask[5, 5, 8] == pytest.approx(0.5 + 0.5 * np.cos(np.pi * 3 / 4))
    assert mask[6, 6, 5] == pytest.approx(0.5 + 0.5 * np.cos(np.pi * np.sqrt(2) / 4))
    assert mask[5, 5, 9] == 0
    assert binary_dilation(mask == 1).sum() == 7


def test_threshold_is_relions_unless_the_model_is_thin():
    assert density_threshold(np.array([0.4]), None) == 0.01
    assert density_threshold(np.array([0.02]), None) == pytest.approx(0.004)
    assert density_threshold(np.array([0.02]), 0.3) == 0.3


def test_maven_example_masks_and_occupancies(shared, tmp_path, run_script):
    example = shared / "data" / "maven-example"
    run_script(
        "maven", "--volumes", example / "aligned", "--model", example / "model" / "prots1.pdb",
        "--resolution", 10, "-o", tmp_path,
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "occupancies.csv", header=[0, 1], index_col=0)
    assert table.columns.names == ["PDB", "Chain"] and table.shape == (20, 26)
    assert table.index[0] == 18 and table.index[-1] == 498
    volumes = {n: read_volume(example / "aligned" / f"vol_{n:03d}.mrc")[0].astype(float) for n in table.index}
    for chain in "abcdefghijklm":
        expected = read_volume(example / "expected" / f"mask_chain_{chain}.mrc")[0]
        density = read_volume(example / "expected" / f"density_chain_{chain}.mrc")[0].astype(float)
        found = read_volume(tmp_path / "masks" / f"Mask_prots1_chain{chain.upper()}.mrc")[0]
        assert (found != expected).sum() == 0
        direct = [(expected * volume).sum() / density.sum() for volume in volumes.values()]
        np.testing.assert_allclose(table["prots1", chain.upper()], direct, atol=1e-4)


def test_command_recovers_known_occupancies(mixture, model, tmp_path, run_script):
    volumes, truth = mixture
    run_script("maven", "--volumes", volumes, "--model", model, "--resolution", 10, "-o", tmp_path)
    table = pd.read_parquet(tmp_path / "volumes.parquet")
    assert list(table.volume) == [3 * n + 7 for n in range(40)]
    found = table[[f"maven_{unit}" for unit in "ABCD"]].to_numpy()
    assert np.abs(found - truth).max() < 0.15
    assert np.abs((found - truth).mean(axis=0)).max() < 0.03
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"unit": "D", "requires": "C"}.items() <= summary["dependencies"][0].items()
    assert len(summary["dependencies"]) == 1
    assert summary["units"]["A"]["present"] == 1
    assert summary["model_map_correlation"] > 0.9
    groups = table.groupby("maven_class").volume.apply(list).tolist()
    states = pd.DataFrame(truth).groupby([2, 3]).indices.values()
    assert sorted(map(sorted, groups)) == sorted(sorted(7 + 3 * rows) for rows in states)
    for figure in ("clustermap", "histograms", "correlation", "masks"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 10_000


def test_header_origin_shifts_the_model(mixture, model, tmp_path):
    volumes, _ = mixture
    origin = (-48.0, -20.0, 12.0)
    shifted_grid = MapGrid(GRID.shape, PIXEL, origin)
    for file in list(volumes.iterdir())[:3]:
        write_on_grid(tmp_path / "v" / file.name, read_volume(file)[0], shifted_grid)
    assert open_ensemble(tmp_path / "v").grid.origin_A == origin
    atoms = units.units_of_model([model])
    here = units.draw_units(atoms, GRID, 10.0, "chimerax", None, 0, 0, tmp_path / "here")
    moved = atoms.assign(x_A=atoms.x_A + origin[0], y_A=atoms.y_A + origin[1], z_A=atoms.z_A + origin[2])
    there = units.draw_units(moved, shifted_grid, 10.0, "chimerax", None, 0, 0, tmp_path / "there")
    assert (here.masks != there.masks).nnz <= 2
    assert read_grid(tmp_path / "there" / "masks" / "Mask_balls_chainA.mrc").origin_A == origin
    centred = units.from_centre(
        atoms.assign(x_A=atoms.x_A - 48, y_A=atoms.y_A - 48, z_A=atoms.z_A - 48), GRID
    )
    np.testing.assert_allclose(centred[["x_A", "y_A", "z_A"]], atoms[["x_A", "y_A", "z_A"]])


def test_a_stack_of_volumes_gives_the_same_as_a_folder(mixture, tmp_path):
    import mrcfile

    folder = open_ensemble(mixture[0])
    volumes = np.concatenate([batch for _, batch in folder.batches("test")])
    with mrcfile.new(tmp_path / "stack.mrc") as mrc:
        mrc.set_data(volumes)
        mrc.voxel_size = PIXEL
    stack = open_ensemble(tmp_path / "stack.mrc")
    assert len(stack) == 40 and stack.grid == folder.grid
    np.testing.assert_array_equal(stack.mean(), folder.mean())


def test_masks_of_a_folder_are_units(mixture, model, tmp_path, run_script):
    volumes, truth = mixture
    units.draw_units(units.units_of_model([model]), GRID, 10.0, "chimerax", None, 0, 0, tmp_path)
    run_script("maven", "--volumes", volumes, "--masks", tmp_path / "masks", "-o", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "volumes.parquet")
    for unit, present in zip("CD", truth[:, 2:].T, strict=True):
        values = table[f"maven_{unit}"].to_numpy()
        assert values[present == 1].min() > values[present == 0].max() + 0.3


def test_percentile_scale_is_mavens(mixture, model, tmp_path, run_script):
    run_script(
        "maven", "--volumes", mixture[0], "--model", model, "--resolution", 10, "--scale", "percentile",
        "--classes", 2, "-o", tmp_path,
    )  # fmt: skip
    raw = pd.read_csv(tmp_path / "occupancies.csv", header=[0, 1], index_col=0).to_numpy()
    low, high = np.percentile(raw, [10, 90])
    table = pd.read_parquet(tmp_path / "volumes.parquet")
    np.testing.assert_allclose(table.iloc[:, 1:5], (np.clip(raw, low, high) - low) / (high - low))
    assert table.maven_class.nunique() == 2


def test_present_level_stretches_nothing():
    rng = np.random.default_rng(2)
    amplitudes = 5.0 * np.column_stack([np.ones(50), np.zeros(50), rng.uniform(size=50) < 0.3])
    amplitudes += rng.normal(0, 0.1, amplitudes.shape)
    gain = calibration.present_level(amplitudes, np.array([5.0, 1.0, 1.0]))
    assert gain.level == pytest.approx(5.0, rel=0.02)
    assert gain.spread == pytest.approx(0.02, rel=0.3)
    with pytest.raises(InputError, match="inverted"):
        calibration.present_level(-np.ones((5, 2)), np.ones(2))


def test_every_option_of_the_masks_counts(model, tmp_path):
    atoms = units.units_of_model([model])
    default = units.draw_units(atoms, GRID, 10.0, "chimerax", None, 0, 0, tmp_path).masks
    changes = {
        "resolution": (14.0, "chimerax", None, 0, 0),
        "mode": (10.0, "integrated", None, 0, 0),
        "threshold": (10.0, "chimerax", 0.05, 0, 0),
        "extend": (10.0, "chimerax", None, 1.5, 0),
        "soft edge": (10.0, "chimerax", None, 0, 3),
    }
    for name, options in changes.items():
        masks = units.draw_units(atoms, GRID, *options, tmp_path).masks
        assert (masks != default).nnz > 0, name
    for empty in ((9.0, 0), (None, -20)):
        with pytest.raises(InputError, match="all masks are empty"):
            units.draw_units(atoms, GRID, 10.0, "chimerax", *empty, 0, tmp_path)


def test_units_of_a_table(model, tmp_path):
    table = tmp_path / "units.csv"
    table.write_text("unit,chain,first,last\nhead,a,1,50\nhead,B,,\ntail,A,51,\n")
    atoms = units.units_of_model([model], table)
    assert atoms.groupby("unit").size().to_dict() == {"head": 200, "tail": 100}
    table.write_text("unit,chain\nhead,Q\n")
    with pytest.raises(InputError, match="line 2.*'head' matches no atom"):
        units.units_of_model([model], table)


def test_what_cannot_be_right_is_refused(mixture, model, tmp_path):
    far = write_model(tmp_path / "far.pdb", [(900, 900, 900)])
    with pytest.raises(InputError, match="outside the volumes.*--model-origin centre"):
        units.draw_units(units.units_of_model([far]), GRID, 10.0, "chimerax", None, 0, 0, tmp_path)
    with pytest.raises(InputError, match="no volumes found"):
        open_ensemble(tmp_path)
    with pytest.raises(InputError, match="no masks"):
        units.read_masks(tmp_path, GRID)
    import mrcfile

    with mrcfile.new(tmp_path / "vol_001.mrc") as mrc:
        mrc.set_data(np.zeros((8, 8, 8), np.float32))
        mrc.voxel_size = (4.0, 4.0, 5.0)
    with pytest.raises(InputError, match="not cubes"):
        open_ensemble(tmp_path)
    write_volume(tmp_path / "mixed" / "vol_1.mrc", np.zeros((8, 8, 8)), 4.0)
    write_volume(tmp_path / "mixed" / "vol_2.mrc", np.zeros((8, 8, 8)), 5.0)
    with pytest.raises(InputError, match="vol_2.mrc.*differ"):
        open_ensemble(tmp_path / "mixed")


def test_ward_groups_and_dependencies():
    rng = np.random.default_rng(0)
    rows = np.repeat([[0, 0], [1, 0], [1, 1]], 10, axis=0) + rng.normal(0, 0.05, (30, 2))
    tree = clustering.ward(rows)
    assert sorted(np.bincount(tree.groups)[1:]) == [10, 10, 10]
    assert (np.diff(tree.groups[tree.order]) >= 0).all()
    assert clustering.ward(np.ones((6, 3))).groups.max() == 1
    independent = rng.uniform(size=(200, 6)) < 0.5
    assert cooccurrence.dependencies(independent, list("abcdef")).empty


def test_ward_of_more_rows_than_leaves(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2], [300, 200, 100]))
    rows = np.array([[0, 0], [1, 0], [1, 1]])[truth] + rng.normal(0, 0.05, (600, 2))
    whole = clustering.ward(rows)
    monkeypatch.setattr(clustering, "MOST_LEAVES", 60)
    tree = clustering.ward(rows)
    assert tree.links.shape == (59, 4) and len(set(tree.order)) == 60
    assert (np.diff(tree.groups[tree.order]) >= 0).all()
    for found in (whole, tree):
        assert {len(set(found.groups[truth == kind])) for kind in range(3)} == {1} and found.groups.max() == 3
    assert clustering.ward(rows, 5).groups.max() == 5


def test_ward_of_few_rows_and_of_many_groups():
    two = clustering.ward(np.array([[0.0], [3.0]]))
    assert two.links.shape == (1, 4) and two.links[0, 2] == 3 and two.groups.max() == 1
    first, second, far = clustering.ward(np.array([[0.0], [0.1], [5.0]])).groups
    assert first == second != far
    pairs = np.repeat(np.arange(14.0) ** 2, 2)[:, None] + np.tile([0, 0.01], 14)[:, None]
    assert 2 <= clustering.ward(pairs).groups.max() <= clustering.MOST_GROUPS
