"""Occupancies of every particle and the results from them: scale, classes, order of assembly, scripts."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tomohet.analysis import cooccurrence
from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven import calibration, chimerax, particles, units
from tomohet.analysis.maven.analysis import analyse
from tomohet.analysis.maven.assembly import assembly_of
from tomohet.analysis.maven.masks import in_pixels
from tomohet.analysis.maven.particles import nearest_class
from tomohet.errors import InputError
from tomohet.files.atomic import write_pickle
from tomohet.files.grids import read_grid, write_on_grid
from tomohet.files.pickles import load_latents
from tomohet.model.mask_sums import MaskSums
from tomohet.physics.molmap import read_model

ATOM = "{record:6s}{n:5d} {name:4s} {residue:3s} {chain}{number:4d}    {x:8.3f}{x:8.3f}{x:8.3f}  1.00  0.00          {e:>2s}\n"  # noqa: E501


@pytest.fixture(scope="module")
def decoded(tiny_linear, tmp_path_factory, run_script):
    """Volumes of ten particles of a linear model, and three ball masks in their grid: (volumes, masks, z)."""
    folder = tmp_path_factory.mktemp("decoded")
    z, _ = load_latents(tiny_linear / "z.train.pkl")
    write_pickle(folder / "z.pkl", z[:10])
    run_script(
        "eval_vol", "--workdir", tiny_linear, "--epoch", -1, "--zfile", folder / "z.pkl",
        "-o", folder / "volumes", "--downsample", 16,
    )  # fmt: skip
    grid = read_grid(folder / "volumes" / "vol_000.mrc")
    voxels = np.indices(grid.shape) - grid.box // 2
    for name, centre in {"near": (0, 0, 0), "left": (0, -3, 0), "top": (3, 0, 2)}.items():
        ball = np.linalg.norm(voxels - np.reshape(centre, (3, 1, 1, 1)), axis=0) < 2.5
        write_on_grid(folder / "masks" / f"Mask_x_chain{name}.mrc", ball.astype(np.float32), grid)
    return folder / "volumes", folder / "masks", z


def test_a_particles_occupancy_is_that_of_its_own_volume(decoded, tiny_linear, tmp_path, run_script):
    volumes, masks, z = decoded
    run_script(
        "maven", "--volumes", volumes, "--masks", masks, "--workdir", tiny_linear, "--epoch", -1,
        "--downsample", 16, "-o", tmp_path,
    )  # fmt: skip
    by_particle = pd.read_parquet(tmp_path / "particles.parquet")
    by_volume = pd.read_parquet(tmp_path / "volumes.parquet")
    assert len(by_particle) == len(z) and by_particle.particle.is_monotonic_increasing
    columns = ["maven_near", "maven_left", "maven_top"]
    np.testing.assert_allclose(by_particle[columns][:10], by_volume[columns], atol=1e-4)
    assert set(by_particle.maven_class) <= set(by_volume.maven_class)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["n_particles"] == len(z) == sum(summary["particles_of_class"].values())
    tidy = pd.read_parquet(tmp_path / "occupancies.parquet")
    wide = pd.read_csv(tmp_path / "occupancies.csv", header=[0, 1], index_col=0)
    back = tidy.pivot(index="volume", columns="unit", values="maven")
    np.testing.assert_allclose(back.to_numpy(), wide["masks"][back.columns].to_numpy(), rtol=1e-6)
    groups = by_volume.maven_class.to_numpy()
    mean = open_ensemble(volumes).group_means(groups)
    first = np.mean([v for _, b in open_ensemble(volumes).batches("t") for v in b[groups == 1]], axis=0)
    np.testing.assert_allclose(mean[0], first, atol=1e-6)


def test_volumes_beyond_the_listed_latents_are_refused(decoded, tiny_linear, tmp_path, run_script):
    volumes, masks, _ = decoded
    shutil.copytree(volumes, tmp_path / "volumes")
    latents = tmp_path / "volumes" / "z_values.txt"
    latents.write_text("".join(latents.read_text().splitlines(keepends=True)[:9]))
    done = run_script(
        "maven", "--volumes", tmp_path / "volumes", "--masks", masks, "--workdir", tiny_linear,
        "--epoch", -1, "--downsample", 16, "-o", tmp_path / "maven", check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "volumes up to 9: the volumes are not of this model" in done.stderr


def test_the_reported_error_is_that_of_the_worst_unit(monkeypatch):
    """As a fraction of a present unit's density, whichever unit it is, without the solvent's."""
    mass, error = np.array([4.0, 2.0, 8.0]), np.array([0.02, 0.03, 0.04, 9.0])
    masks = sparse.csr_matrix(np.eye(3, 8, dtype=np.float32))
    table = pd.DataFrame({"unit": list("abc"), "mass": mass})
    three = units.Units(table, masks, masks.multiply(mass[:, None]).tocsr())
    sums = np.arange(8.0).reshape(2, 4)
    monkeypatch.setattr(particles, "check_same_model", lambda *_: None)
    monkeypatch.setattr(particles, "mask_sums", lambda *_: MaskSums(sums, 1, 1, error))
    maps = particles.ParticleMaps(None, np.zeros((2, 1)), np.arange(2), None)
    found, how = particles.of_particles(maps, None, None, three, np.ones((2, 2, 2)), 0.5, 0)
    assert how["worst_rms_error"] == pytest.approx(0.03 / (0.5 * 2))
    np.testing.assert_array_equal(found.sums, sums[:, :3])
    np.testing.assert_array_equal(found.background, sums[:, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--downsample", 16, "--invert"], "other --downsample, --lowpass, --flip or --invert"),
        ([], "give the --downsample"),
        (["--downsample", 16, "--binarise", "auto"], "omit --workdir"),
    ],
)
def test_volumes_of_another_model_are_refused(decoded, tiny_linear, tmp_path, run_script, options, message):
    volumes, masks, _ = decoded
    done = run_script(
        "maven", "--volumes", volumes, "--masks", masks, "--workdir", tiny_linear, "--epoch", -1,
        "-o", tmp_path, *options, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_binarised_occupancy_counts_voxels(decoded, tmp_path, run_script):
    volumes, masks, _ = decoded
    run_script("maven", "--volumes", volumes, "--masks", masks, "--binarise", "0.0", "-o", tmp_path)
    ensemble = open_ensemble(volumes)
    maps = np.concatenate([batch for _, batch in ensemble.batches("test")])
    found = units.read_masks(masks, ensemble.grid)
    expected = (maps >= 0).reshape(10, -1).astype(float) @ found.masks.toarray().T
    counts = pd.read_csv(tmp_path / "occupancies.csv", header=[0, 1], index_col=0).to_numpy()
    np.testing.assert_array_equal(counts, expected)
    shares = pd.read_parquet(tmp_path / "volumes.parquet")[[f"maven_{c}" for c in found.table.column]]
    np.testing.assert_allclose(shares, expected / np.asarray(found.masks.sum(axis=1)).ravel())


def amplitudes(seed=0, n=600):
    """Four units at level 20: always there, in half at .15/.8 of the level, in a tenth, and a sliding one."""
    rng = np.random.default_rng(seed)
    there = np.column_stack([np.ones(n), rng.uniform(size=n) < 0.5, rng.uniform(size=n) < 0.1, np.ones(n)])
    values = np.where(there, [1.0, 0.8, 0.9, 0.0], [0, 0.15, 0.02, 0.0])
    values[:, 3] = rng.uniform(0.1, 0.95, n)
    return 20 * (values + rng.normal(0, 0.05, values.shape)), there.astype(bool)


def test_modes_are_stretched_to_absent_and_present():
    values, there = amplitudes()
    found = calibration.calibrate(values, np.array([20.0, 2, 2, 2]), "modes")
    occupancy = found(values)
    for unit in (1, 2):
        assert occupancy[there[:, unit], unit].mean() == pytest.approx(1, abs=0.02)
        assert occupancy[~there[:, unit], unit].mean() == pytest.approx(0, abs=0.02)
        cut = found.modes.cut[unit]
        assert ((occupancy[:, unit] > cut) == there[:, unit]).mean() > 0.99
        assert found.modes.confused[unit] < 0.01
    # What slides has no two modes, and what is always there stays what it is.
    assert np.isnan(found.modes.low_mode[0]) and occupancy[:, 0].mean() == pytest.approx(1, abs=0.02)
    assert occupancy[:, 3].min() < 0.2 and occupancy[:, 3].mean() == pytest.approx(0.525, abs=0.05)
    spread = np.std(
        [calibration.calibrate(amplitudes(seed)[0], np.array([20.0, 2, 2, 2]), "modes").modes.high_mode[1]
         for seed in range(12)]
    )  # fmt: skip
    assert found.modes.high_se[1] == pytest.approx(spread, rel=0.8)  # its standard error is one


def test_scales_that_stretch_nothing():
    values, _ = amplitudes()
    mass = np.array([20.0, 2, 2, 2])
    np.testing.assert_array_equal(calibration.calibrate(values, mass, "none")(values), values)
    low, high = np.percentile(values, [10, 90])
    expected = (np.clip(values, low, high) - low) / (high - low)
    np.testing.assert_allclose(
        calibration.calibrate(values, mass, "percentile")(values), expected, atol=1e-12
    )
    with pytest.raises(InputError, match="cannot be scaled"):
        calibration.calibrate(np.ones((5, 2)), np.ones(2), "percentile")


def test_a_chain_of_needs_is_reduced_to_its_steps():
    rng = np.random.default_rng(0)
    n = 400
    a = rng.uniform(size=n) < 0.8
    b = a & (rng.uniform(size=n) < 0.7)
    c = b & (rng.uniform(size=n) < 0.6)
    present = np.column_stack([a, b, c, c, rng.uniform(size=n) < 0.5])
    required = cooccurrence.dependencies(present, list("abcde"))
    pairs = set(zip(required.unit, required.requires, strict=True))
    assert {("b", "a"), ("c", "b"), ("c", "a"), ("c", "d"), ("d", "c")} <= pairs
    assert not any("e" in pair for pair in pairs)
    assert (required.confidence > 0.95).all()
    found = assembly_of(required)
    assert found.groups == (("a",), ("b",), ("c", "d"))
    assert [(x, y) for x, y, _ in found.needs] == [(1, 0), (2, 1)]  # that c needs a follows
    assert assembly_of(required.iloc[:0]).groups == ()


def test_confidence_falls_with_exceptions_and_few_cases():
    def confidence(n, exceptions):
        first = np.arange(4 * n) < n
        second = first.copy()
        second[:exceptions] = False
        second[n : 2 * n] = True
        table = cooccurrence.dependencies(np.column_stack([first, second]), ["f", "s"])
        return table.set_index("unit").confidence["f"]

    assert confidence(400, 0) > confidence(40, 0) > 0.8
    assert confidence(400, 0) > confidence(400, 16) > confidence(400, 20)


def test_particles_calibrate_and_are_classified():
    values, _there = amplitudes()
    volumes = values[:60]
    found = analyse(volumes, values, list("abcd"), np.array([20.0, 2, 2, 2]), "modes", classes=2)
    assert found.particles.shape == values.shape and found.observed is found.particles
    np.testing.assert_array_equal(found.particles[:60], found.volumes)
    assert (found.particle_classes[:60] == found.volume_tree.groups).mean() > 0.9
    alone = analyse(volumes, None, list("abcd"), np.array([20.0, 2, 2, 2]), "modes")
    assert alone.particle_classes is None and alone.observed is alone.volumes
    centres = np.array([[0.0, 0.0], [0.0, 0.2], [1.0, 1.0]])
    assert nearest_class(np.array([[0.1, 0.0], [0.9, 2.0]]), centres, np.array([1, 1, 2])).tolist() == [1, 2]


def test_lengths_in_pixels_or_angstroms():
    assert [in_pixels(text, 4.0) for text in (3, "3", "3px", "10A", "-8 Å")] == [3, 3, 3, 2.5, -2]
    for text in ("3 nm", "", "A"):
        with pytest.raises(InputError, match="expected pixels"):
            in_pixels(text, 4.0)


@pytest.fixture
def model(tmp_path):
    """Chain A: residues 1-8 of one carbon each, two hydrogens, one water; chain B: residues 1-4."""
    lines = []
    for chain, count in (("A", 8), ("B", 4)):
        for n in range(1, count + 1):
            place = {"residue": "ALA", "chain": chain, "number": n, "x": 3.0 * n, "record": "ATOM"}
            lines.append(ATOM.format(n=n, name=" CA ", e="C", **place))
            if chain == "A" and n < 3:
                lines.append(ATOM.format(n=50 + n, name=" HA ", e="H", **place))
    lines.append(
        ATOM.format(record="HETATM", n=60, name=" O  ", residue="HOH", chain="A", number=99, x=5.0, e="O")
    )
    path = tmp_path / "m.pdb"
    path.write_text("".join(lines) + "END\n")
    return path


def test_hydrogens_and_waters_can_be_left_out(model):
    counts = [
        len(read_model(model, *options)) for options in ((), (False, True), (True, False), (False, False))
    ]
    assert counts == [15, 13, 14, 12]


def test_units_of_several_pieces_with_threshold_and_colour(model, tmp_path):
    table = tmp_path / "units.csv"
    table.write_text(
        'unit,chain,residues,first,threshold,colour\nh1,A,"1-2,7-8",,0.002,orange\nh1,B,,4,,\nrest,a,3-6,,,\n'
    )
    atoms = units.units_of_model([model], table, hydrogens=False, waters=False)
    assert atoms.groupby("unit").size().to_dict() == {"h1": 5, "rest": 4}
    assert atoms[atoms.unit == "h1"].threshold.dropna().unique().tolist() == [0.002]
    grid = units.MapGrid((16,) * 3, 3.0, (-6.0, -6.0, -6.0))
    drawn = units.draw_units(atoms, grid, 9.0, "chimerax", 0.02, 0, 0, tmp_path)
    densities = drawn.densities.toarray()
    assert drawn.table.voxels.tolist() == [(densities[0] >= 0.002).sum(), (densities[1] >= 0.02).sum()]
    assert drawn.table.colour[0] == "#ffa500" and pd.isna(drawn.table.colour[1])
    script = chimerax.model_script([model], atoms, {"h1": "#ffa500", "rest": "#112233"}, tmp_path)
    assert "color #1/A:1-2,7-8 #ffa500" in script and "color #1/B:4 #ffa500" not in script
    assert "color #1/B #ffa500" in script  # all of chain B that has a unit
    assert "color #1/A:3-6 #112233" in script and 'open "m.pdb"' in script
    for line, message in (
        ("x,A,1-b,,,", "expected ranges"),
        ("x,A,,one,,", "not a residue number"),
        ("x,A,,,thick,", "not a number"),
        ("x,A,,,,reddish", "expected a name such as orange"),
        (",A,,,,", "no unit is named"),
    ):
        table.write_text(f"unit,chain,residues,first,threshold,colour\n{line}\n")
        with pytest.raises(InputError, match=f"line 2.*{message}"):
            units.units_of_model([model], table)
