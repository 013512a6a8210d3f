"""Pickles from outside: plain values and arrays are read, code is never run."""

import collections
import datetime
import os
import pickle

import numpy as np
import pytest

from tomohet.errors import InputError
from tomohet.files.pickles import load_indices, load_latents, load_pickles, save_latents


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_are_read(tmp_path, protocol):
    values = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.float64(2.5),
        "text": np.array(["a", "bc"]),
        "objects": np.array([{"x": 1}, None], dtype=object),
        "dtype": np.dtype("int16"),
        "date": datetime.datetime(2024, 2, 3),
        "ordered": collections.OrderedDict(a=1),
        "nested": [(1, 2.0, True, None, b"x", {3})],
    }
    path = tmp_path / "values.pkl"
    path.write_bytes(pickle.dumps(values, protocol))
    (read,) = load_pickles(path)
    assert read.keys() == values.keys()
    for name in ("array", "fortran", "text"):
        assert np.array_equal(read[name], values[name])
    for name in ("scalar", "dtype", "date", "ordered", "nested"):
        assert read[name] == values[name]
    assert read["objects"].tolist() == [{"x": 1}, None]


class _Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "attack",
    [
        _Attack(os.system, "touch {marker}"),
        _Attack(eval, "open('{marker}', 'w')"),
        _Attack(getattr, "x", "upper"),
        _Attack(np.load, "{marker}"),
        _Attack(np.fromfile, "{marker}"),
    ],
    ids=["os.system", "eval", "getattr", "numpy.load", "numpy.fromfile"],
)
def test_code_is_refused_and_does_not_run(tmp_path, attack):
    marker = tmp_path / "marker"
    function, arguments = attack.call
    attack.call = function, tuple(a.format(marker=marker) if "{" in a else a for a in arguments)
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(attack))
    with pytest.raises(InputError, match=r"bad\.pkl: refused"):
        load_pickles(tmp_path / "bad.pkl")
    assert not marker.exists()


def test_dotted_names_cannot_climb_out_of_the_allowed_modules(tmp_path):
    # Protocol 4 may ask for attributes of attributes, such as numpy's own import of os.
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.")
    with pytest.raises(InputError, match="refused"):
        load_pickles(tmp_path / "bad.pkl")


def test_objects_of_the_reference_program_become_inert(tmp_path):
    (tmp_path / "foreign.pkl").write_bytes(b"ctomodrgn.lattice\nLattice\n(S'x'\ntR}S'D'\nI33\nsb.")
    (read,) = load_pickles(tmp_path / "foreign.pkl")
    assert type(read).__name__ == "Lattice"
    assert read.arguments == ("x",)
    assert read.state == {"D": 33}


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04\x95"])
def test_damaged_files_are_one_line(tmp_path, content):
    (tmp_path / "damaged.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged\.pkl"):
        load_pickles(tmp_path / "damaged.pkl")


def test_latents_are_two_consecutive_arrays(tmp_path):
    mu, logvar = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    save_latents(tmp_path / "z.pkl", mu, logvar)
    with open(tmp_path / "z.pkl", "rb") as file:  # the layout that other programs read
        assert np.array_equal(pickle.load(file), mu)
        assert np.array_equal(pickle.load(file), logvar)
    read_mu, read_logvar = load_latents(tmp_path / "z.pkl")
    assert np.array_equal(read_mu, mu)
    assert np.array_equal(read_logvar, logvar)


def test_indices_must_be_whole_and_not_negative(tmp_path):
    def write(values):
        (tmp_path / "ind.pkl").write_bytes(pickle.dumps(values))
        return tmp_path / "ind.pkl"

    assert load_indices(write(np.array([3, 1, 2], np.int32))).tolist() == [3, 1, 2]
    assert load_indices(write([0, 5])).tolist() == [0, 5]
    assert load_indices(write([])).dtype == np.int64
    for wrong in ([0.5], [[1, 2]], [-1, 2], ["a"]):
        with pytest.raises(InputError, match=r"ind\.pkl"):
            load_indices(write(wrong))


def test_reference_files_are_read(shared):
    (config,) = load_pickles(shared / "golden" / "ckpt_vae8_10076" / "config.pkl")
    assert {"dataset_args", "lattice_args", "model_args", "training_args"} <= config.keys()
    assert len(load_indices(shared / "data" / "tomodrgn-tests" / "ptcl_ind_classE.pkl")) == 72
