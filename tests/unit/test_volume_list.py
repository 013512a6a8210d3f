"""The list of the volumes of a folder.

Leftovers of an earlier run are removed, and wrong volumes are named.
"""

import os
import shutil
import zlib

import numpy as np
import pandas as pd
import pytest
from analysis_fakes import run

from tomohet.analysis.ensemble import open_ensemble
from tomohet.analysis.siren.independence import latents_beside, population_beside
from tomohet.analysis.volume_space import find_volumes, mean_and_highest
from tomohet.errors import InputError
from tomohet.files.atomic import write_json, write_parquet, write_pickle
from tomohet.files.mrc import HEADER_BYTES, read_volume, write_volume
from tomohet.files.volume_list import LIST, checksum, listed_volumes
from tomohet.report.collect import collect

LATENTS = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tiny_training):
    return tiny_training


def decode(model, folder, z, *options):
    write_pickle(folder.with_suffix(".z.pkl"), z)
    run(
        "eval_vol", "--workdir", model, "--epoch", 0, "--zfile", folder.with_suffix(".z.pkl"), "-o", folder,
        "--downsample", 12, *options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def decoded(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoded") / "volumes"
    decode(model, folder, LATENTS)
    return folder


@pytest.fixture
def volumes(decoded, tmp_path):
    return shutil.copytree(decoded, tmp_path / "volumes")


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".mrc", ".mrcs"))


def numbered(*numbers):
    return [f"vol_{number:03d}.mrc" for number in numbers]


READERS = {
    "components": lambda source: mean_and_highest(find_volumes(source)),
    "ensemble": lambda source: open_ensemble(source).mean(),
}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())


def test_the_checksum_is_that_of_the_voxels_in_the_file(volumes):
    """CRC-32 of the bytes behind the header, which the file's writer and any other program agree on."""
    path = volumes / "vol_003.mrc"
    assert listed_volumes(volumes).checksums[3] == zlib.crc32(path.read_bytes()[HEADER_BYTES:])
    assert checksum(read_volume(path)[0]) == listed_volumes(volumes).checksums[3]


@readers
def test_whole_sets_are_read_as_ever(volumes, read):
    read(volumes)
    assert listed_volumes(volumes).numbers == list(range(9))


@readers
def test_a_folder_without_a_list_is_read_by_its_names(volumes, read):
    (volumes / LIST).unlink()
    (volumes / "vol_004.mrc").unlink()
    shutil.copy(volumes / "vol_000.mrc", volumes / "other_300.mrc")
    read(volumes)
    assert listed_volumes(volumes).numbers == [0, 1, 2, 3, 5, 6, 7, 8, 300]


def test_a_second_run_with_fewer_latents_leaves_no_volume_of_the_first(model, volumes):
    shutil.copy(volumes / "vol_000.mrc", volumes / "mine.mrc")
    decode(model, volumes, LATENTS[:4])
    assert names(volumes) == ["mine.mrc", *numbered(*range(4))]
    assert len(find_volumes(volumes).paths) == len(open_ensemble(volumes)) == 4


def test_a_stack_takes_the_place_of_single_volumes_and_they_of_it(model, volumes):
    decode(model, volumes, LATENTS, "--stack")
    assert names(volumes) == ["vol.mrcs"]
    for read in READERS.values():
        read(volumes / "vol.mrcs")
    decode(model, volumes, LATENTS[:3])
    assert names(volumes) == numbered(0, 1, 2)


def test_volumes_of_another_prefix_stay(model, volumes):
    decode(model, volumes, LATENTS[:2], "--prefix", "other_")
    assert names(volumes) == [*(f"other_{n:03d}.mrc" for n in range(2)), *numbered(*range(9))]
    with pytest.raises(InputError, match="without a folder"):
        decode(model, volumes, LATENTS[:2], "--prefix", "../other_")


