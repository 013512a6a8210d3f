"""Order of the particles and reading of their images: the same batches wherever the images are held."""

import logging
import os
import resource
import threading

import numpy as np
import pytest
import torch

from tomohet import device as machine
from tomohet.errors import InputError
from tomohet.files import rows as row_file
from tomohet.files.rows import RowFile
from tomohet.particles.store import Store, open_store
from tomohet.processes import Processes
from tomohet.training import order, reading
from tomohet.training.batches import ParticleImages, split_tilts
from tomohet.training.order import Blocks, groups_per_window, in_groups, lanes, shuffled
from tomohet.training.reading import Loading, StoredImages, place_for

CPU = torch.device("cpu")
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


@pytest.fixture
def small_windows(monkeypatch, store):
    """Windows of six particles in blocks of two, for the two dozen particles of the tiny store."""
    particle = store.data.nbytes / len(store.particles)
    monkeypatch.setattr(order, "WINDOW_BYTES", int(6.5 * particle))
    monkeypatch.setattr(order, "BLOCK_BYTES", int(2.5 * particle))
    monkeypatch.setattr(reading, "PIECE_BYTES", int(1.5 * particle))


def particle_images(store, **options):
    return ParticleImages(store, np.arange(len(store.particles)), CPU, **{"batch_size": 3} | options)


def epoch(images, seed=0):
    return images.shuffled(np.random.default_rng(seed))


def assert_same_batches(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.whole == other.whole
        for name in ("fourier", "gain", "prefix", "tilts"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(other, name), err_msg=name)
        assert all(torch.equal(a, b) for a, b in zip(mine.params, other.params, strict=True))


# ---- rows of a file


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "array.npy"
    np.save(path, np.random.default_rng(0).normal(size=(300, 7, 2)).astype(np.float16))
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("gap", [0, 28, 200, 10**6])
@pytest.mark.parametrize("runs", [1, 3, 500])
def test_rows_are_those_of_the_array(array, monkeypatch, gap, runs):
    monkeypatch.setattr(row_file, "GAP_BYTES", gap)
    monkeypatch.setattr(row_file, "RUNS_PER_CALL", runs)
    rng = np.random.default_rng(1)
    shuffled_rows = rng.integers(0, 300, 80)
    for rows in (shuffled_rows, np.unique(shuffled_rows), np.arange(300), np.array([299]), np.arange(0)):
        np.testing.assert_array_equal(RowFile(array).read(rows), array[rows])
        out = np.empty((len(rows), 7, 2), np.float16)
        assert RowFile(array).read(rows, out) is out
        np.testing.assert_array_equal(out, array[rows])


def test_a_block_takes_one_call(array, monkeypatch):
    calls = []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *args: calls.append(args) or preadv(*args))
    RowFile(array).read(np.delete(np.arange(50, 250), [3, 4, 90, 91, 92]))
    assert len(calls) == 1


def test_reading_goes_on_after_a_short_call(array, monkeypatch):
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: preadv(fd, [buffers[0][:13]], at))
    rows = np.array([1, 2, 3, 5, 6, 200])
    np.testing.assert_array_equal(RowFile(array).read(rows), array[rows])


def test_a_cut_off_file_is_named(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((10, 100)))
    array = np.load(path, mmap_mode="r")
    os.truncate(path, path.stat().st_size - 300)
    with pytest.raises(InputError, match=r"images\.npy: ends too early"):
        RowFile(array).read(np.arange(10))


# ---- order


def order_of(by_name, size, batch_size, seed=0):
    blocks = Blocks.of(by_name, size, batch_size)
    return shuffled(blocks, lanes(blocks, batch_size), np.random.default_rng(seed))


def test_small_data_are_shuffled_as_a_whole_by_name():
    by_name = np.random.default_rng(1).permutation(29)
    found = order_of(by_name, 10, 4)
    assert found.tolist() == by_name[order_of(np.arange(29), 10, 4)].tolist()
    assert sorted(found.tolist()) == list(range(29))


@pytest.mark.parametrize(("n", "batch_size"), [(29, 4), (24, 8), (5, 7), (13, 1), (2011, 8)])
@pytest.mark.parametrize("size", [10, 40 * MEGABYTE])
def test_every_batch_has_one_particle_of_each_lane(n, batch_size, size):
    blocks = Blocks.of(np.random.default_rng(1).permutation(n), size, batch_size)
    lane = lanes(blocks, batch_size)
    for seed in range(3):
        found = shuffled(blocks, lane, np.random.default_rng(seed))
        assert sorted(found.tolist()) == list(range(n))
        *full, last = in_groups(lane[found], batch_size)
        assert all(group.tolist() == list(range(batch_size)) for group in full)
        assert (np.diff(last) > 0).all()


