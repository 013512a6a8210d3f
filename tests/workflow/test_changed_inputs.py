"""What a changed input file makes run again: exactly the jobs that read it, and what follows from them."""

import os
import re
from pathlib import Path

import pytest
from stand_in import blocks, run_with_stand_in, snakemake

from tomohet.rounds.inputs import linked_files, named_files, stack_digest
from tomohet.rounds.schema import keys_of, stages

IMAGE_SERIES = """
data_

loop_
_rlnImageName
_rlnGroupName
1@stacks/a.mrcs p1
2@stacks/a.mrcs p1
"1@stacks/b c.mrcs" p2
"""
SET = """
data_

_rlnTomoParticlesFile "my particles.star"
_rlnTomoTomogramsFile tomograms.star
"""
PARTICLES = (
    "data_optics\n\nloop_\n_rlnOpticsGroup\n1\n\ndata_particles\n\nloop_\n_rlnTomoName\n_rlnImageName\n"
    + ("T1 stacks/a.mrcs\nT2 stacks/b.mrcs\n")
)
TOMOGRAMS = (
    "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesStarFile\nT1 tilts/T1.star\nT2 tilts/T2.star\n"
)
# What reads a file, in the order of the schema; every key of the schema marked `path` stands here.
READERS = {
    "simulate.model": {"simulate"},
    "simulate.maps": {"simulate"},
    "prepare.ind_ptcls": {"prepare"},
    "prepare.ind_imgs": {"prepare"},
    "prepare.poses_from": {"prepare", "export_subset"},
    "homogeneous.mask": {"homogeneous", "reconstruct_subset"},
    "linear.focus_mask": {"train_linear"},
    "siren.level": {"siren"},
    "siren.cnn_weights": {"siren"},
    "siren.blocks": {"siren"},
    "maven.masks": {"maven"},
    "maven.units": {"maven"},
}
FOLDERS = {"siren.blocks", "maven.masks"}


def started(folder: Path, config: dict) -> set[str]:
    """Rules that a dry run plans because of their own inputs or parameters, not because of another job."""
    found = set()
    for block in blocks(snakemake(folder, config, "-n")):
        rule = re.match(r"(?:local)?rule (\w+):", block)
        reason = re.search(r"reason: (.*)", block)
        if rule and reason and re.search(r"Updated input|Params have changed|Set of input", reason[1]):
            found.add(rule[1])
    return found


def planned(folder: Path, config: dict) -> set[str]:
    return set(re.findall(r"^(?:local)?rule (\w+):", snakemake(folder, config, "-n"), flags=re.MULTILINE))


def change(path: Path) -> None:
    """Other content and a later time of change; Snakemake compares the content of small files."""
    before = path.stat().st_mtime
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, (before + 100, before + 100))


def data(folder: Path) -> None:
    """A set with its files, an image series of the same stacks, and files for every option that names one."""
    for place in ("stacks", "tilts", "named"):
        (folder / place).mkdir()
    for name in ("a.mrcs", "b.mrcs", "b c.mrcs"):
        (folder / "stacks" / name).write_text("stack")
    for name, text in {
        "series.star": IMAGE_SERIES,
        "set.star": SET,
        "my particles.star": PARTICLES,
        "tomograms.star": TOMOGRAMS,
        "tilts/T1.star": "data_T1\n",
        "tilts/T2.star": "data_T2\n",
    }.items():
        (folder / name).write_text(text)
    for key in READERS:
        path = folder / "named" / key
        if key in FOLDERS:
            path.mkdir()
            (path / "one.mrc").write_text(key)
        else:
            path.write_text(key)


def options(folder: Path, stages_named: set[str]) -> dict:
    """A configuration's sections in which every option that may name a file does."""
    sections: dict = {}
    for key in READERS:
        stage, option = key.split(".")
        if stage in stages_named:
            name = str(folder / "named" / key)
            many = keys_of(stage)[option]["type"] == "array"
            sections.setdefault(stage, {})[option] = [name] if many else name
    return sections


