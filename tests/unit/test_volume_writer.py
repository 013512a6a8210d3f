"""Maps are written by several threads while others are decoded; nothing waits for ever, no error is lost."""

import fcntl
import os
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tomohet.errors import InputError
from tomohet.files import parts
from tomohet.files.atomic import write_text
from tomohet.model.decoder import Decoder, FixedPoints, half_space_sign
from tomohet.model.volume_writer import WAITING, WRITERS, VolumeWriter
from tomohet.physics.lattice import half_ball

BOX = 4


def maps(first, m):
    return torch.arange(first, first + m).float()[:, None, None, None].expand(m, BOX, BOX, BOX).contiguous()


def test_every_map_is_written_once_under_its_number():
    written = {}
    with VolumeWriter(
        lambda number, volume: written.setdefault(number, []).append(volume[0, 0, 0])
    ) as writer:
        for first in range(0, 50, 5):
            writer.put(first, maps(first, 5))
    assert {number: [number] for number in range(50)} == written


def test_maps_of_a_group_are_written_at_the_same_time():
    together = threading.Barrier(WRITERS)  # breaks unless all writers are there at once
    with VolumeWriter(lambda *_: together.wait(timeout=20)) as writer:
        writer.put(0, maps(0, WRITERS))


def test_a_bounded_number_of_groups_waits():
    release, written = threading.Event(), []

    def write(number, _):
        release.wait(20)
        written.append(number)

    with VolumeWriter(write) as writer:
        for first in range(WAITING):
            writer.put(first, maps(first, 1))
        later = threading.Timer(0.2, release.set)
        later.start()
        writer.put(WAITING, maps(WAITING, 1))  # returns when the first group is written
        assert 0 in written
        later.join()


@pytest.mark.parametrize("error", [OSError("disk full"), SystemExit(3), MemoryError()])
@pytest.mark.parametrize("groups", [1, 12])
def test_a_writer_that_dies_ends_the_decoding(error, groups):
    written = []

    def write(number, _):
        if number == 1:
            raise error
        written.append(number)

    begun = time.monotonic()
    with pytest.raises(type(error)), VolumeWriter(write) as writer:
        for first in range(0, 3 * groups, 3):
            writer.put(first, maps(first, 3))
    assert 1 not in written and len(written) <= 3 * (WAITING + 1)
    assert time.monotonic() - begun < 20


def test_an_error_of_the_decoding_is_not_hidden_by_maps_that_wait():
    with pytest.raises(ZeroDivisionError), VolumeWriter(lambda *_: time.sleep(0.01)) as writer:
        writer.put(0, maps(0, 40))
        raise ZeroDivisionError
    assert not [thread for thread in writer._threads._threads if thread.is_alive()]


def test_records_are_written_by_several_threads_at_once(tmp_path):
    n, width = 64, 4096
    rows = np.random.default_rng(0).random((n, width), np.float32)
    file = parts.PartedFile(
        tmp_path / "rows", n, 4 * width, "one", lambda empty: os.truncate(empty, 8 + rows.nbytes), offset=8
    )
    with VolumeWriter(lambda number, _: file.write(number, rows[number])) as writer:
        writer.put(0, maps(0, n))
    assert file.finish(range(n))
    np.testing.assert_array_equal(
        np.fromfile(tmp_path / "rows", np.float32, offset=8).reshape(n, width), rows
    )


def test_the_disk_confirms_a_large_file_while_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "CONFIRMED_BYTES", 1000)
    confirmed = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: confirmed.append(os.fstat(handle).st_size))
    rows = np.zeros((20, 60), np.float32)  # 240 bytes each: five reach 1000
    file = parts.PartedFile(tmp_path / "rows", 20, 240, "one", lambda empty: os.truncate(empty, rows.nbytes))
    for number, row in enumerate(rows):
        file.write(number, row)
        assert len(confirmed) == (number + 1) // 5
    assert file.finish(range(20))


def test_files_of_several_threads_keep_the_mask_of_the_process(tmp_path):
    before = os.umask(0o027)
    try:
        with VolumeWriter(lambda number, _: write_text(tmp_path / f"{number}.txt", "text")) as writer:
            writer.put(0, maps(0, 200))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_a_lock_that_is_never_given_up_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LOCK_PATIENCE_S", 0.1)
    with open(tmp_path / ".rows.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(InputError, match=r"\.rows\.lock: another process has held"),
            parts.locked(tmp_path / "rows"),
        ):
            pass


def test_a_file_system_that_numbers_a_file_twice_is_no_endless_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LOCK_PATIENCE_S", 0.1)
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with pytest.raises(InputError, match="another process has held"), parts.locked(tmp_path / "rows"):
        pass


class Launches(TorchDispatchMode):
    """Counts operations that compute or copy; views launch nothing."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        if not operation.is_view and "empty" not in str(operation):
            self.names.append(str(operation))
        return operation(*arguments, **(options or {}))


@torch.no_grad()
def test_few_operations_decode_a_map():
    """A GPU starts one in some 10 us, so that 500 maps/s leave room for 200 for each map."""
    decoder, z = Decoder(8, 4, 3, 16), torch.randn(6, 4)
    k = half_ball(8).frequency
    points = FixedPoints(decoder.folded(), k, chunk_rows=len(k))
    points.values(z)  # the coordinates' part is kept
    with Launches() as counted:
        points.values(z)
    # The latent's part, its sum with the coordinates' part, the activation, three layers, outputs, signs.
    assert len(counted.names) <= 6 * 8, counted.names


@pytest.mark.parametrize("hermitian", [True, False])
@torch.no_grad()
def test_values_of_the_other_half_are_conjugates(hermitian):
    torch.manual_seed(0)
    decoder, z, k = Decoder(8, 4, 2, 16, hermitian=hermitian), torch.randn(3, 4), torch.rand(50, 3) - 0.5
    both = FixedPoints(decoder.folded(), torch.cat((k, -k))).values(z)
    assert {-1.0, 1.0} == set(half_space_sign(k).tolist())
    torch.testing.assert_close(both[:, :50], both[:, 50:].conj())
