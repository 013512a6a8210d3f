"""MRC files: what is written is read back, whatever mode and byte order; mistakes are one line."""

import bz2
import gzip

import mrcfile
import numpy as np
import pytest

from tomohet.errors import InputError
from tomohet.files.grids import read_grid
from tomohet.files.mrc import (
    read_map,
    read_sections,
    read_volume,
    stack_header,
    stack_shape,
    write_stack,
    write_volume,
)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)


def test_volume_round_trip(tmp_path, images):
    volume = np.concatenate([images, images[:3]])
    write_volume(tmp_path / "map.mrc", volume, 3.5)
    read, pixel_size_A = read_volume(tmp_path / "map.mrc")
    assert np.array_equal(read, volume)
    assert pixel_size_A == pytest.approx(3.5)
    assert mrcfile.validate(tmp_path / "map.mrc")


def test_stack_sections_come_in_the_order_asked_for(tmp_path, images):
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    assert stack_shape(tmp_path / "stack.mrcs") == (5, 8, 8)
    read = read_sections(tmp_path / "stack.mrcs", np.array([4, 0, 4, 2]))
    assert np.array_equal(read, images[[4, 0, 4, 2]])


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_any_mode_and_byte_order_is_read_as_float32(tmp_path, dtype, order):
    values = np.arange(2 * 4 * 4).reshape(2, 4, 4).astype(dtype)
    path = tmp_path / "stack.mrcs"
    with mrcfile.new(path, data=values) as mrc:
        mrc.header.map = b"MAP "
    if order == ">":
        _swap_bytes(path, values)
    read = read_sections(path, np.array([1, 0]))
    assert read.dtype == np.float32
    assert np.array_equal(read, values[[1, 0]].astype(np.float32))


def _swap_bytes(path, values):
    raw = bytearray(path.read_bytes())
    header = np.frombuffer(bytes(raw[:1024]), dtype=mrcfile.dtypes.HEADER_DTYPE).byteswap()
    header = header.view(mrcfile.dtypes.HEADER_DTYPE).copy()
    header["machst"] = (0x11, 0x11, 0, 0)
    path.write_bytes(header.tobytes() + values.byteswap().tobytes())


def test_a_single_image_is_a_stack_of_one(tmp_path, images):
    with mrcfile.new(tmp_path / "one.mrc", data=images[0]):
        pass
    assert stack_shape(tmp_path / "one.mrc") == (1, 8, 8)
    assert np.array_equal(read_sections(tmp_path / "one.mrc", np.array([0]))[0], images[0])


def test_mistakes_are_one_line(tmp_path, images):
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    with pytest.raises(InputError, match="section 6 is requested, but the stack holds 5"):
        read_sections(tmp_path / "stack.mrcs", np.array([0, 5]))
    with pytest.raises(InputError, match="no such MRC file"):
        read_volume(tmp_path / "absent.mrc")
    (tmp_path / "text.mrc").write_text("not a map")
    with pytest.raises(InputError, match=r"text\.mrc"):
        read_volume(tmp_path / "text.mrc")
    whole = (tmp_path / "stack.mrcs").read_bytes()
    (tmp_path / "cut.mrcs").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"cut\.mrcs"):
        read_sections(tmp_path / "cut.mrcs", np.array([0]))


def header_changed(path, raw, **fields):
    """The bytes of an MRC file with some fields of its header set."""
    header = np.frombuffer(raw[:1024], dtype=mrcfile.dtypes.HEADER_DTYPE).copy()
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.tobytes() + raw[1024:])
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {"map": b"", "machst": 0},
        {"ispg": 401, "mz": 5},
        {"ispg": 1, "mz": 1},
        {"mz": 0, "mx": 0, "cella": 0},
        {"mapc": 0, "mapr": 0, "maps": 0, "nversion": 0},
    ],
)
def test_stacks_without_a_proper_header_are_read(tmp_path, images, fields):
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    path = header_changed(tmp_path / "odd.mrcs", (tmp_path / "stack.mrcs").read_bytes(), **fields)
    assert stack_shape(path) == (5, 8, 8)
    assert np.array_equal(read_sections(path, np.arange(5)), images)


