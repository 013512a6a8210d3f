"""Subsets of volume series chosen by the particles of an image series."""

import numpy as np
import pytest

from tomohet.files.atomic import write_pickle
from tomohet.files.star import read_star

IMAGES = "data_\nloop_\n_rlnImageName\n_rlnGroupName\n" + "".join(
    f"{tilt}@{name}.mrcs {name}\n" for name in ("t_1", "t_2", "t_3") for tilt in (1, 2)
)


def volumes(names, column="rlnGroupName"):
    rows = "".join(f"{name} {i}.50\n" for i, name in enumerate(names))
    return f"data_\nloop_\n_{column}\n_rlnCoordinateX\n{rows}"


def export(tmp_path, run_script, text, indices, check=True):
    (tmp_path / "images.star").write_text(IMAGES)
    (tmp_path / "volumes.star").write_text(text)
    write_pickle(tmp_path / "ind.pkl", np.array(indices))
    return run_script(
        "filter_star", tmp_path / "volumes.star", "--particles", tmp_path / "images.star",
        "--ind", tmp_path / "ind.pkl", "-o", tmp_path / "out.star", check=check,
    )  # fmt: skip


@pytest.mark.parametrize("column", ["rlnGroupName", "rlnTomoParticleName"])
def test_rows_in_other_order_are_joined_by_name(tmp_path, run_script, column):
    export(tmp_path, run_script, volumes(["t_3", "t_9", "t_1", "t_2"], column), [0, 2])
    assert (
        tmp_path / "out.star"
    ).read_text() == f"data_\nloop_\n_{column}\n_rlnCoordinateX\nt_3 0.50\nt_1 2.50\n"


def test_files_without_names_are_joined_by_row(tmp_path, run_script):
    export(tmp_path, run_script, volumes(["a", "b", "c"], "rlnImageName"), [1])
    assert list(read_star(tmp_path / "out.star")[""]["rlnImageName"]) == ["b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (volumes(["a", "b"], "rlnImageName"), "2 particles, but"),
        (volumes(["t_1", "t_2"]), "lacks 1 of 3 particles"),
        (volumes(["t_1", "t_2", "t_3", "t_1"]), "is in several rows"),
    ],
)
def test_files_that_cannot_be_joined_are_refused(tmp_path, run_script, text, message):
    done = export(tmp_path, run_script, text, [0], check=False)
    assert done.returncode
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.star").exists()
