"""Files made to do harm: each is refused at once in one line, with little memory, and no code in it runs."""

import gzip
import io
import pickle
import resource
import struct
import zipfile
from pathlib import Path

import analysis_fakes as fakes
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tomohet.analysis.run_folder import ParticleLatents, RunFolder, chosen_epoch
from tomohet.errors import InputError
from tomohet.files.arrays import read_arrays
from tomohet.files.atomic import write_pickle, write_yaml
from tomohet.files.mrc import read_sections, write_stack
from tomohet.files.pickles import load_array, load_indices, load_latents, load_pickles, save_latents
from tomohet.files.tables import read_csv, read_table
from tomohet.model.config_file.reading import read_settings, settings_of
from tomohet.model.imported import import_run
from tomohet.model.load import load_model, read_weights
from tomohet.particles.store import open_store
from tomohet.report.page import write_report

MEMORY = 3 * 2**30  # beyond what the process has: enough for any test, not for a bomb
ABSURD = (-4, 0, 10**5, 10**9, 10**30, 0.5, float("nan"), float("inf"), "text", None, [], {}, True)


@pytest.fixture(autouse=True)
def little_memory():
    """Limit the memory, so that an undetected bomb ends the test and not the machine."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def refused(call, *arguments):
    """The one line in which a call ends."""
    with pytest.raises(InputError) as mistake:
        call(*arguments)
    assert "\n" not in str(mistake.value) and len(str(mistake.value)) < 1000
    return str(mistake.value)


def _nested(levels: int, width: int) -> list:
    value = [0] * width
    for _ in range(levels):
        value = [value] * width
    return value


def _recursive() -> list:
    value = [1, 2]
    value.append(value)
    return value


def _called(module: str, name: str, *arguments: object) -> bytes:
    """A pickle that calls a function of a module."""
    body = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + body + b"R."


def _deep(n: int) -> bytes:
    return b"\x80\x02" + b"]" * n + b"a" * (n - 1) + b"."


PICKLES = {
    "shared lists": pickle.dumps(_nested(30, 10)),
    "a wide one": pickle.dumps(_nested(3, 500)),
    "part of itself": pickle.dumps(_recursive()),
    "dictionary in itself": b"\x80\x02}q\x00K\x01h\x00s.",
    "very deep": _deep(10**5),
    "memo entry": b"\x80\x02K\x01r\xff\xff\xff\xff.",
    "memo entry as text": b"I1\np4000000000\n.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b".",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 10**12) + b".",
    "byte array": b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b".",
    "short bytes": b"\x80\x03B\xff\xff\xff\x7f.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 10**12) + b"K\x01.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "negative length": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "number of a million digits": b"I" + b"9" * 10**6 + b"\n.",
    "bytearray(10^12)": _called("builtins", "bytearray", 10**12),
    "bytes(10^12)": _called("builtins", "bytes", 10**12),
    "list(range)": pickle.dumps(range(10**12), 2)[:-1] and _called("builtins", "list", range(10**12)),
    "set(range)": _called("builtins", "set", range(10**12)),
    "tuple(range)": _called("builtins", "tuple", range(10**12)),
    "frozenset(range)": _called("builtins", "frozenset", range(10**12)),
    "range": pickle.dumps(range(10**12)),
    "ndarray": _called("numpy", "ndarray", (10**12,)),
    "void": _called("numpy", "void", 10**12),
    "array to fill": b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06"
    + (10**12).to_bytes(6, "little") + b"\x85C\x01b\x87R.",
    "codec": _called("_codecs", "encode", "x" * 10, "hex"),
    "only stop": b".",
    "no stop": b"\x80\x02K\x01",
    "stack underrun": b"\x80\x02a.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pabc\n.",
    "protocol 99": b"\x80\x63K\x01.",
    "not a pickle": b"hello world",
    "empty": b"",
    "zeros": bytes(1000),
    "html": b"<!DOCTYPE html><html></html>",
    "text numbers": b"1\n2\n3\n",
    "a dictionary": pickle.dumps({"a": 1}),
    "none": pickle.dumps(None),
    "words": pickle.dumps(["a", "b"]),
    "mixed": pickle.dumps([1, [2], {}]),
    "fractions": pickle.dumps([0.5, 1.5]),
    "negative": pickle.dumps([-1, 2]),
    "huge number": pickle.dumps([10**30]),
    "huge index": pickle.dumps(np.array([2**62])),
    "not a number": pickle.dumps([float("nan")]),
    "complex": pickle.dumps(np.array([1j])),
    "objects": pickle.dumps(np.array([{"a": 1}, None], dtype=object)),
    "three dimensions": pickle.dumps(np.zeros((2, 2, 2), int)),
    "truth values": pickle.dumps(np.array([True, False])),
    "dates": pickle.dumps(np.array(["2024-01-01"], "M8[D]")),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("read", [load_indices, load_latents, read_settings], ids=lambda read: read.__name__)
def test_pickles(tmp_path, read, name):
    path = tmp_path / "bad.pkl"
    path.write_bytes(PICKLES[name])
    assert "bad.pkl" in refused(read, path)


@pytest.mark.parametrize("name", ["shared lists", "part of itself", "dictionary in itself"])
def test_whoever_prints_a_pickle(tmp_path, name):
    (tmp_path / "config.pkl").write_bytes(PICKLES[name])
    refused(fakes.run, "view_config", tmp_path / "config.pkl")


def test_arrays_and_lists_are_read_as_before(tmp_path):
    for number, value in enumerate(
        ([3, 1], (3, 1), np.array([3, 1], np.uint8), np.array([3, 1], np.int64), [np.int64(3), np.int32(1)])
    ):
        for protocol in (0, 2, 4, 5):
            path = tmp_path / f"{number}.pkl"
            path.write_bytes(pickle.dumps(value, protocol))
            assert load_indices(path).tolist() == [3, 1]
    path.write_bytes(pickle.dumps(range(4)))
    assert load_indices(path).tolist() == [0, 1, 2, 3]
    for protocol in (0, 2, 4, 5):
        path.write_bytes(pickle.dumps({"set": {1, 2}, "bytes": b"ab", "frozen": frozenset([3])}, protocol))
        assert load_pickles(path)[0] == {"set": {1, 2}, "bytes": b"ab", "frozen": frozenset([3])}
    path.write_bytes(pickle.dumps([[1.0, 2.0], [3.0, 4.0]]))
    assert load_latents(path)[0].tolist() == [[1, 2], [3, 4]]
    assert load_array(path).shape == (2, 2)


MODEL = {
    "kind": "nn", "zdim": 0, "players": 1, "pdim": 8, "activation": "relu", "pe_type": "gaussian",
    "pe_dim": 2, "feat_sigma": 0.5, "l_extent": 0.5, "hermitian": True, "n_basis": 0,
}  # fmt: skip
CONFIG = {"model_args": MODEL, "lattice_args": {"boxsize": 13}, "angpix": 4.0, "scale": 1.0}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Folder of a homogeneous network's weights."""
    from tomohet.model.vae import build_decoder

    folder = tmp_path_factory.mktemp("network")
    state = build_decoder(12, settings_of(CONFIG, "config.pkl").network.decoder, 0).state_dict()
    torch.save({"model_state_dict": state}, folder / "weights.pkl")
    write_pickle(folder / "config.pkl", CONFIG)
    load_model(folder / "weights.pkl", folder / "config.pkl")
    return folder


