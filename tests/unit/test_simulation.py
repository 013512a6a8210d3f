"""The simulated specimen, its states, tilt series and configuration, and what a round is held against."""

from types import SimpleNamespace

import gemmi
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from tomohet.errors import InputError
from tomohet.files.mrc import write_volume
from tomohet.physics.molmap import read_model
from tomohet.simulation.assembly import build_assembly
from tomohet.simulation.assessment import RoundTruth, blocks_against_truth
from tomohet.simulation.config import DEFAULT_BLOCKS, Block, config_from, read_config
from tomohet.simulation.model_file import write_model
from tomohet.simulation.packing import fill, keep_apart
from tomohet.simulation.specimen import make_specimen
from tomohet.simulation.states import draw_states, state_table
from tomohet.simulation.tilt_series import (
    dose_symmetric_scheme,
    image_table,
    make_tomograms,
    place_particles,
)


@pytest.fixture(scope="module")
def assembly():
    return build_assembly(DEFAULT_BLOCKS, 3000, 250.0, np.random.default_rng(3))


def test_keep_apart_equals_accepting_one_after_another():
    points = np.random.default_rng(0).uniform(0, 1, (400, 3))
    accepted = []
    for i, point in enumerate(points):
        if all(np.linalg.norm(point - points[j]) > 0.12 for j in accepted):
            accepted.append(i)
    np.testing.assert_array_equal(keep_apart(points, 0.12), accepted)


def test_fill_spreads_points_evenly_without_a_lattice():
    points, volume = fill(
        lambda p: (p**2).sum(axis=1) < 1, np.full(3, -1.0), np.ones(3), 800, np.random.default_rng(0)
    )
    assert points.shape == (800, 3)
    assert volume == pytest.approx(4 / 3 * np.pi, rel=0.02)
    nearest = cKDTree(points).query(points, k=2)[0][:, 1] / (volume / 800) ** (1 / 3)
    assert nearest.min() > 0.6
    # On a lattice all neighbours would be equally far.
    assert 0.02 < nearest.std() < 0.12


def test_assembly_has_the_masses_and_the_size_asked_for(assembly):
    mass = assembly.atoms.groupby("unit").Z.sum() / assembly.atoms.Z.sum()
    for block in DEFAULT_BLOCKS:
        assert mass[block.name] == pytest.approx(block.mass, abs=0.004)
    swept = [assembly.hinge.turned(assembly.xyz_A("S5"), a) for a in (-30, 0, 30)]
    everything = np.concatenate([assembly.xyz_A(unit) for unit in assembly.units] + swept)
    assert 2 * np.linalg.norm(everything, axis=1).max() == pytest.approx(250, rel=0.01)


def test_blocks_touch_their_host_and_nothing_else(assembly):
    gap = {
        (a, b): cKDTree(assembly.xyz_A(a)).query(assembly.xyz_A(b))[0].min()
        for a in assembly.units
        for b in assembly.units
        if a < b
    }
    within = np.median(cKDTree(assembly.xyz_A("core")).query(assembly.xyz_A("core"), k=2)[0][:, 1])
    assert min(gap.values()) > 0.8 * within
    touching = {frozenset(pair) for pair, distance in gap.items() if distance < 1.6 * within}
    assert touching == {
        frozenset(pair)
        for pair in (("S1", "core"), ("S1", "S2"), ("S3", "core"), ("S4", "core"), ("S5", "core"))
    }


def test_moving_block_keeps_clear_of_the_rest_and_swings_far(assembly):
    rest = cKDTree(np.concatenate([assembly.xyz_A(unit) for unit in assembly.units if unit != "S5"]))
    arm = assembly.xyz_A("S5")
    ends = [assembly.hinge.turned(arm, angle) for angle in (-30.0, 30.0)]
    for end in ends:
        assert np.mean(rest.query(end)[0] < 3.0) < 0.02
        # A rigid rotation keeps all distances.
        np.testing.assert_allclose(
            np.linalg.norm(end[:50] - end[50:100], axis=1), np.linalg.norm(arm[:50] - arm[50:100], axis=1)
        )
    assert np.linalg.norm(ends[0] - ends[1], axis=1).max() > 30.0