def test_within_its_lane_every_order_is_as_likely():
    """Three lanes of four particles each: all 24 orders of each lane occur, independently of the others."""
    blocks = Blocks.of(np.arange(12), 10, 3)
    lane, rng = lanes(blocks, 3), np.random.default_rng(0)
    epochs = np.array([shuffled(blocks, lane, rng).reshape(4, 3) for _ in range(4800)])
    for number in range(3):
        counts = np.unique(epochs[:, :, number], axis=0, return_counts=True)[1]
        assert len(counts) == 24 and abs(counts - 200).max() < 5 * 200**0.5
    together = np.unique(epochs[:, 0], axis=0, return_counts=True)[1]
    assert len(together) == 64 and abs(together - 75).max() < 5 * 75**0.5


def test_large_data_are_read_in_blocks_from_everywhere(monkeypatch):
    monkeypatch.setattr(order, "WINDOW_BYTES", 100 * MEGABYTE)
    n, size = 2011, MEGABYTE
    found = order_of(np.arange(n), size, 8)
    assert sorted(found.tolist()) == list(range(n))
    again, other = (order_of(np.arange(n), size, 8, seed) for seed in (0, 1))
    assert np.array_equal(found, again)
    assert not np.array_equal(found, other)
    windows = in_groups(found, 8 * groups_per_window(-(-n // 8), 8 * size))
    assert len(windows) == 21
    for window in windows[:-1]:
        runs = np.split(np.sort(window), np.flatnonzero(np.diff(np.sort(window)) > 1) + 1)
        assert len(window) / len(runs) > 3  # blocks of four, but for one that the window divides in each lane
        assert np.ptp(window) > 0.7 * n
        assert np.abs(np.diff(window)).mean() > 0.2 * n  # neighbours in the order come from anywhere


def test_windows_are_alike():
    assert groups_per_window(10, 1) == 10
    assert groups_per_window(10, order.WINDOW_BYTES / 4) == 4
    assert groups_per_window(8, order.WINDOW_BYTES / 4) == 4
    assert groups_per_window(9, order.WINDOW_BYTES / 8) == 5
    assert groups_per_window(3, 5 * order.WINDOW_BYTES) == 1
    assert groups_per_window(0, 1) == 0


def test_order_is_the_same_wherever_images_are_held(store, small_windows):
    orders = [np.concatenate(epoch(particle_images(store, place=place))) for place in reading.WHERE]
    assert all(np.array_equal(orders[0], other) for other in orders[1:])
    assert not np.array_equal(orders[0], np.random.default_rng(0).permutation(24))


# ---- places


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("ordered", [True, False])
def test_batches_are_the_same_wherever_images_are_held(store, tmp_path, small_windows, dtype, place, ordered):
    path = tmp_path / "images.npy"
    np.save(path, np.asarray(store.data, dtype))
    store = Store(store.folder, store.description, store.particles, store.images,
                  np.load(path, mmap_mode="r"), store.data_rows)  # fmt: skip
    held = particle_images(store, place="device")
    assert held._images._held.dtype == getattr(torch, dtype)
    groups = epoch(held) if ordered else in_groups(np.random.default_rng(5).permutation(24)[:17], 4)
    loading = Loading(workers=2, ahead=3)
    other = particle_images(store, place=place, loading=loading)
    assert_same_batches(other.batches(groups), held.batches(groups))
    assert_same_batches(other.batches(groups), held.batches(groups))
    expected = torch.from_numpy(store.data[store.images_of(groups[0])].astype(np.float32))
    assert torch.equal(torch.view_as_real(next(iter(other.batches(groups))).fourier), expected)


@pytest.mark.parametrize("place", reading.WHERE)
@pytest.mark.parametrize("first", [0, 1, 3, 7])
def test_an_epoch_goes_on_from_any_step(store, small_windows, place, first):
    images = particle_images(store, place=place)
    groups = epoch(images)
    assert_same_batches(images.batches(groups, first), list(images.batches(groups))[first:])


@pytest.mark.parametrize("place", reading.WHERE)
def test_processes_share_the_batches_of_one(store, small_windows, place):
    """Of seven processes some have no particle in a batch of three."""
    whole = particle_images(store)
    groups = epoch(whole)
    for size in (2, 7):
        parts = [particle_images(store, place=place, processes=Processes(rank, size)) for rank in range(size)]
        assert all(np.array_equal(np.concatenate(epoch(part)), np.concatenate(groups)) for part in parts)
        for one, *several in zip(
            whole.batches(groups), *(part.batches(groups) for part in parts), strict=True
        ):
            assert torch.equal(torch.cat([batch.fourier for batch in several]), one.fourier)
            np.testing.assert_array_equal(np.concatenate([batch.tilts for batch in several]), one.tilts)


@pytest.mark.parametrize("place", ["device", "memory"])
def test_a_process_reads_and_holds_the_images_of_its_own_particles(store, monkeypatch, place):
    """Of 24 particles, in batches of 8, each of four processes has six; all images are held once."""
    read = []
    monkeypatch.setattr(Store, "read", lambda s, rows, *out: read.append(rows) or s._file.read(rows, *out))
    whole = particle_images(store, batch_size=8, place=place).bytes_held
    assert whole == store.data.nbytes
    held, owners = [], np.zeros(24, int)
    for rank in range(4):
        read.clear()
        part = particle_images(store, batch_size=8, place=place, processes=Processes(rank, 4))
        own = np.flatnonzero(part.mine)
        assert len(own) == 6
        np.testing.assert_array_equal(np.sort(np.concatenate(read)), store.images_of(own))
        held.append(part.bytes_held)
        owners += part.mine
        for seed in range(2):
            list(part.batches(epoch(part, seed)))
        list(part.batches(part.own_groups(np.arange(24), 5)))
        assert len(np.concatenate(read)) == len(store.images_of(own)), "nothing is read again"
    assert (owners == 1).all() and sum(held) == whole
    assert max(held) <= 0.3 * whole


def test_a_process_computes_its_own_particles_of_a_list(store):
    positions = np.array([2, 3, 5, 8, 9, 13, 14, 21])
    whole = particle_images(store)
    for size in (2, 3):
        seen = []
        for rank in range(size):
            part = particle_images(store, processes=Processes(rank, size))
            groups = part.own_groups(positions, 2)
            for group, batch in zip(groups, part.batches(groups), strict=True):
                assert torch.equal(batch.fourier, whole.batch(group).fourier)
            seen += [*groups]
        assert sorted(np.concatenate(seen).tolist()) == positions.tolist()


def test_tilts_that_are_held_out_are_read_from_the_file(store, small_windows):
    keep = split_tilts(np.diff(store.offsets), 0.5, np.random.default_rng(0))
    for side in (keep, ~keep):
        held, read = (particle_images(store, keep=side, place=place) for place in ("device", "file"))
        assert_same_batches(read.batches(epoch(read)), held.batches(epoch(held)))


def test_an_epoch_reads_every_image_once_in_blocks(store, small_windows, monkeypatch):
    read, calls = [], []
    monkeypatch.setattr(Store, "read", lambda s, rows, out: read.append(rows) or s._file.read(rows, out))
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *args: calls.append(args) or preadv(*args))
    monkeypatch.setattr(row_file, "GAP_BYTES", 0)
    monkeypatch.setattr(reading, "PIECE_BYTES", store.data.nbytes)
    images = particle_images(store, place="file")
    list(images.batches(epoch(images)))
    assert sorted(np.concatenate(read).tolist()) == list(range(len(store.images)))
    assert len(calls) <= 24 / 2 + 3  # blocks of two, and those that a window's end divides


def test_windows_of_a_continued_epoch_are_those_of_the_order(store, small_windows):
    images = particle_images(store, place="file")
    groups = epoch(images)
    whole, rest = list(images._windows(groups, 0)), list(images._windows(groups, 3))
    assert [len(window) for window in rest] == [1, 2, 2]
    for window, expected in zip(rest, [whole[1][1:], *whole[2:]], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(window, expected, strict=True))


def test_windows_get_shorter_where_memory_is_scarce(store, small_windows, monkeypatch):
    images = particle_images(store, place="file")
    groups = epoch(images)
    ample = [len(window) for window in images._windows(groups, 0)]
    particle = store.data.nbytes / len(store.particles)
    monkeypatch.setattr("tomohet.training.batches.free_memory", lambda _: 13 * particle)
    scarce = [len(window) for window in images._windows(groups, 0)]
    assert ample == [2, 2, 2, 2]
    assert scarce == [1] * 8
    assert_same_batches(images.batches(groups), particle_images(store).batches(groups))


def test_place_follows_from_what_is_free(monkeypatch):
    cuda = torch.device("cuda", 0)
    free = {"cuda": 100, "cpu": 1000}
    monkeypatch.setattr(reading, "free_memory", lambda device: free[device.type])
    for n, on_cuda, on_cpu in (
        (49, "device", "device"),
        (51, "memory", "device"),
        (499, "memory", "device"),
        (501, "file", "file"),
    ):
        assert (place_for(n, cuda, lazy=False), place_for(n, CPU, lazy=False)) == (on_cuda, on_cpu)
    assert place_for(1, cuda, lazy=True) == place_for(1, CPU, lazy=True) == "file"


def test_the_place_is_logged(store, caplog):
    with caplog.at_level(logging.INFO):
        particle_images(store)
        particle_images(store, loading=Loading(lazy=True))
    assert "held on the device" in caplog.text
    assert "read from the store's file" in caplog.text


# ---- free memory


def test_free_memory_respects_ulimit():
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = machine._kilobytes(machine.Path("/proc/self/status"))["VmData"]
    resource.setrlimit(resource.RLIMIT_DATA, (used + 300 * MEGABYTE, hard))
    try:
        limited = machine.free_memory(CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert 0 < limited < 310 * MEGABYTE < machine.free_memory(CPU)


def test_free_memory_is_shared_by_the_processes_of_a_node(monkeypatch):
    alone = machine.free_memory(CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert machine.free_memory(CPU) == pytest.approx(alone / 4, rel=0.2)


@pytest.mark.parametrize(("limit", "room"), [("5000", [5000 - 4000 + 1500]), ("max", []), (None, [])])
def test_room_in_a_control_group(tmp_path, limit, room):
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("4000\n")
        (tmp_path / "memory.stat").write_text("anon 2000\ninactive_file 1500\n")
    assert machine._room_in(tmp_path, "memory.max", "memory.current", "inactive_file") == room


# ---- options


def spy(monkeypatch, name, before):
    method = getattr(StoredImages, name)
    monkeypatch.setattr(StoredImages, name, lambda *args: before(*args) or method(*args))


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("persistent", [True, False])
def test_persistent_threads_live_on(store, small_windows, monkeypatch, place, persistent):
    threads = set()
    spy(monkeypatch, "_ready", lambda *_: threads.add(threading.current_thread()))
    images = particle_images(store, place=place, loading=Loading(persistent=persistent))
    for seed in range(3):
        list(images.batches(epoch(images, seed=seed)))
    assert len(threads) == (1 if persistent else 3)
    assert all(thread.is_alive() is persistent for thread in threads)


def test_persistent_threads_end_with_an_interrupted_epoch(store, small_windows, monkeypatch):
    threads = set()
    spy(monkeypatch, "_ready", lambda *_: threads.add(threading.current_thread()))
    images = particle_images(store, place="file", loading=Loading(persistent=True))
    batches = images.batches(epoch(images))
    next(batches)
    batches.close()
    assert threads
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_threads_read_as_asked_for(store, small_windows, monkeypatch, workers):
    threads, together = set(), threading.Barrier(workers)

    def read(opened, rows, out):
        if threading.current_thread() not in threads and len(threads) < workers:
            threads.add(threading.current_thread())
            together.wait(timeout=60)
        return opened._file.read(rows, out)

    monkeypatch.setattr(Store, "read", read)
    images = particle_images(store, place="file", loading=Loading(workers=workers))
    list(images.batches(epoch(images)))
    assert len(threads) == workers


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("ahead", [1, 4])
def test_batches_are_made_ready_ahead(store, monkeypatch, place, ahead):
    begun, sources = [], StoredImages._sources
    monkeypatch.setattr(
        StoredImages,
        "_sources",
        lambda *args: (begun.append(source) or source for source in sources(*args)),
    )
    images = particle_images(store, place=place, loading=Loading(ahead=ahead))
    batches = images.batches(epoch(images))
    for taken in (1, 2, 3):
        next(batches)
        assert len(begun) == taken + ahead
    batches.close()


def test_page_locked_memory_is_for_gpus_alone(store, small_windows):
    images = particle_images(store, place="file", loading=Loading(pinned=True))
    assert_same_batches(images.batches(epoch(images)), particle_images(store).batches(epoch(images)))