@pytest.mark.parametrize("value", ABSURD, ids=str)
@pytest.mark.parametrize(
    "key", ["boxsize", "angpix", "scale", "pdim", "players", "pe_dim", "pe_type", "activation"]
)
def test_configurations(network, tmp_path, key, value):
    harmless = {("players", 0), ("pe_dim", None), ("scale", 10**5), ("scale", 10**9), ("scale", 10**30)}
    harmless |= {("angpix", 0.5), ("scale", 0.5)}
    config = CONFIG | {"model_args": dict(MODEL), "lattice_args": dict(CONFIG["lattice_args"])}
    place = next((p for p in (config["model_args"], config["lattice_args"]) if key in p), config)
    place[key] = value
    write_pickle(tmp_path / "config.pkl", config)
    try:
        load_model(network / "weights.pkl", tmp_path / "config.pkl")
    except InputError as mistake:
        assert "\n" not in str(mistake) and len(str(mistake)) < 1000
    else:
        assert (key, value) in harmless


@pytest.mark.parametrize("key", ["model_args", "lattice_args", "angpix", "scale"])
@pytest.mark.parametrize("value", ["missing", None, [], "text"], ids=str)
def test_configurations_without_their_parts(network, tmp_path, key, value):
    config = {**CONFIG, key: value}
    if value == "missing":
        del config[key]
    write_pickle(tmp_path / "config.pkl", config)
    refused(load_model, network / "weights.pkl", tmp_path / "config.pkl")