def test_assembly_depends_on_the_seed_alone():
    one, same, other = (
        build_assembly(DEFAULT_BLOCKS, 1000, 250.0, np.random.default_rng(seed)).atoms for seed in (5, 5, 6)
    )
    assert one.equals(same)
    assert not one.equals(other)


def test_model_file_gives_back_the_atoms_with_one_chain_per_unit(assembly, tmp_path):
    write_model(tmp_path / "model.cif", assembly.atoms, 100.0)
    atoms = read_model(tmp_path / "model.cif")
    assert list(atoms.unit.unique()) == ["core", "S1", "S2", "S3", "S4", "S5"]
    xyz = ["x_A", "y_A", "z_A"]
    np.testing.assert_allclose(atoms[xyz].to_numpy(), assembly.atoms[xyz].to_numpy() + 100, atol=1e-3)
    np.testing.assert_array_equal(atoms.Z, assembly.atoms.Z)
    assert len(gemmi.read_structure(str(tmp_path / "model.cif"))[0]) == 6


def test_block_maps_hold_the_mass_of_their_atoms_and_add_up():
    config = config_from({"n_atoms": 1500, "box": 32, "pixel_size": 12})
    specimen = make_specimen(config, np.random.default_rng(1))
    for name, volume in zip(specimen.names, specimen.blocks, strict=True):
        expected = specimen.atoms.Z[specimen.atoms.unit == name].sum()
        assert volume.sum() * 12**3 == pytest.approx(expected, rel=1e-3)
    assert (specimen.core + specimen.blocks.sum(axis=0)).sum() * 12**3 == pytest.approx(
        specimen.atoms.Z.sum(), rel=1e-3
    )
    masks = specimen.masks()
    assert masks.any(axis=(1, 2, 3)).all()
    overlap = masks.reshape(5, -1).astype(int) @ masks.reshape(5, -1).T.astype(int)
    assert (overlap - np.diag(np.diag(overlap))).max() < 0.3 * np.diag(overlap).min()


def test_frequencies_of_blocks_and_the_nested_rule():
    config = config_from({"n_atoms": 500})
    specimen = make_specimen(config, np.random.default_rng(0))
    states = draw_states(specimen, 20000, np.random.default_rng(1))
    s1, s2, s3, s4, s5 = states.presence.T
    assert s1.mean() == pytest.approx(0.6, abs=0.02)
    assert s2[s1].mean() == pytest.approx(0.5, abs=0.02)
    assert not s2[~s1].any()
    assert s3.mean() > 0.85 and s4.mean() < 0.15 and s5.all()
    # Blocks that are not nested are independent of each other and of the angle.
    correlation = np.corrcoef([s1, s3, s4, states.angle_deg])
    assert np.abs(correlation - np.eye(4)).max() < 0.03
    assert np.abs(states.angle_deg).max() <= 30
    assert states.angle_deg.std() == pytest.approx(30 / np.sqrt(3), rel=0.02)


def test_state_table_counts_every_particle_once():
    presence = np.random.default_rng(0).random((200, 3)) < 0.4
    combinations, state = state_table(presence)
    np.testing.assert_array_equal(combinations[state], presence)
    assert (np.diff(np.bincount(state)) <= 0).all()


def test_dose_symmetric_scheme_is_that_of_hagen():
    np.testing.assert_allclose(dose_symmetric_scheme(9, 3), [0, 3, -3, -6, 6, 9, -9])
    assert len(dose_symmetric_scheme(60, 3)) == 41


