"""The numbers of a round that the report shows first."""

from collections import defaultdict
from types import SimpleNamespace

from tomohet.report.round_section import tiles


def shown(linear):
    """Tiles by label, of a round with this summary of its linear model and nothing else."""
    summaries = defaultdict(dict, linear=linear)
    round_ = SimpleNamespace(
        n_particles=None, summaries=summaries, fsc=None, blocks=None, occupancies=None, parent=None
    )
    return {tile["label"]: tile for tile in tiles(round_)}


def test_errors_along_one_direction_and_shifts_of_tilts():
    errors = {"rotation_deg": 1.9, "shift_A": 2.0, "share_of_one_direction": 0.89, "one_direction": True}
    found = shown({"pose_errors": errors, "tilt_shift_A": 3.8})
    assert found["Pose errors"]["value"] == "1.9°, 2.0 Å"
    assert "89 % of their variance along one direction" in found["Pose errors"]["note"]
    assert found["Tilt image shifts"]["value"] == "3.8 Å"


def test_nothing_is_said_of_what_was_not_found():
    errors = {"rotation_deg": 1.9, "shift_A": 2.0, "share_of_one_direction": 0.2, "one_direction": False}
    found = shown({"pose_errors": errors, "tilt_shift_A": 0.0})
    assert "direction" not in found["Pose errors"]["note"] and "Tilt image shifts" not in found
