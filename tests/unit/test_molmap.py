"""Densities of atomic models: against ChimeraX's, a direct sum over atoms, and conservation laws."""

import numpy as np
import pytest

from tomohet.errors import InputError
from tomohet.files.mrc import read_volume
from tomohet.physics.molmap import gaussian_sigma_A, molmap, read_model, resample, sampled_density

PDB_LINE = (
    "ATOM  {serial:5d}  CA {alt}ALA {chain}{residue:4d}    "
    "{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {e}\n"
)


def write_pdb(path, atoms):
    lines = [
        PDB_LINE.format(serial=n + 1, alt=alt, chain=chain, residue=residue, x=x, y=y, z=z, e=element)
        for n, (chain, residue, alt, element, x, y, z) in enumerate(atoms)
    ]
    path.write_text("".join(lines) + "END\n")
    return path


@pytest.fixture
def atoms():
    rng = np.random.default_rng(3)
    return rng.normal(60.0, 12.0, (200, 3)), rng.integers(6, 17, 200).astype(float)


@pytest.mark.parametrize("chain", "ABDJKM")
def test_chain_density_equals_chimerax(shared, chain):
    example = shared / "data" / "maven-example"
    model = read_model(example / "model" / "prots1.pdb")
    part = model[model.unit == chain]
    found = molmap(part[["x_A", "y_A", "z_A"]].to_numpy(), part.Z.to_numpy(), 10.0, 64, 6.55)
    expected, _ = read_volume(example / "expected" / f"density_chain_{chain.lower()}.mrc")
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.9999999
    assert np.abs(found - expected).max() <= 1e-5 * expected.max()


def test_a_gaussian_has_fallen_to_1_of_e_at_the_resolution():
    """The transform of a Gaussian of standard deviation s is exp(-2 (pi s f)^2)."""
    sigma_A = gaussian_sigma_A(12.0)
    assert np.exp(-2 * (np.pi * sigma_A / 12.0) ** 2) == pytest.approx(np.exp(-1))


def test_own_grid_equals_a_direct_sum_over_atoms(atoms):
    xyz, weights = atoms
    grid, origin, step = sampled_density(xyz, weights, 12.0)
    sigma, reach = gaussian_sigma_A(12.0), 5 * gaussian_sigma_A(12.0)
    expected = np.zeros(grid.shape)
    axes = [origin[axis] + step * np.arange(grid.shape[2 - axis]) for axis in range(3)]
    for position, weight in zip(xyz, weights, strict=True):
        x, y, z = (
            np.where(np.abs(axis - centre) <= reach, np.exp(-((axis - centre) ** 2) / (2 * sigma**2)), 0)
            for axis, centre in zip(axes, position, strict=True)
        )
        expected += weight * z[:, None, None] * y[None, :, None] * x[None, None, :]
    expected *= (2 * np.pi) ** -1.5 * sigma**-3
    np.testing.assert_allclose(grid, expected, rtol=1e-5, atol=1e-7 * expected.max())


def test_integrated_density_conserves_weight_on_any_grid(atoms):
    xyz, weights = atoms
    for pixel_size in (1.7, 4.0, 11.3):
        box = int(130 / pixel_size)
        density = molmap(xyz, weights, 8.0, box, pixel_size, mode="integrated")
        assert density.sum(dtype=float) * pixel_size**3 == pytest.approx(weights.sum(), rel=1e-5)


def test_both_modes_agree_on_a_fine_grid(atoms):
    xyz, weights = atoms
    fine = [molmap(xyz, weights, 15.0, 60, 2.0, mode=mode) for mode in ("chimerax", "integrated")]
    assert np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1] > 0.99
    assert fine[0].sum() * 8 == pytest.approx(weights.sum(), rel=1e-3)


@pytest.mark.parametrize("mode", ["chimerax", "integrated"])
def test_origin_moves_the_grid(atoms, mode):
    xyz, weights = atoms
    origin = np.array([-24.0, 8.0, 40.0])
    here = molmap(xyz, weights, 10.0, 32, 4.0, mode=mode)
    there = molmap(xyz + origin, weights, 10.0, 32, 4.0, origin_A=origin, mode=mode)
    np.testing.assert_allclose(there, here, atol=1e-5 * here.max())


def test_interpolation_is_exact_for_a_linear_field_and_zero_outside():
    z, y, x = np.mgrid[:6, :7, :8].astype(float)
    found = resample(1 + x + 10 * y + 100 * z, np.array([2.0, 0.0, -1.0]), 2.0, 20, 1.0, np.zeros(3))
    assert found[4, 6, 5] == pytest.approx(1 + 1.5 + 10 * 3 + 100 * 2.5)
    assert found[4, 6, 1] == 0 and found[4, 13, 5] == 0 and found[10, 6, 5] == 0
    assert found[4, 12, 16] > 0  # the last sample counts as inside


def test_atoms_outside_the_box_give_nothing(atoms):
    xyz, weights = atoms
    for mode in ("chimerax", "integrated"):
        assert not molmap(xyz + 5000, weights, 10.0, 16, 4.0, mode=mode).any()


def test_reading_keeps_the_first_location_and_tells_files_apart(tmp_path):
    first = write_pdb(
        tmp_path / "one.pdb",
        [("A", 1, "A", "C", 1, 2, 3), ("A", 1, "B", "C", 9, 9, 9), ("B", 4, " ", "N", 5, 6, 7)],
    )
    second = write_pdb(tmp_path / "two.pdb", [("A", 7, " ", "O", 8, 8, 8)])
    alone = read_model(first)
    assert list(alone.unit) == ["A", "B"] and list(alone.Z) == [6, 7]
    assert alone.loc[0, ["x_A", "y_A", "z_A"]].tolist() == [1, 2, 3]
    assert list(read_model([first, second]).unit) == ["one_A", "B", "two_A"]


def test_mmcif_and_pdb_give_the_same_atoms(tmp_path):
    import gemmi

    pdb = write_pdb(tmp_path / "m.pdb", [("A", 1, " ", "C", 1, 2, 3), ("B", 2, " ", "P", 4, 5, 6)])
    gemmi.read_structure(str(pdb)).make_mmcif_document().write_file(str(tmp_path / "m.cif"))
    columns = ["unit", "chain", "residue", "x_A", "y_A", "z_A", "Z"]
    assert read_model(pdb)[columns].equals(read_model(tmp_path / "m.cif")[columns])


def test_atoms_far_apart_along_one_axis_are_refused(tmp_path):
    far = write_pdb(tmp_path / "far.pdb", [("A", 1, " ", "C", 0, 2, 3), ("A", 2, " ", "C", 0, 2, 9990)])
    assert len(read_model(far)) == 2
    far.write_text(far.read_text().replace("9990.000", "-1.200e4"))
    with pytest.raises(InputError, match="lie up to 1.2e"):
        read_model(far)


def test_unusable_models_are_refused(tmp_path):
    (tmp_path / "text.pdb").write_text("not a model\n")
    (tmp_path / "broken.cif").write_text("loop_ nonsense {\n")
    for name, message in (
        ("none.pdb", "not found"),
        ("text.pdb", "no atoms"),
        ("broken.cif", "not readable"),
    ):
        with pytest.raises(InputError, match=message):
            read_model(tmp_path / name)
    with pytest.raises(InputError, match="unknown"):
        molmap(np.zeros((1, 3)), np.ones(1), 10.0, 8, 2.0, mode="fast")
    with pytest.raises(InputError, match="positive"):
        molmap(np.zeros((1, 3)), np.ones(1), 0.0, 8, 2.0)