def test_extended_header_is_skipped_and_bytes_after_the_data_ignored(tmp_path, images):
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    raw = (tmp_path / "stack.mrcs").read_bytes()
    path = header_changed(tmp_path / "long.mrcs", raw[:1024] + b"x" * 96 + raw[1024:] + b"y" * 256, nsymbt=96)
    assert np.array_equal(read_sections(path, np.arange(5)), images)


@pytest.mark.parametrize(("module", "suffix"), [(gzip, ".gz"), (bz2, ".bz2")])
def test_compressed_stacks_are_read(tmp_path, images, module, suffix):
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    raw = (tmp_path / "stack.mrcs").read_bytes()
    path = tmp_path / f"stack.mrcs{suffix}"
    path.write_bytes(module.compress(raw))
    assert stack_header(path) == ((5, 8, 8), 2.0)
    assert np.array_equal(read_sections(path, np.array([3, 1])), images[[3, 1]])
    path.write_bytes(module.compress(raw[:-50]))
    with pytest.raises(InputError, match="truncated"):
        read_sections(path, np.array([0]))
    path.write_bytes(module.compress(raw)[:-20])
    with pytest.raises(InputError, match=r"cannot be (decompressed|read)"):
        read_sections(path, np.array([0]))


@pytest.mark.parametrize("mode", [3, 4, 101, 77])
def test_modes_without_real_numbers_are_refused(tmp_path, images, mode):
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    path = header_changed(tmp_path / "odd.mrcs", (tmp_path / "stack.mrcs").read_bytes(), mode=mode)
    for read in (stack_header, read_volume, lambda p: read_sections(p, np.array([0]))):
        with pytest.raises(InputError, match=f"mode {mode}") as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_what_is_no_file_of_images_is_refused(tmp_path, images):
    (tmp_path / "empty.mrcs").touch()
    for name in ("empty.mrcs", "."):
        with pytest.raises(InputError, match="cannot be read as an MRC file"):
            stack_header(tmp_path / name)
    (tmp_path / "dangling.mrcs").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no such MRC file"):
        stack_header(tmp_path / "dangling.mrcs")
    write_stack(tmp_path / "stack.mrcs", images, 2.0)
    (tmp_path / "link.mrcs").symlink_to(tmp_path / "stack.mrcs")
    assert np.array_equal(read_sections(tmp_path / "link.mrcs", np.arange(5)), images)


def test_a_map_without_pixel_size_is_refused_by_all_who_need_one_and_the_remedy_works(tmp_path):
    path = tmp_path / "map_0.mrc"
    write_volume(path, np.ones((4, 4, 4)), 0.0)
    assert read_volume(path)[1] == 0 and stack_header(path)[1] == 0
    for read in (read_map, read_grid):
        with pytest.raises(InputError, match="no pixel size; write it there, e.g. 4 Å: python -c") as error:
            read(path)
    remedy = str(error.value).split("python -c ")[1].strip('"')
    exec(remedy)
    assert read_map(path)[1] == read_grid(path).pixel_size_A == 4


@pytest.mark.parametrize("order", ["<", ">"])
def test_one_rule_for_grid_and_pixels_in_both_byte_orders(tmp_path, order):
    """Without a machine stamp, the mode tells the byte order."""
    words = np.zeros(256, f"{order}i4")
    words[:10] = 3, 4, 5, 2, 6, 7, 8, 3, 4, 5
    words[10:13].view(f"{order}f4")[:] = 7.5, 10, 12.5
    voxels = np.arange(60, dtype=f"{order}f4")
    path = tmp_path / "map.mrc"
    path.write_bytes(words.tobytes() + voxels.tobytes())
    grid = read_grid(path)
    assert grid.shape == (5, 4, 3) and grid.pixel_size_A == 2.5
    assert grid.origin_A == (15, 17.5, 20)  # the start indices, where the origin field is zero
    np.testing.assert_array_equal(read_volume(path)[0].ravel(), voxels)
    words[49:52].view(f"{order}f4")[:] = -1, 2, 3
    path.write_bytes(words.tobytes() + voxels.tobytes())
    assert read_grid(path).origin_A == (-1, 2, 3)
    path.write_bytes(path.read_bytes()[:-4])
    for read in (read_grid, read_volume):
        with pytest.raises(InputError, match="truncated"):
            read(path)
