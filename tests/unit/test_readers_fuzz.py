"""Every reader on damaged files: what is read is well formed, and what is not is refused in one line.

Each reader gets a small valid file whose bytes are changed, cut out, doubled, put in or swapped. STAR files
have a test of their own (`test_star_fuzz`). TOMOHET_FUZZ=20000 tries as many random files per reader.
"""

import bz2
import gzip
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomohet.analysis.maven.units import units_of_model
from tomohet.analysis.run_folder import chosen_epoch
from tomohet.errors import InputError
from tomohet.files import digests
from tomohet.files.arrays import read_arrays
from tomohet.files.grids import read_grid
from tomohet.files.mrc import read_header, read_sections, read_volume, write_stack, write_volume
from tomohet.files.pickles import load_indices, load_latents, load_pickles
from tomohet.files.tables import read_csv, read_table
from tomohet.files.text import read_json, read_yaml
from tomohet.files.volume_list import listed_volumes
from tomohet.model.config_file.reading import read_settings
from tomohet.model.load import read_weights
from tomohet.physics.molmap import read_model
from tomohet.rounds.config import read_config

MANY = int(os.environ.get("TOMOHET_FUZZ", "0"))
TRIED = settings(
    max_examples=MANY or 40,
    deadline=None,
    derandomize=not MANY,
    suppress_health_check=list(HealthCheck),
    database=None,
)
ODD = [
    b"", b"\0", b"\xff", b"\n", b"-", b"9" * 12, b"nan", b"1e999", b'"', b"[", b"{", b"}", b":", b"\x80",
    b"\0" * 64, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f",
]  # fmt: skip


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The bytes changed in one to four places."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.sampled_from([0, 1, 1, 1, 2, 4, 8, 60, 10**6]))
        cut = content[start:stop]
        flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in cut[:1]) + cut[1:]
        new = draw(
            st.one_of(
                st.sampled_from(ODD),
                st.binary(max_size=8),
                st.just(cut * 2),
                st.just(flipped),
                st.just(cut[::-1]),
            )
        )
        content = content[:start] + new + content[stop:]
    return content


ATOMS = "".join(
    f"ATOM  {i:5d}  CA  GLY {'AB'[i % 2]}{i:4d}    {3.0 * i:8.3f}{-2.5 * i:8.3f}{1.25 * i:8.3f}"
    "  1.00 10.00           C\n"
    for i in range(1, 7)
)
CONFIGURATION = {
    "dataset": "d", "simulate": {"n_particles": 10, "snr": 0.1}, "train": {"zdim": 2, "epochs": 3},
    "rounds": {"all": {}, "half": {"parent": "all", "select": "kmeans <= 1"}},
}  # fmt: skip
NETWORK = {
    "kind": "nn", "zdim": 0, "players": 1, "pdim": 8, "activation": "relu", "pe_type": "gaussian",
    "pe_dim": 2, "feat_sigma": 0.5, "l_extent": 0.5, "hermitian": True, "n_basis": 0,
}  # fmt: skip
SETTINGS = {"model_args": NETWORK, "lattice_args": {"boxsize": 13}, "angpix": 4.0, "scale": 1.0}
TABLE = pd.DataFrame({"particle": [0, 1, 2], "z": [0.5, np.nan, -2.0], "tomogram": ["a", "b", "b"]})


def _pickles(path: Path) -> None:
    path.write_bytes(pickle.dumps(np.arange(6.0, dtype=np.float32).reshape(3, 2)) * 2)


def _compressed(opener) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        plain = path.with_suffix(".plain.mrcs")
        write_stack(plain, np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32), 2.0)
        with opener(path, "wb") as file:
            file.write(plain.read_bytes())
        plain.unlink()

    return write


def _cif(path: Path) -> None:
    path.write_text(gemmi.read_pdb_string(ATOMS).make_mmcif_document().as_string())


def _volume_list(path: Path) -> None:
    section = {
        "written": True,
        "count": 2,
        "latents": "ab",
        "checksums": {"vol_000.mrc": 1, "vol_001.mrc": 2},
    }
    path.write_text(json.dumps({"vol_": section}))


