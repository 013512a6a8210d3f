"""MRC files: what is written is read back, whatever mode and byte order; mistakes are one line."""

import mrcfile
import numpy as np
import pytest

from tomohet.errors import InputError
from tomohet.files.mrc import read_sections, read_volume, stack_shape, write_stack, write_volume


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
    with pytest.raises(InputError, match="section 6 asked for, but the stack holds 5"):
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
