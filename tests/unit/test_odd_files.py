"""Unexpected kinds of files: pipes, devices, bombs in YAML and archives, atoms without positions."""

import json
import os
import signal
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import yaml

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.maven.units import units_of_model
from tomohet.analysis.siren.cnn import load_network
from tomohet.errors import InputError
from tomohet.files import leftovers
from tomohet.files.arrays import read_arrays
from tomohet.files.grids import read_grid
from tomohet.files.mrc import HEADER_DTYPE, read_volume, stack_header
from tomohet.files.star import read_star
from tomohet.files.tables import read_csv
from tomohet.files.text import read_json, read_yaml
from tomohet.files.volume_list import LIST, VolumeList
from tomohet.particles.same_input import Origin, refuse_other_input, same_input
from tomohet.physics.molmap import read_model
from tomohet.report.reading import Reader
from tomohet.rounds.config import complete_config
from tomohet.rounds.config import read_config as workflow_config
from tomohet.rounds.inputs import linked_files, stack_digest
from tomohet.simulation.config import read_config

READERS = {
    "arrays": read_arrays, "volume": read_volume, "stack": stack_header, "star": read_star, "json": read_json,
    "yaml": read_yaml, "simulation": lambda path: read_config(path, {}),
    "volumes": lambda path: open_ensemble(path.parent), "leftovers": leftovers._listed,
}  # fmt: skip


@pytest.fixture(autouse=True)
def soon():
    """Whoever waits for a pipe is stopped."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("still waiting"))
    signal.alarm(20)
    yield
    signal.alarm(0)


def refused(call, *arguments) -> str:
    with pytest.raises(InputError) as mistake:
        call(*arguments)
    assert "\n" not in str(mistake.value) and len(str(mistake.value)) < 1000
    return str(mistake.value)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_no_file(tmp_path, name, kind):
    path = tmp_path / (LIST if name == "volumes" else "odd")
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    assert "pipe or device" in refused(READERS[name], path)


def test_the_dry_run_waits_for_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "p.star")
    assert linked_files(str(tmp_path / "p.star"), None) == []
    assert stack_digest(str(tmp_path / "p.star"), None)


@pytest.mark.parametrize("name", ["volume", "star", "yaml"])
def test_a_name_with_a_nul_is_none(tmp_path, name):
    refused(READERS[name], tmp_path / "a\0b")


def laughs(levels: int) -> str:
    names = [f"l{level}" for level in range(levels)]
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    return "\n".join(lines) + "\n"


YAML = {
    "billion laughs": laughs(12), "part of itself": "rounds: &r\n  all: *r\n", "deep": "- " * 5000,
    "no UTF-8": b"\xff\xfe a: 1", "no date": "seed: 2020-99-99", "number": "box: !!int text",
    "truth value": "box: !!bool x", "time": "box: !!timestamp x", "digits": "box: " + "9" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_yaml_that_harms(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (workflow_config, lambda path: read_config(path, {})):
        assert "a.yaml" in refused(read, path)
    reader = Reader(tmp_path)
    assert reader.yaml(path) == {} and len(reader.problems) == 1


def test_snakemakes_own_reading_of_a_bomb():
    refused(complete_config, yaml.safe_load(laughs(12)))


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5], ids=["lists", "objects"])
def test_deep_lists_of_files(tmp_path, text):
    (tmp_path / ".x.files").write_text(text)
    assert leftovers._listed(tmp_path / ".x.files") == set()
    (tmp_path / LIST).write_text(text)
    assert LIST in refused(open_ensemble, tmp_path)


def test_a_list_of_countless_volumes_is_replaced_at_once(tmp_path):
    section = {"content": "other", "count": 10**12, "stack": None, "checksums": {}}
    (tmp_path / LIST).write_text(json.dumps({"vol_": section}))
    for name in ("vol_007.mrc", "vol_1234.mrc", "vol_7.mrc", "vol_0007.mrc", "my_vol_007.mrc"):
        (tmp_path / name).touch()
    VolumeList(tmp_path, "vol_", "new", 1).start(range(1))
    kept = sorted(path.name for path in tmp_path.glob("*.mrc"))
    assert kept == ["my_vol_007.mrc", "vol_0007.mrc", "vol_7.mrc"]  # no names that this program writes


@pytest.mark.parametrize("stack", ["..", ".", "a/b", "a\0b"])
def test_a_list_names_files_of_its_folder(tmp_path, stack):
    section = {"content": "other", "count": 1, "stack": stack, "checksums": {"0": 1}}
    (tmp_path / LIST).write_text(json.dumps({"vol_": section}))
    refused(VolumeList(tmp_path, "vol_", "new", 1).start, range(1))


def test_a_vast_extended_header_is_not_read(tmp_path):
    header = np.zeros((), HEADER_DTYPE)
    for name, value in {"nx": 4, "ny": 4, "nz": 4, "mode": 2, "nsymbt": 2**31 - 1}.items():
        header[name] = value
    (tmp_path / "a.mrc").write_bytes(header.tobytes() + bytes(256))
    assert "truncated" in refused(read_grid, tmp_path / "a.mrc")


def test_an_archive_of_zeros_that_inflates(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.npy", bytes(2**28 + 1))
    assert "decompressed" in refused(read_arrays, tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"\x80\x02a."], ids=["empty", "stack underrun"])
def test_weights_of_sirens_network(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    refused(load_network, tmp_path / "w.pth")


@pytest.mark.parametrize("x", ["nan", "inf", "9e30", "abc", "********"])
def test_atoms_that_are_nowhere(tmp_path, x):
    places = ("1.0", x, "2.0")
    lines = (
        f"ATOM  {i:5d}  CA  ALA A{i:4d}    {place:>8}{place:>8}{place:>8}  1.00  0.00           C  \n"
        for i, place in enumerate(places, start=1)
    )
    (tmp_path / "m.pdb").write_text("".join(lines) + "END\n")
    refused(read_model, [tmp_path / "m.pdb"])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'"' * 1000], ids=["empty", "no text", "quotes"])
def test_a_table_of_units(tmp_path, content):
    atom = "ATOM      1  CA  ALA A   1       1.000   1.000   1.000  1.00  0.00           C  \nEND\n"
    (tmp_path / "m.pdb").write_text(atom)
    (tmp_path / "units.csv").write_bytes(content)
    assert "units.csv" in refused(units_of_model, [tmp_path / "m.pdb"], tmp_path / "units.csv", True, True)
    (tmp_path / "m.cif").write_text("")
    refused(read_model, [tmp_path / "m.cif"])


def test_a_table_of_countless_columns(tmp_path):
    columns = range(10**5)
    (tmp_path / "a.csv").write_text(",".join(map(str, columns)) + "\n")
    assert "100000 columns" in refused(read_csv, tmp_path / "a.csv")


def test_a_model_belongs_to_stores_of_the_same_particle_files():
    store = {"digest": "1", "inputs": {"p.star": "b", "set.star": "a"}}
    model = Origin.of_store(store)
    assert same_input(model, store) and same_input(Origin(), store)
    assert same_input(model, {"digest": "2", "inputs": {"moved.star": "a", "p.star": "b"}})  # other options
    other = {"digest": "2", "inputs": {"p.star": "c"}}
    assert not same_input(model, other) and not same_input(Origin("1"), other)
    assert "linear" in refused(refuse_other_input, model, other, "linear", "prepared")
