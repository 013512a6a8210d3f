"""Which column of an image series tells the dose and which the stage tilt."""

import numpy as np
import pytest
from image_series_files import relion
from particle_files import write_image_series, write_text_star

from tomohet.errors import InputError
from tomohet.particles.dialects import read_particles

STAGE = [0.0, -3.0, 3.0, -6.0, 6.0] * 6  # of write_image_series' five tilts of six particles
DOSE = [0.0, 3.0, 6.0, 9.0, 12.0] * 6


@pytest.fixture
def table(tmp_path):
    """Warp's table: doses in rlnCtfBfactor, cosines of 0, 6, ... 24 degrees in rlnCtfScalefactor."""
    return write_image_series(tmp_path)[1]


def read(folder, blocks):
    found = read_particles(write_text_star(folder / "t.star", blocks))
    return found.images.sort_values("row"), found.remarks


@pytest.mark.parametrize(
    ("pre_exposure", "b_factor", "expected", "remark"),
    [
        (DOSE, 0.0, DOSE, False),  # parse_relion's placeholder
        (DOSE, None, DOSE, False),  # recovar
        (DOSE, [-4 * dose for dose in DOSE], DOSE, False),
        (DOSE, [37.5 - dose for dose in DOSE], DOSE, True),  # RELION's refined B-factors
        (0.0, [-4 * dose for dose in DOSE], DOSE, False),
        (1.5, [-4 * dose for dose in DOSE], DOSE, False),  # of the micrograph, the same for all
        (0.0, 0.0, [0.0] * 30, False),
        (2.0, 0.0, [2.0] * 30, False),
    ],
)
def test_doses(tmp_path, table, pre_exposure, b_factor, expected, remark):
    table = table.assign(rlnMicrographPreExposure=pre_exposure, rlnCtfBfactor=b_factor)
    if b_factor is None:
        table = table.drop(columns="rlnCtfBfactor")
    images, remarks = read(tmp_path, {"": table})
    np.testing.assert_allclose(images["dose_e_A2"], expected)
    assert any("_rlnCtfBfactor / -4 differs" in one for one in remarks) == remark


def test_the_message_names_the_column_of_the_dose(tmp_path, table):
    table = table.assign(rlnMicrographPreExposure=[-1.0, *DOSE[1:]], rlnCtfBfactor=0.0)
    with pytest.raises(
        InputError, match="_rlnMicrographPreExposure, row 1: found -1.0, which is a dose of -1"
    ):
        read(tmp_path, {"": table})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"rlnTomoYTilt": STAGE}, STAGE),
        ({"rlnTomoYTilt": 1.0, "rlnTomoNominalStageTiltAngle": STAGE}, STAGE),
        ({"rlnTomoYTilt": STAGE, "rlnCtfScalefactor": 2.39299}, STAGE),
        ({"rlnTomoYTilt": STAGE, "rlnCtfScalefactor": None}, STAGE),
        ({"rlnCtfScalefactor": 2.39299}, None),
        ({"rlnCtfScalefactor": [-0.5, *[0.9] * 29]}, None),
        ({"rlnCtfScalefactor": [1.0099, *[0.5] * 29]}, [0.0, *[60.0] * 29]),
    ],
)
def test_stage_tilts(tmp_path, table, columns, expected):
    table = table.assign(**columns).drop(columns=[name for name, value in columns.items() if value is None])
    images, remarks = read(tmp_path, {"": table})
    if expected is None:
        assert (images["tilt_deg"] == 0).all()
        assert (
            "is not the cosine of a tilt" in remarks[0] and "no column states the stage tilts" in remarks[1]
        )
    else:
        np.testing.assert_allclose(images["tilt_deg"], np.abs(expected), atol=1e-6)
        assert not remarks


def test_a_tilt_beyond_the_horizon_is_refused(tmp_path, table):
    with pytest.raises(
        InputError, match="_rlnTomoYTilt, row 1: found 93.5, expected the stage tilt, -90 to 90"
    ):
        read(tmp_path, {"": table.assign(rlnTomoYTilt=[93.5, *STAGE[1:]])})


def test_recovars_form_with_optics(tmp_path, table):
    """recovar's parse_relion5_tomo: data_optics, pre-exposures and nominal tilts, no B-factor."""
    blocks = relion(table)
    names = [f"TS_{1 + p % 2}/{p}" for p in range(6) for _ in range(5)]
    blocks["particles"] = (
        blocks["particles"]
        .drop(columns="rlnCtfBfactor")
        .assign(rlnMicrographPreExposure=DOSE, rlnTomoNominalStageTiltAngle=STAGE, rlnGroupName=names)
        .assign(rlnMicrographName=[f"frames/TS_{1 + p % 2}_{t}.mrc" for p in range(6) for t in range(5)])
    )
    found = read_particles(write_text_star(tmp_path / "r.star", blocks))
    assert found.dialect == "RELION image series" and not found.remarks
    assert found.particles["tomogram"].tolist() == ["TS_1", "TS_2"] * 3
    images = found.images.sort_values("row")
    assert images["dose_e_A2"].tolist() == DOSE and images["tilt_deg"].tolist() == np.abs(STAGE).tolist()
