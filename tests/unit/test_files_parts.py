"""One file filled by several processes."""

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from tomohet.errors import InputError
from tomohet.files.parts import PartedFile, content_digest, locked

N, WIDTH = 12, 5
ROWS = np.arange(N * WIDTH, dtype=np.float32).reshape(N, WIDTH)


def opened(path, digest="one"):
    return PartedFile(path, N, 4 * WIDTH, digest, lambda empty: os.truncate(empty, 8 + ROWS.nbytes), offset=8)


def write(path, numbers, digest="one", rows=ROWS):
    file = opened(path, digest)
    file.write(numbers.start, rows[numbers])
    return file.finish(numbers)


def content(path):
    return np.fromfile(path, np.float32, offset=8).reshape(N, WIDTH)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_file_appears_with_its_last_part(tmp_path, order):
    path, parts = tmp_path / "rows", [range(0, 5), range(5, 6), range(6, N)]
    for number in order[:2]:
        assert not write(path, parts[number]) and not path.exists()
    assert write(path, parts[order[2]])
    np.testing.assert_array_equal(content(path), ROWS)
    assert list(tmp_path.iterdir()) == [path]


def test_parts_of_other_numbers_and_empty_ones_go_together(tmp_path):
    path = tmp_path / "rows"
    for numbers in (range(0, 8), range(3, 3), range(2, 4)):
        assert not write(path, numbers)
    assert write(path, range(7, N))
    np.testing.assert_array_equal(content(path), ROWS)


def test_a_part_that_was_not_finished_is_missing(tmp_path):
    path = tmp_path / "rows"
    write(path, range(0, 6))
    opened(path).write(6, -ROWS[6:9])  # and killed
    assert not path.exists()
    assert write(path, range(6, N))
    np.testing.assert_array_equal(content(path), ROWS)


def test_content_of_another_job_is_never_mixed(tmp_path):
    path = tmp_path / "rows"
    write(path, range(0, 6))
    assert not write(path, range(6, N), digest="two")
    assert write(path, range(0, 6), digest="two", rows=2 * ROWS)
    np.testing.assert_array_equal(content(path)[:6], 2 * ROWS[:6])


def test_a_job_that_lost_its_file_says_so(tmp_path):
    path = tmp_path / "rows"
    slow = opened(path)
    write(path, range(0, 6), digest="two")
    with pytest.raises(InputError, match="another job"):
        slow.finish(range(0, N))


def test_the_same_part_twice_at_once_is_no_mistake(tmp_path):
    path = tmp_path / "rows"
    twin = opened(path)
    assert write(path, range(0, N))
    assert twin.finish(range(0, N))


def test_discarded_file_leaves_nothing(tmp_path):
    opened(tmp_path / "rows").discard()
    assert not list(tmp_path.iterdir())


def test_many_processes_at_once(tmp_path):
    path = tmp_path / "rows"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        complete = pool.starmap(write, [(path, range(i, i + 1)) for i in range(N)])
    assert sum(complete) == 1
    np.testing.assert_array_equal(content(path), ROWS)
    assert list(tmp_path.iterdir()) == [path]


def test_one_at_a_time_holds_the_lock(tmp_path):
    inside, most = [], []

    def enter():
        for _ in range(20):
            with locked(tmp_path / "thing"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert not list(tmp_path.iterdir())


def test_digest_tells_contents_apart(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = content_digest(file, ROWS, 3)
    assert first == content_digest(file, ROWS.copy(), 3)
    assert len({first, content_digest(file, ROWS, 4), content_digest(file, -ROWS, 3)}) == 3
    file.write_bytes(b"two")
    assert content_digest(file, ROWS, 3) != first