def test_every_option_that_names_a_file_is_tried_here():
    marked = {
        f"{stage}.{key}" for stage in stages() for key, node in keys_of(stage).items() if node.get("path")
    }
    assert marked == set(READERS)
    for stage in stages():
        for key, node in keys_of(stage).items():
            text = node["description"]
            says_so = re.search(r"\.pkl|\.mrc|\bMRC\b|CSV|\bPDB\b|[Ff]ile with|[Ff]older of", text)
            assert not says_so or node.get("path"), f"{stage}.{key} seems to name a file: mark it `path`"
    assert marked == set(READERS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder and its configuration, real particles of a set, every job run with a stand-in."""
    folder = tmp_path_factory.mktemp("finished")
    data(folder)
    config = {
        "dataset": "d",
        "latents": "linear",
        "particles": str(folder / "set.star"),
        "volume_series": str(folder / "set.star"),
        "rounds": {"all": {}},
    }
    config |= options(folder, {"prepare", "homogeneous", "siren", "maven"})
    run_with_stand_in(folder, config)
    assert planned(folder, config) <= {"everything"}
    return folder, config


def test_files_of_a_set_are_inputs_of_the_jobs_that_read_it(finished):
    folder, config = finished
    listing = snakemake(folder, config, "-n", "--forceall")
    readers = {"validate", "prepare", "export_subset", "export_volume_series", "mapback", "particle_table"}
    for name in ("my particles.star", "tomograms.star", "tilts/T1.star", "tilts/T2.star"):
        found = {
            re.match(r"(?:local)?rule (\w+):", block)[1]
            for block in blocks(listing)
            if re.search(rf"^ +input: .*{re.escape(str(folder / name))}", block, re.MULTILINE)
        }
        assert found == readers, name


CHANGED = {
    "tilts/T2.star": {"validate"},  # which everything follows from
    "stacks/b.mrcs": {"validate"},
}
# One option of each stage: which of its options name files is the matter of the next test but one.
ONE_OF_EACH = ("prepare.ind_ptcls", "homogeneous.mask", "siren.blocks", "maven.masks")
CHANGED |= {f"named/{key}": READERS[key] for key in ONE_OF_EACH}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_file_starts_the_jobs_that_read_it_and_no_others(finished, name):
    folder, config = finished
    path = folder / name
    path = path / "one.mrc" if path.is_dir() else path
    before, status = path.read_bytes(), path.stat()
    change(path)
    assert started(folder, config) == CHANGED[name]
    if name.startswith("stacks"):
        store = ("--allowed-rules", "prepare", "--", "results/d/prepared/store.yaml")
        assert "rule prepare" in snakemake(folder, config, "-n", *store), "not only because of validate"
    path.write_bytes(before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_nothing_runs_where_nothing_has_changed(finished):
    assert planned(*finished) <= {"everything"}


@pytest.mark.parametrize("key", READERS)
def test_the_file_that_an_option_names_is_found(finished, key):
    folder, stage = finished[0], key.split(".")[0]
    path = folder / "named" / key
    found = named_files(stage, options(folder, {stage})[stage])
    assert str(path / "one.mrc" if key in FOLDERS else path) in found


def test_a_simulation_starts_again_when_its_model_changes(tmp_path):
    data(tmp_path)
    config = {"dataset": "d", "rounds": {"all": {}}} | options(tmp_path, {"simulate"})
    block = re.search(r"rule simulate:\n +input: (.*)", snakemake(tmp_path, config, "-n"))
    assert block[1].split(", ") == [str(tmp_path / "named" / f"simulate.{key}") for key in ("model", "maps")]


def test_a_mask_that_is_added_to_a_folder_is_measured(finished):
    folder, config = finished
    (folder / "named" / "maven.masks" / "two.mrc").write_text("two")
    assert "maven" in started(folder, config)
    (folder / "named" / "maven.masks" / "two.mrc").unlink()


@pytest.mark.parametrize("harm", ["missing", "garbage", "set that names itself"])
def test_whatever_a_file_holds_the_dry_run_shows_the_jobs(tmp_path, harm):
    data(tmp_path)
    config = {"dataset": "d", "particles": str(tmp_path / "set.star"), "rounds": {"all": {}}}
    if harm == "missing":
        (tmp_path / "tomograms.star").unlink()
    elif harm == "garbage":
        (tmp_path / "tomograms.star").write_bytes(os.urandom(1000))
        (tmp_path / "my particles.star").write_bytes(b"\0data_\nloop_\n" * 100)
    else:
        (tmp_path / "set.star").write_text(
            "data_\n_rlnTomoParticlesFile set.star\n_rlnTomoTomogramsFile set.star\n"
        )
    assert {"validate", "prepare", "report"} <= planned(tmp_path, config)


def test_linked_files_are_those_that_are_there(tmp_path):
    data(tmp_path)
    names = ["my particles.star", "tomograms.star", "tilts/T1.star", "tilts/T2.star"]
    assert linked_files(str(tmp_path / "set.star"), None) == [str(tmp_path / name) for name in names]
    assert linked_files(str(tmp_path / "series.star"), None) == []
    assert linked_files(str(tmp_path / "absent.star"), None) == []
    assert linked_files(None, None) == []


@pytest.mark.parametrize("star", ["series.star", "set.star"])
def test_the_digest_of_stacks_changes_with_any_of_them_and_nothing_else(tmp_path, star):
    data(tmp_path)

    def digest():
        stack_digest.cache_clear()
        linked_files.cache_clear()
        return stack_digest(str(tmp_path / star), None)

    first = digest()
    (tmp_path / "stacks" / "other.mrcs").write_text("of another set")
    assert digest() == first
    last = "b c.mrcs" if star == "series.star" else "b.mrcs"
    for harm in (change, os.unlink):
        harm(tmp_path / "stacks" / last)
        before, first = first, digest()
        assert first != before


def test_words_of_an_option_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("chain", "auto", "siren"):
        Path(name).write_text("a file that happens to have the name of a choice")
    assert named_files("maven", {"units": "chain", "masks": "siren"}) == []
    assert named_files("siren", {"level": "auto", "cnn_weights": None}) == []
    assert named_files("siren", {"level": 0.5}) == []