def test_parts_make_one_set_that_is_read_when_all_are_there(model, tmp_path):
    folder = tmp_path / "volumes"
    decode(model, folder, LATENTS, "--part", "2/2")
    with pytest.raises(InputError, match=r"vol_000.mrc: 5 of 9 volumes are written .* or its other parts"):
        find_volumes(folder)
    decode(model, folder, LATENTS, "--part", "1/2")
    assert len(find_volumes(folder).paths) == 9
    decode(model, folder, LATENTS + 1, "--part", "1/2")
    assert names(folder) == numbered(*range(4)), "volumes of other latents are no part of this set"


def one_bit(path):
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 1001] ^= 1
    path.write_bytes(content)


def of_another_run(path):
    write_volume(path, read_volume(path)[0] * 1.01, read_volume(path)[1])


@readers
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (os.unlink, "this volume is missing"),
        (one_bit, "volume 5 is not the one that was written there"),
        (of_another_run, "volume 5 is not the one that was written there"),
        (lambda path: shutil.copy(path, path.with_name("vol_009.mrc")), "not one of the 9 volumes"),
        (lambda path: path.with_name(LIST).write_text("{"), "damaged"),
        (lambda path: write_json(path.with_name(LIST), {"../x": {"count": 1}}), "damaged"),
    ],
    ids=["deleted", "one bit", "foreign", "extra", "list cut", "list of something else"],
)
def test_a_wrong_volume_ends_in_one_line(volumes, read, harm, message):
    harm(volumes / "vol_005.mrc")
    with pytest.raises(InputError, match=message) as error:
        read(volumes)
    assert str(volumes) in str(error.value) and "\n" not in str(error.value)


@readers
def test_one_bit_of_a_stack_is_seen(model, tmp_path, read):
    decode(model, tmp_path, LATENTS, "--stack")
    one_bit(tmp_path / "vol.mrcs")
    with pytest.raises(InputError, match="vol.mrcs: volume 0 is not the one"):
        read(tmp_path / "vol.mrcs")


def test_a_list_removes_nothing_outside_its_folder(model, tmp_path):
    (tmp_path / "mine.mrcs").write_text("mine")
    (tmp_path / "volumes").mkdir()
    section = {"content": "", "count": 1, "stack": "../mine.mrcs", "checksums": {}}
    write_json(tmp_path / "volumes" / LIST, {"vol_": section})
    with pytest.raises(InputError, match="leads out of the folder"):
        decode(model, tmp_path / "volumes", LATENTS)
    assert (tmp_path / "mine.mrcs").read_text() == "mine"


def test_the_report_says_which_volumes_are_wrong(volumes):
    root = volumes.parent
    (root / "all").mkdir()
    volumes.rename(root / "all" / "volumes")
    (root / "all" / "volumes" / "vol_005.mrc").unlink()
    found = collect(root)
    assert found.rounds[0].volumes == []
    assert any("vol_005.mrc: this volume is missing" in line for line in found.problems)


def test_siren_takes_no_latents_and_no_weights_of_other_volumes(volumes):
    numbers = np.arange(9)
    assert latents_beside(volumes, numbers) is None and population_beside(volumes, numbers) is None
    write_pickle(volumes / "z.pkl", LATENTS)
    np.testing.assert_array_equal(latents_beside(volumes, numbers), LATENTS)
    with pytest.raises(InputError, match="assignment.parquet: no such file, though z.pkl is in the"):
        population_beside(volumes, numbers)
    write_parquet(
        volumes / "assignment.parquet", pd.DataFrame({"particle": range(18), "volume": [*numbers] * 2})
    )
    assert population_beside(volumes, numbers).tolist() == [2] * 9
    write_parquet(volumes / "assignment.parquet", pd.DataFrame({"particle": range(5), "volume": range(5)}))
    with pytest.raises(InputError, match="particles to 5 volumes, which are not the 9 given"):
        population_beside(volumes, numbers)
    write_pickle(volumes / "z.pkl", LATENTS + 1)
    with pytest.raises(InputError, match="z.pkl: the volumes were decoded from other latents"):
        latents_beside(volumes, numbers)
