"""Legal forms of particle files, and unusable ones, beyond those that one program writes.

Each form is a small edit of files written by other code; the expected table is that of the unedited files.
"""

import numpy as np
import pandas as pd
import pytest
from particle_files import (
    image_table,
    optimisation_set_blocks,
    write_image_series,
    write_optimisation_set,
    write_text_star,
)

from tomohet.errors import InputError
from tomohet.files.star import read_star
from tomohet.particles.dialects import read_particles


def images_of(star):
    return read_particles(star).images.drop(columns="stack")


def edited_series(folder, edit):
    star, table = write_image_series(folder)
    return write_text_star(star, edit(table))


def edited_set(folder, edit):
    blocks, tomograms = optimisation_set_blocks(np.random.default_rng(0))
    edit(blocks, tomograms)
    return write_optimisation_set(folder, blocks, tomograms)


@pytest.mark.parametrize("comment", [" # the last row", "\t#last", ' # it\'s "the" last'])
def test_comments_behind_a_row(tmp_path, comment):
    star, _ = write_image_series(tmp_path)
    expected = images_of(star)
    star.write_text(star.read_text().rstrip() + comment + "\n")
    pd.testing.assert_frame_equal(images_of(star), expected)


def test_a_number_sign_in_a_quoted_value_is_no_comment(tmp_path):
    path = tmp_path / "a.star"
    path.write_text("data_\nloop_\n_rlnTomoName\n_a\n\"x #1\" 2 # \"b\" 'c'\n'y #2' 3\nz#3 4\n")
    assert read_star(path)[""].to_dict("list") == {"rlnTomoName": ["x #1", "y #2", "z#3"], "a": [2, 3, 4]}


def test_another_table_beside_a_nameless_table_of_images(tmp_path):
    other = pd.DataFrame({"rlnReferenceImage": ["a.mrc", "b.mrc"]})
    star = edited_series(tmp_path, lambda table: {"": table, "model_classes": other})
    pd.testing.assert_frame_equal(images_of(star), images_of(write_image_series(tmp_path / "plain")[0]))


def test_a_scale_factor_of_0_everywhere_tells_no_tilts(tmp_path):
    star = edited_series(tmp_path, lambda table: {"": table.assign(rlnCtfScalefactor=0.0)})
    read = read_particles(star)
    assert (read.images["tilt_deg"] == 0).all()
    assert "states no tilts" in read.remarks[0]


def test_images_with_a_scale_factor_of_0_are_remarked(tmp_path):
    scale = image_table(np.random.default_rng(0))["rlnCtfScalefactor"].where(lambda c: c.index != 4, 0.0)
    star = edited_series(tmp_path, lambda table: {"": table.assign(rlnCtfScalefactor=scale)})
    assert "1 images have rlnCtfScalefactor 0, like excluded ones" in read_particles(star).remarks


def test_images_with_a_corrected_ctf_are_refused(tmp_path):
    star = edited_series(tmp_path, lambda table: {"": table.assign(rlnCtfDataAreCtfCorrected=1)})
    with pytest.raises(InputError, match="_rlnCtfDataAreCtfCorrected, row 1: found 1"):
        read_particles(star)


def test_repeated_rows_are_not_called_symmetry_expanded(tmp_path):
    with pytest.raises(InputError) as refused:
        read_particles(edited_series(tmp_path, lambda table: {"": pd.concat([table, table.iloc[:1]])}))
    assert "symmetry" not in str(refused.value)


def test_a_dose_below_0_in_a_set_is_refused(tmp_path):
    def edit(_, tomograms):
        tomograms["002"] = tomograms["002"].assign(rlnMicrographPreExposure=[0.0, 3, -6, 9, 12])

    with pytest.raises(InputError, match="data_002: column _rlnMicrographPreExposure, row 3: found -6"):
        read_particles(edited_set(tmp_path, edit))


def test_a_set_without_hand_says_which_is_taken(tmp_path):
    def edit(_, tomograms):
        tomograms["global"] = tomograms["global"].drop(columns="rlnTomoHand")

    [remark] = read_particles(edited_set(tmp_path, edit)).remarks
    assert remark.startswith("rlnTomoHand is missing") and "3 of 3 tomograms" in remark


def test_a_set_joined_from_two_sessions_is_remarked(tmp_path):
    """Particles of the second session have the tomogram names of the first, whose geometry they then get."""

    def edit(blocks, _):
        rows = blocks["particles"].drop(columns="rlnTomoParticleName")
        second = rows.assign(rlnImageName="second/" + rows["rlnImageName"])
        blocks["particles"] = pd.concat([rows, second], ignore_index=True)

    read = read_particles(edited_set(tmp_path, edit))
    assert len(read.particles) == 12
    assert any("3 tomograms have image stacks in several folders, as 001" in r for r in read.remarks)
