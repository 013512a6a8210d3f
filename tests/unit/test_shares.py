"""Rows of a long computation that several jobs divide: the values of all shares are those of one job."""

import shutil
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import run_here

from tomohet.errors import InputError
from tomohet.files.shares import ALL_ROWS, Shares, ShareWritten, shares_of

pytestmark = pytest.mark.quick


def squares(rows):
    number = np.arange(rows.start, rows.stop)
    return number**2, np.array([[len(number)]])


def written(folder, n, jobs, digest="d", together=1):
    for job in range(1, jobs + 1):
        with suppress(ShareWritten):
            Shares((job, jobs), folder / f"{job}").rows("squares", n, digest, squares, together)
    return tuple(folder / f"{job}" for job in range(1, jobs + 1))


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 40), jobs=st.integers(2, 6), together=st.integers(1, 9), lost=st.sets(st.integers(1, 6))
)
def test_values_of_any_shares_are_those_of_one_job(tmp_path_factory, n, jobs, together, lost):
    folders = written(tmp_path_factory.mktemp("shares"), n, jobs, together=together)
    for folder in folders:
        if int(folder.name) in lost:
            shutil.rmtree(folder)
    computed = []

    def counted(rows):
        computed.extend(range(rows.start, rows.stop))
        return squares(rows)

    found, counts = Shares(written=folders).rows("squares", n, "d", counted, together)
    np.testing.assert_array_equal(found, np.arange(n) ** 2)
    assert counts.sum() == n
    # Only the rows of lost shares are computed again, and no row twice.
    ends = [n if job == jobs else n * job // jobs // together * together for job in range(jobs + 1)]
    assert computed == [row for job in sorted(lost) if job <= jobs for row in range(ends[job - 1], ends[job])]


def test_a_job_of_one_share_ends_with_it(tmp_path):
    with pytest.raises(ShareWritten):
        Shares((1, 2), tmp_path).rows("squares", 9, "d", squares)
    with pytest.raises(ShareWritten):
        Shares((1, 2), tmp_path).end()
    ALL_ROWS.end()
    assert [path.name for path in tmp_path.glob("*.npz")] == ["squares.npz"]


@pytest.mark.parametrize("damage", ["cut", "a bit", "other digest", "other number of rows", "empty"])
def test_a_share_that_cannot_be_used_is_computed_again(tmp_path, damage, caplog):
    digest, n = (
        ("other" if damage == "other digest" else "d"),
        (20 if damage == "other number of rows" else 12),
    )
    folders = written(tmp_path, n, 3, digest)
    if damage not in ("other digest", "other number of rows"):
        written(tmp_path, n, 3)
        path = folders[1] / "squares.npz"
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 4
        path.write_bytes({"cut": data[: len(data) // 2], "a bit": data, "empty": b""}[damage])
    found, counts = Shares(written=folders).rows("squares", 12, "d", squares)
    np.testing.assert_array_equal(found, np.arange(12) ** 2)
    assert counts.sum() == 12
    assert str(folders[1]) in caplog.text and "computed here" in caplog.text


def test_a_job_computes_a_share_or_gathers_them(tmp_path):
    assert shares_of((1, 1), tmp_path, None) == Shares(None, tmp_path)
    with pytest.raises(InputError, match="--part computes one share"):
        shares_of((1, 2), tmp_path, (tmp_path,))


def test_help_gives_the_share_as_it_is_written():
    assert " ".join(run_here("siren", "--help").stdout.split()).count("(default: 1/1)") == 1