def test_tilt_series_have_one_scheme_and_the_defocus_of_each_particles_height():
    config = config_from({"n_particles": 60, "n_tomograms": 3, "hidden_fraction": 0.2})
    tomograms = make_tomograms(config, np.random.default_rng(0))
    particles = place_particles(config, 12.0, 250.0, np.random.default_rng(1))
    for tomogram in tomograms:
        np.testing.assert_array_equal(tomogram.dose_e_A2, tomograms[0].dose_e_A2)
        assert tomogram.visible[np.argmin(np.abs(tomogram.tilt_deg))]
        assert np.argmin(tomogram.dose_e_A2) == np.argmin(np.abs(tomogram.tilt_deg))
        # The angle between the tomogram's normal and the beam is the stage tilt.
        np.testing.assert_allclose(
            tomogram.rotation[:, 2, 2], np.cos(np.deg2rad(tomogram.tilt_deg)), atol=1e-8
        )
        np.testing.assert_allclose(
            tomogram.rotation @ tomogram.rotation.transpose(0, 2, 1),
            np.tile(np.eye(3), (21, 1, 1)),
            atol=1e-8,
        )
    members = np.flatnonzero(particles.tomogram == 1)
    images = image_table(tomograms[1], particles, members, config, 12.0)
    flat = images[images.tilt_deg == 0]
    height = particles.position_A[members, 2] - 900.0
    np.testing.assert_allclose(
        flat.defocus_u_A - tomograms[1].defocus_u_A[tomograms[1].tilt_deg == 0], height, atol=1e-6
    )


def test_particles_are_apart_inside_the_tomogram_and_interleaved():
    config = config_from({"n_particles": 400, "n_tomograms": 4})
    particles = place_particles(config, 12.0, 250.0, np.random.default_rng(1))
    np.testing.assert_array_equal(np.bincount(particles.tomogram), [100] * 4)
    assert (np.diff(particles.tomogram) != 0).mean() > 0.6
    for i in range(4):
        position = particles.position_A[particles.tomogram == i]
        assert cKDTree(position).query(position, k=2)[0][:, 1].min() >= 250 - 0.01
        assert (position > 0).all() and (position < [6000, 6000, 1800]).all()
        np.testing.assert_array_equal(particles.number[particles.tomogram == i], np.arange(1, 101))


def test_states_do_not_depend_on_the_tilt_series():
    config = config_from({"n_particles": 3000, "n_tomograms": 3, "n_atoms": 300})
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(0).spawn(4)]
    specimen = make_specimen(config, streams[0])
    presence = draw_states(specimen, 3000, streams[1]).presence[:, :4].astype(float)
    particles = place_particles(config, 12.0, 250.0, streams[2])
    nuisance = np.column_stack(
        [np.eye(3)[particles.tomogram], particles.position_A, particles.euler_deg, particles.origin_px]
    )
    z = [(x - x.mean(0)) / x.std(0) for x in (presence, nuisance)]
    assert np.abs(z[0].T @ z[1] / 3000).max() < 0.08


def test_chains_of_a_model_become_blocks(tmp_path):
    source = build_assembly(DEFAULT_BLOCKS, 400, 200.0, np.random.default_rng(0))
    write_model(tmp_path / "model.cif", source.atoms, 30.0)
    config = config_from(
        {"model": str(tmp_path / "model.cif"), "blocks": [{"name": "S2", "frequency": 0.3, "hinge_deg": 20}]}
    )
    specimen = make_specimen(config, np.random.default_rng(0))
    assert specimen.names == ["S2"] and specimen.moving == 0
    assert (specimen.atoms.unit == "core").sum() == (source.atoms.unit != "S2").sum()
    specimen = make_specimen(config_from({"model": str(tmp_path / "model.cif")}), np.random.default_rng(0))
    assert specimen.names == ["S1", "S2", "S3", "S4", "S5"]
    with pytest.raises(InputError, match="Q is not a chain of the model"):
        make_specimen(
            config_from({"model": str(tmp_path / "model.cif"), "blocks": [{"name": "Q"}]}),
            np.random.default_rng(0),
        )


