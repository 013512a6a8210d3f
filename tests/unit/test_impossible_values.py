"""Values that no microscope and no pose has: refused by the readers, hence by every command."""

import numpy as np
import pytest
from particle_files import (
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_text_star,
)

from tomohet.errors import InputError
from tomohet.particles.dialects import read_particles

OF_SERIES = {
    "contrast in per cent": ("rlnAmplitudeContrast", 7.0, "row 3: found 7, expected a fraction from 0 to 1"),
    "contrast below 0": ("rlnAmplitudeContrast", -0.1, "row 3: found -0.1"),
    "voltage 0": ("rlnVoltage", 0.0, "row 3: found 0, expected kV, 50 to 1500"),
    "voltage in V": ("rlnVoltage", 300000.0, "row 3: found 300000"),
    "aberration below 0": ("rlnSphericalAberration", -2.7, "row 3: found -2.7, expected mm"),
    "aberration in µm": ("rlnSphericalAberration", 2700.0, "row 3: found 2700"),
    "defocus in pm": ("rlnDefocusV", 2.5e6, "row 3: found 2.5e"),
}


@pytest.mark.parametrize("case", OF_SERIES)
def test_image_series_of_an_impossible_microscope(tmp_path, case):
    column, value, message = OF_SERIES[case]
    star, table = write_image_series(tmp_path)
    table[column] = table[column].astype(float)
    table.loc[2, column] = value
    write_text_star(star, {"": table})
    with pytest.raises(InputError, match=f"column _{column}, {message}.*1 such rows.*correct the value"):
        read_particles(star)


@pytest.mark.parametrize("column", ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"])
def test_image_series_with_angles_converted_twice(tmp_path, column):
    star, table = write_image_series(tmp_path)
    table.loc[[4, 8], column] = 67.5 * 57.29578
    write_text_star(star, {"": table})
    with pytest.raises(InputError, match="row 5: found angles .*3867.47.*2 such rows.*dev0 to dev25.*dev26"):
        read_particles(star)


def test_angles_of_one_turn_are_taken(tmp_path):
    star, table = write_image_series(tmp_path)
    table.loc[0, ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]] = [360.0, -179.0, -360.0]
    table.loc[1, "rlnAngleTilt"] = 359.5
    write_text_star(star, {"": table})
    turned = read_particles(star).rotations()
    table.loc[0, ["rlnAngleRot", "rlnAnglePsi"]] = 0.0
    table.loc[1, "rlnAngleTilt"] = -0.5
    write_text_star(star, {"": table})
    np.testing.assert_allclose(turned, read_particles(star).rotations(), atol=1e-6)


@pytest.mark.parametrize("command", ["validate", "prepare", "backproject_voxel", "train_linear"])
@pytest.mark.parametrize("kind", ["series", "set"])
def test_every_command_refuses_in_one_line(tmp_path, run_script, command, kind):
    if kind == "series":
        star, table = write_image_series(tmp_path)
        write_text_star(star, {"": table.assign(rlnVoltage=0.0)})
    else:
        blocks, tomograms = optimisation_set_blocks(np.random.default_rng(5))
        star = write_optimisation_set(tmp_path, blocks, tomograms)
        blocks["optics"]["rlnVoltage"] = 0.0
        write_text_star(tmp_path / "particles.star", blocks)
    result = run_script(command, star, "-o", tmp_path / "out", check=False)
    assert result.returncode != 0
    assert "column _rlnVoltage, row 1: found 0, expected kV" in result.stderr
    assert "Traceback" not in result.stderr