@pytest.mark.parametrize("box", [300, 1000])
def test_a_model_larger_than_its_weights(network, tmp_path, box):
    model = {"kind": "linear", "zdim": 4000}
    write_pickle(
        tmp_path / "config.pkl", {**CONFIG, "model_args": model, "lattice_args": {"boxsize": box + 1}}
    )
    assert "do not belong together" in refused(load_model, network / "weights.pkl", tmp_path / "config.pkl")


WEIGHTS = {
    "list": [1, 2], "no state": {"a": 1}, "state of text": {"model_state_dict": {"a": "b"}},
    "state is text": {"model_state_dict": "b"}, "state is none": {"model_state_dict": None},
    "other sizes": {"model_state_dict": {"decoder.main.0.weight": torch.zeros(3, 3)}},
}  # fmt: skip


@pytest.mark.parametrize("name", [*WEIGHTS, "zip of text", "zip bomb", "a pickle", "empty"])
def test_weights(network, tmp_path, name):
    path = tmp_path / "weights.pkl"
    if name in WEIGHTS:
        torch.save(WEIGHTS[name], path)
    elif name.startswith("zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("weights/data.pkl", bytes(10**8) if name == "zip bomb" else "text")
    else:
        path.write_bytes(pickle.dumps([1]) if name == "a pickle" else b"")
    refused(load_model, path, network / "config.pkl")


@pytest.mark.parametrize("name", ["dict", "object", "not numbers", "short", "cut", "text", "header"])
def test_archives_of_arrays(tmp_path, name):
    path = tmp_path / "a.npz"
    content = {
        "dict": {"b": np.zeros(2)}, "object": {"a": np.array([{}], object)},
        "not numbers": {"b": np.array("x")},
    }.get(name, {"a": np.zeros(1000)})  # fmt: skip
    np.savez(path, **content)
    if name == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif name == "text":
        path.write_text("no archive")
    elif name == "short":
        path.write_bytes(b"PK")
    elif name == "header":
        stream = io.BytesIO()
        np.save(stream, np.zeros(3))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", stream.getvalue().replace(b"(3,)", b"(9999999999999,)"[:4]))
    refused(read_arrays, path, ["a"])


DESCRIBED = ("format", "box", "pixel_size_A", "scale", "digest", "preparation", "inverted", "counts")


@pytest.fixture
def store(tiny_store, tmp_path):
    """A copy of a store in which users have put what they like: it has no list of digests."""
    folder = tmp_path / "store"
    folder.mkdir()
    for path in tiny_store.iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


def rewrite(path, content):
    """Put other content in the place of a link."""
    path.unlink()
    write_yaml(path, content) if isinstance(content, dict) else path.write_text(content)


@pytest.mark.parametrize("value", ABSURD, ids=str)
@pytest.mark.parametrize("key", DESCRIBED)
def test_descriptions_of_stores(store, key, value):
    description = yaml.safe_load((store / "store.yaml").read_text())
    rewrite(store / "store.yaml", description | {key: value})
    harmless = {
        "pixel_size_A": (0.5,),
        "scale": (10**5, 10**9, 10**30, 0.5),
        "digest": ("text",),
        "inverted": ([],),
    }
    if value not in harmless.get(key, ()):
        refused(open_store, store)


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "just text", "a: [", "\x00", "1", "!!python/name:os.system", "- " * 5000]
)
def test_a_description_that_is_no_mapping(store, text):
    rewrite(store / "store.yaml", text)
    refused(open_store, store)