def test_given_maps_exclude_one_another(tmp_path):
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{name}.mrc") for name in "ab"]
    for path in paths:
        write_volume(path, rng.normal(size=(16, 16, 16)), 10.0)
    specimen = make_specimen(config_from({"maps": paths, "map_frequencies": [3, 1]}), rng)
    states = draw_states(specimen, 4000, rng)
    assert (states.presence.sum(axis=1) == 1).all()
    assert states.presence[:, 0].mean() == pytest.approx(0.75, abs=0.03)
    with pytest.raises(InputError, match="box is 32, but the maps have 16"):
        make_specimen(config_from({"maps": paths, "box": 32}), rng)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_particle": 3}, "unknown key `n_particle`; did you mean `n_particles`"),
        ({"snr": "much"}, "snr: expected a number, found 'much'"),
        ({"snr": 0}, "snr: expected above 0, found 0"),
        ({"box": 33}, "an even number"),
        ({"n_particles": 2.5}, "n_particles: expected a whole number, found 2.5"),
        ({"dialect": "relion"}, "'warp', 'warptools' or 'both'"),
        ({"blocks": [{"name": "S1", "host": "S2"}]}, "a block listed before it"),
        ({"blocks": [{"name": "S1", "freqency": 0.2}]}, "did you mean `frequency`"),
        (
            {"blocks": [{"name": "S1", "frequency": 1.2}]},
            "blocks: 0: frequency: expected at most 1, found 1.2",
        ),
        ({"blocks": [{"name": "a", "hinge_deg": 9}, {"name": "b", "hinge_deg": 9}]}, "at most one block"),
        ({"n_tomograms": 900}, "between 1 and n_particles"),
        ({"model": "a.cif", "maps": ["a.mrc"]}, "no maps when a model is given"),
    ],
)
def test_wrong_configuration_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        config_from(values)


def test_configuration_file_and_options(tmp_path):
    (tmp_path / "simulate.yaml").write_text("snr: .inf\nbox: 48\nblocks:\n  - {name: S9, mass: 0.1}\n")
    config = read_config(tmp_path / "simulate.yaml", {"box": 24, "seed": None})
    assert (config.box, config.snr, config.seed) == (24, np.inf, 0)
    assert config.blocks == (Block("S9", mass=0.1),)
    assert config_from(config.plain()) == config
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "none.yaml", {})


def test_too_many_particles_or_too_large_an_assembly_are_refused():
    with pytest.raises(InputError, match="do not fit into a tomogram"):
        place_particles(
            config_from({"n_particles": 9000, "n_tomograms": 1}), 12.0, 250.0, np.random.default_rng(0)
        )
    with pytest.raises(InputError, match="enlarge box or pixel_size"):
        make_specimen(config_from({"diameter_A": 400, "n_atoms": 300}), np.random.default_rng(0))


def test_each_true_block_is_held_against_the_found_one_that_follows_it_best():
    presence = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1]])
    truth = SimpleNamespace(presence=presence, block_names=np.array(["A", "B", "C", "core"]))
    table = pd.DataFrame(
        {
            "siren_1": [0.9, 0.8, 0.1, 0.7],
            "siren_2": [1.0, 0.2, 0.0, np.nan],
            "siren_colour": ["red", "red", "red", "red"],
        }
    )
    found = blocks_against_truth(RoundTruth(truth, np.arange(4)), table)
    assert found == {
        "A": {"block": "siren_1", "auc": 1.0},
        "B": {"block": "siren_2", "auc": pytest.approx(5 / 6)},
        "C": {"block": "siren_1", "auc": 1.0},
    }
    assert blocks_against_truth(RoundTruth(truth, np.arange(4)), table[["siren_colour"]]) == {}