# Of each reader: the name of the file, who writes a valid one, and the reader.
READERS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "volume": ("v.mrc", lambda p: write_volume(p, np.ones((6, 6, 6), np.float32), 2.0), read_volume),
    "grid": ("v.mrc", lambda p: write_volume(p, np.ones((4, 4, 4), np.float32), 2.0), read_grid),
    "stack": (
        "s.mrcs",
        lambda p: write_stack(p, np.ones((3, 8, 8), np.float32), 2.0),
        lambda p: read_sections(p, np.arange(read_header(p).shape[0] % 1000)),
    ),
    "gzip stack": ("s.mrcs.gz", _compressed(gzip.open), lambda p: read_sections(p, np.array([0, 2]))),
    "bzip2 stack": ("s.mrcs.bz2", _compressed(bz2.open), lambda p: read_sections(p, np.array([0, 2]))),
    "latents": ("z.pkl", _pickles, load_latents),
    "indices": ("i.pkl", lambda p: p.write_bytes(pickle.dumps([1, 2, 30])), load_indices),
    "pickle protocol 0": (
        "a.pkl",
        lambda p: p.write_bytes(pickle.dumps([SETTINGS, {1, 2}], 0)),
        load_pickles,
    ),
    "configuration of a model": (
        "config.pkl",
        lambda p: p.write_bytes(pickle.dumps(SETTINGS)),
        read_settings,
    ),
    "weights": ("w.pkl", lambda p: torch.save({"model_state_dict": {"a": torch.ones(4)}}, p), read_weights),
    "arrays": ("a.npz", lambda p: np.savez_compressed(p, a=np.arange(9), b=np.eye(3)), read_arrays),
    "plain arrays": ("a.npz", lambda p: np.savez(p, a=np.arange(9), b=np.array("x")), read_arrays),
    "table": ("t.parquet", TABLE.to_parquet, lambda p: read_table(p, {"particle": "whole numbers"})),
    "csv": ("t.csv", lambda p: TABLE.to_csv(p, index=False), lambda p: read_csv(p, {"z": "numbers"})),
    "pdb": ("m.pdb", lambda p: p.write_text(ATOMS + "END\n"), read_model),
    "cif": ("m.cif", _cif, read_model),
    "units": (
        "u.csv",
        lambda p: p.write_text('unit,chain,residues,threshold,colour\nx,A,1-3,0.5,#ff0000\ny,B,"2,4-6",,\n'),
        lambda p: units_of_model([p.with_name("m.pdb")], p),
    ),
    "json": ("a.json", lambda p: p.write_text(json.dumps({"a": [1, {"b": None}], "c": "d"})), read_json),
    "yaml": ("a.yaml", lambda p: p.write_text(yaml.safe_dump(SETTINGS)), read_yaml),
    "epoch": ("convergence.json", lambda p: p.write_text(json.dumps({"epoch": 3, "why": "x"})), chosen_epoch),
    "list of volumes": ("volumes.json", _volume_list, lambda p: listed_volumes(p.parent)),
    "list of digests": (
        ".digests",
        lambda p: p.write_text(f"{'0' * 64} siren a.txt\n- siren b.txt\n"),
        lambda p: digests.is_there(p.parent / "a.txt"),
    ),
}


@pytest.fixture(scope="module", params=READERS)
def reader(request, tmp_path_factory):
    """The path of a reader's file, the content of a valid one, and the reader."""
    name, write, read = READERS[request.param]
    path = tmp_path_factory.mktemp("fuzz") / name
    (path.parent / "m.pdb").write_text(ATOMS)
    write(path)
    content = path.read_bytes()
    if request.param not in ("list of volumes", "list of digests"):  # which name files that are not there
        read(path)
    return path, content, read