@pytest.mark.parametrize("table", ["particles.parquet", "images.parquet"])
@pytest.mark.parametrize(
    "change", ["no particle", "text", "fractions", "reversed", "too many", "empty", "no table"]
)
def test_tables_of_stores(store, table, change):
    frame = pd.read_parquet(store / table)
    (store / table).unlink()
    if change == "no table":
        (store / table).write_text("particle\n1\n")
    else:
        changed = {
            "no particle": lambda t: t.drop(columns="particle"),
            "text": lambda t: t.assign(particle=t["particle"].astype(str)),
            "fractions": lambda t: t.assign(particle=t["particle"] + 0.5),
            "reversed": lambda t: t.assign(particle=t["particle"].to_numpy()[::-1]),
            "too many": lambda t: t.assign(particle=t["particle"] + 10**6),
            "empty": lambda t: t.iloc[:0],
        }[change](frame)
        changed.to_parquet(store / table)
    refused(open_store, store)


@pytest.mark.parametrize("value", ["text", 0.0, float("nan"), None, "drop"], ids=str)
def test_a_store_without_a_scale_of_the_noise(store, value):
    frame = pd.read_parquet(store / "images.parquet")
    (store / "images.parquet").unlink()
    frame = frame.drop(columns="noise_scale") if value == "drop" else frame.assign(noise_scale=value)
    frame.to_parquet(store / "images.parquet")
    assert "noise_scale" in refused(open_store, store)


@pytest.mark.parametrize("header", ["'<f8'", "'|O'", "True", "(10**9,", "lambda: 0", "'<f4' * 10**9"])
def test_headers_of_images(store, header):
    data = (store / "images.npy").read_bytes()
    (store / "images.npy").unlink()
    text = f"{{'descr': {header}, 'fortran_order': False, 'shape': (9, 9, 2), }}".ljust(117).encode() + b"\n"
    (store / "images.npy").write_bytes(data[:8] + struct.pack("<H", len(text)) + text + data[128:])
    refused(open_store, store)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '"epoch"', '{"epoch": "x"}', '{"epoch": 1e99}', "[" * 10**5, "\xff"]
)
def test_the_chosen_epoch(tmp_path, text):
    (tmp_path / "convergence.json").write_text(text, encoding="latin1")
    assert "convergence.json" in refused(chosen_epoch, tmp_path / "convergence.json")


@pytest.mark.parametrize(
    "content", ["", "epoch\n", "epoch,gen,kld,total\na,b,c,d\n", "\0\0", 'a,"b\n', "1,2\n3,4,5\n6"]
)
def test_losses(tmp_path, content):
    (tmp_path / "loss.csv").write_text(content)
    kinds = dict.fromkeys(("epoch", "gen", "kld", "total"), "numbers")
    if content != "epoch\n":
        refused(read_csv, tmp_path / "loss.csv", kinds)


@pytest.mark.parametrize(
    "particles", ["text", 3, [[1], [2]], ["a", "b"], [-1, 2], [0.5, 1.0], [10**30, 1], [None, 1]]
)
def test_particles_of_a_configuration(tmp_path, particles):
    write_pickle(tmp_path / "config.pkl", {"particles": particles})
    save_latents(tmp_path / "z.train.pkl", np.zeros((2, 1)), np.zeros((2, 1)))
    refused(lambda: ParticleLatents.read(tmp_path / "z.train.pkl", RunFolder(tmp_path).particles()))


@pytest.mark.parametrize("needed", ["particle", "volume"])
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"PAR1" + b"\xff" * 99 + b"PAR1", b"a,b"]
)
def test_tables(tmp_path, needed, content):
    (tmp_path / "t.parquet").write_bytes(content)
    assert "t.parquet" in refused(read_table, tmp_path / "t.parquet", {needed: "whole numbers"})