def test_damaged_files_are_read_or_refused_in_one_line(reader):
    path, whole, read = reader

    @TRIED
    @given(damaged(whole))
    def each(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except InputError as refusal:
            assert "\n" not in str(refusal) and path.parent.name in str(refusal), str(refusal)
            assert len(str(refusal)) < 1500

    each()


class Built:
    """An object that is pickled as a call of `maker` with `arguments`, and then a state."""

    def __init__(self, maker, arguments, state) -> None:
        self.made = maker, arguments, state

    def __reduce__(self):
        return self.made


def forged(shape=(2,), kind="f4", size=-1, values=bytes(8)) -> bytes:
    """An array whose state may say anything; numpy believes the size of a type, and shapes of objects."""
    made = Built(np.dtype, (kind, False, True), (3, "<", None, None, None, size, size, 0))
    make, arguments, _ = np.zeros(1).__reduce__()
    return pickle.dumps(Built(make, arguments, (1, shape, made, False, values)))


FOUND = {
    "an array's type of another size": ("z.pkl", forged(size=4000), load_pickles),
    "an array's shape of more values": ("z.pkl", forged(shape=(2000,)), load_pickles),
    "an array's shape that is negative": ("z.pkl", forged(shape=(-1, -2)), load_pickles),
    "numbers taken for objects": ("z.pkl", forged(kind="O", values=[1, 2]), load_pickles),
    "an archive of several disks": (
        "w.pkl",
        b"PK\x05\x06"
        + b"\1\0" * 2
        + bytes(14)
        + b"PK\x06\x07"
        + bytes(12)
        + b"\2\0\0\0"
        + b"PK\x05\x06"
        + bytes(18),
        read_weights,
    ),
    "a table of units without rows": (
        "u.csv",
        b"unit,chain\n",
        lambda p: units_of_model([p.with_name("m.pdb")], p),
    ),
    "a name of a column with a new line": (
        "t.csv",
        b'"a\nb",c\n1,2\n',
        lambda p: read_csv(p, {"z": "numbers"}),
    ),
    "a chain's name that is not text": ("m.pdb", ATOMS.encode().replace(b"GLY A", b"GLY \x80"), read_model),
    "a round's parent that is a list": (
        "c.yaml",
        b"dataset: d\nrounds: {all: {}, half: {parent: [all]}}\n",
        read_config,
    ),
    "a key that is missing": ("c.yaml", b"rounds: {all: {}}\n", read_config),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_random_files_have_found(tmp_path, case):
    name, content, read = FOUND[case]
    (tmp_path / "m.pdb").write_text(ATOMS)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(refusal.value) and "found {" not in str(refusal.value)
    assert read is read_config or "\n" not in str(refusal.value)


def test_arrays_of_every_plain_type_are_read(tmp_path):
    values = [
        np.arange(6, dtype=kind).reshape(2, 3)[:, ::-1]
        for kind in ("f2", ">f4", "<f8", "i1", ">i8", "u2", "c8")
    ]
    values += [
        np.array([True, False]),
        np.array(["a", "µb"]),
        np.array([b"ab"]),
        np.zeros((0, 4)),
        np.array(3.0),
    ]
    values += [
        np.asfortranarray(np.eye(3)),
        np.array([1, "x", None], dtype=object),
        np.float32(2.5),
        np.int64(-1),
    ]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(values, protocol))
        (found,) = load_pickles(tmp_path / "a.pkl")
        for one, other in zip(found, values, strict=True):
            native = other.dtype.newbyteorder("=")  # numpy may swap the bytes
            assert one.dtype.newbyteorder("=") == native and type(one) is type(other)
            np.testing.assert_array_equal(one, other)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(), st.text(max_size=8),
        st.sampled_from([10**30, -1, 0, "relu", "gaussian", "all"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@st.composite
def changed(draw, content: dict) -> dict:
    """A mapping one or two of whose values, at any depth, are others, missing, or new."""
    content = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 2))):
        place = content
        while True:
            key = draw(st.sampled_from([*place, "new"]))
            if isinstance(place.get(key), dict) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            break
        if draw(st.integers(0, 4)) == 0:
            place.pop(key, None)
        else:
            place[key] = draw(VALUES)
    return content


@TRIED
@given(changed(SETTINGS))
def test_any_value_in_a_models_configuration_is_taken_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "changed.pkl"
    path.write_bytes(pickle.dumps(content))
    _or_one_line(read_settings, path)


@TRIED
@given(st.one_of(changed(CONFIGURATION), damaged(yaml.safe_dump(CONFIGURATION).encode())))
def test_any_value_in_a_workflows_configuration_is_taken_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    try:
        read_config(path)
    except InputError as refusal:  # one line for each mistake
        assert str(path) in str(refusal) and all(len(line) < 1500 for line in str(refusal).splitlines())


def _or_one_line(read, path: Path) -> None:
    try:
        read(path)
    except InputError as refusal:
        assert "\n" not in str(refusal) and path.name in str(refusal) and len(str(refusal)) < 1500