@pytest.mark.parametrize("behind", [10**5, 3 * 10**8])
def test_a_gzip_stream_longer_than_its_stack(tmp_path, behind):
    write_stack(tmp_path / "s.mrcs", np.zeros((2, 8, 8), np.float32), 1.0)
    with gzip.open(tmp_path / "s.mrcs.gz", "wb", compresslevel=1) as file:
        file.write((tmp_path / "s.mrcs").read_bytes())
        for _ in range(behind // 10**5):
            file.write(bytes(10**5))
    assert "more than" in refused(read_sections, tmp_path / "s.mrcs.gz", np.array([0]))


@pytest.mark.parametrize("shape", [(2**31 - 1,) * 3, (10**5, 10**5, 10**5), (10**6, 8, 8)])
def test_a_small_gzip_file_that_announces_much(tmp_path, shape):
    write_stack(tmp_path / "s.mrcs", np.zeros((2, 8, 8), np.float32), 1.0)
    content = bytearray((tmp_path / "s.mrcs").read_bytes())
    content[:12] = struct.pack("<3i", *shape[::-1])
    (tmp_path / "s.mrcs.gz").write_bytes(gzip.compress(bytes(content)))
    assert "truncated" in refused(read_sections, tmp_path / "s.mrcs.gz", np.array([0]))


PUBLISHED = {
    "dataset_args": {"norm": [0, 1.0]},
    "lattice_args": {"boxsize": 13, "extent": 0.5},
    "model_args": {
        "zdim": None, "hidden_layers": 1, "hidden_dim": 8, "activation": "relu", "pe_type": "gaussian",
        "pe_dim": 2, "feat_sigma": 0.5,
    },
    "training_args": {}, "starfile_args": {}, "angpix": 4.0, "seed": 0,
}  # fmt: skip


@pytest.fixture
def published(network, tmp_path):
    """A run of tomoDRGN's train_nn, which can be imported."""
    run = tmp_path / "run"
    run.mkdir()
    state = read_weights(network / "weights.pkl")["model_state_dict"]
    torch.save({"model_state_dict": state}, run / "weights.pkl")
    write_pickle(run / "config.pkl", PUBLISHED)
    import_run(run, tmp_path / "whole")
    return run


@pytest.mark.parametrize("value", ["text", None, [], {}, -3, 10**5, 10**12, float("nan"), "missing"], ids=str)
@pytest.mark.parametrize(
    "key", ["dataset_args.norm", "lattice_args.boxsize", "model_args.hidden_layers", "model_args.hidden_dim",
            "model_args.pe_type", "model_args.activation", "angpix"],
)  # fmt: skip
def test_imported_runs(published, tmp_path, key, value):
    section, _, name = key.rpartition(".")
    config = {name: dict(part) if isinstance(part, dict) else part for name, part in PUBLISHED.items()}
    place = config[section] if section else config
    if value == "missing":
        del place[name]
    else:
        place[name] = value
    write_pickle(published / "config.pkl", config)
    refused(import_run, published, tmp_path / "out")


@pytest.mark.parametrize(
    "section", ["dataset_args", "lattice_args", "model_args", "training_args", "starfile_args"]
)
@pytest.mark.parametrize("value", [[], "text", None, 3], ids=str)
def test_imported_runs_without_their_sections(published, tmp_path, section, value):
    write_pickle(published / "config.pkl", PUBLISHED | {section: value})
    refused(import_run, published, tmp_path / "out")


NAMES = ("config.yaml", "validation/validation.json", "prepared/store.yaml", "all/subset/summary.json",
         "all/linear/summary.json", "all/train_vae/summary.json", "all/convergence/convergence.json",
         "all/siren/summary.json", "all/maven/summary.json", "all/analyze/summary.json")  # fmt: skip


@pytest.mark.parametrize("text", ["[1, 2]", "3", '"text"', "{", "", "[[[]]]"])
def test_the_report_survives_what_is_no_mapping(tmp_path, text):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "config.yml").write_text("rounds: [all]")
    write_report(tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert text == "" or "could not be read" in page
