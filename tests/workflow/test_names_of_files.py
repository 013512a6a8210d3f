"""Names of files that a shell or Snakemake would take for something else: real jobs on real files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tomohet.errors import InputError
from tomohet.files.atomic import write_parquet, write_pickle
from tomohet.files.pickles import load_indices
from tomohet.files.star import read_star
from tomohet.rounds.config import complete_config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "my data (1); {} [a] & it's $HOME `b` <c #d"
NAME = 'it\'s "$x" {} (2).star'


def snakemake(folder: Path, config: dict, *arguments: str, root: Path = ROOT) -> str:
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "-s", root / "Snakefile", "-d", folder, "--cores", "1"]
    done = subprocess.run(
        [*command, "--configfile", folder / "c.yaml", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def hostile(tiny, tmp_path_factory) -> tuple[Path, dict]:
    """A folder and a configuration: particles, stacks and volume series of `tiny` under such names.

    The stages between preparation and the joined table have left folders that are enough for the table.
    """
    folder = tmp_path_factory.mktemp("hostile")
    data = folder / FOLDER
    shutil.copytree(tiny, data / "simulated", ignore=shutil.ignore_patterns("stacks"))
    shutil.copytree(tiny / "stacks", data / "of 'stacks' {}" / "stacks")
    for name in ("particles", "volumes"):
        (data / "simulated" / f"{name}.star").rename(data / f"{name} {NAME}")
    write_pickle(data / "some $(x) {}.pkl", np.arange(20))
    config = {
        "dataset": "d",
        "latents": "linear",
        "particles": str(data / f"particles {NAME}"),
        "volume_series": str(data / f"volumes {NAME}"),
        "datadir": str(data / "of 'stacks' {}"),
        "prepare": {"ind_ptcls": str(data / "some $(x) {}.pkl")},
        "validate": {"no_images": True},
        "rounds": {"all": {}, "few": {"select": 'particle in [0, 1, 2, 5] and tomogram != "\'$x {y}"'}},
    }
    few = folder / "results" / "d" / "few"
    for stage in ("states", "analyze", "volumes", "analyze_volumes", "siren"):
        (few / stage).mkdir(parents=True)
    particles = pd.DataFrame({"particle": [0, 1, 2, 5], "kmeans": [0, 1, 1, 0]})
    write_parquet(few / "linear" / "particles.parquet", particles[["particle"]])
    write_parquet(few / "analyze" / "particles.parquet", particles)
    write_pickle(few / "analyze" / "kmeans2" / "labels.pkl", particles["kmeans"].to_numpy())
    rules = "validate prepare select export_subset export_volume_series particle_table mapback".split()
    targets = ["particles.parquet", "mapback", "subset/particles.star", "subset/volumes.star"]
    snakemake(folder, config, "--allowed-rules", *rules, "--", *(f"results/d/few/{name}" for name in targets))
    return few, config


def test_the_store_holds_the_particles_of_the_indices(hostile):
    images = pd.read_parquet(hostile[0].parent / "prepared" / "images.parquet")
    assert sorted(images["particle"].unique()) == list(range(20))
    assert list(load_indices(hostile[0] / "subset" / "indices.pkl")) == [0, 1, 2, 5]


def test_exported_files_hold_the_particles_of_the_round(hostile):
    series, volumes = (read_star(hostile[0] / "subset" / f"{name}.star") for name in ("particles", "volumes"))
    images = pd.read_parquet(hostile[0].parent / "prepared" / "images.parquet")
    assert len(next(iter(series.values()))) == images["particle"].isin([0, 1, 2, 5]).sum()
    assert len(next(iter(volumes.values()))) == 4


def test_the_table_and_the_scenes_know_positions_and_labels(hostile):
    table = pd.read_parquet(hostile[0] / "particles.parquet")
    assert table["particle"].tolist() == [0, 1, 2, 5]
    assert table["kmeans"].tolist() == [0, 1, 1, 0]
    assert table[["x_A", "y_A", "z_A"]].notna().all(axis=None)
    scenes = list((hostile[0] / "mapback").rglob("*.cxc"))
    assert len(scenes) == table["tomogram"].nunique()
    markers = [path.read_text() for path in (hostile[0] / "mapback").rglob("*.cmm")]
    assert sum(text.count("<marker ") for text in markers) == 4


def test_everything_runs_from_a_checkout_of_such_a_name(tmp_path):
    root = tmp_path / FOLDER.replace("{}", "")  # Snakemake itself stumbles over braces
    root.mkdir()
    for name in ("Snakefile", "workflow", "config", "envs"):
        os.symlink(ROOT / name, root / name)
    config = {
        "dataset": "d",
        "rounds": {"all": {}},
        "simulate": {"n_particles": 4, "n_tomograms": 1, "box": 16},
    }
    target = "results/d/simulated/particles.star"
    snakemake(tmp_path, config, "--", target, root=root)
    assert (tmp_path / target).is_file()


@pytest.mark.parametrize("key", ["particles", "volume_series", "model"])
@pytest.mark.parametrize("name", ["{a}.star", "{ sample , [a-z]+ }.star", "<results>.star"])
def test_a_name_that_snakemake_takes_for_a_wildcard_is_refused_in_words(tmp_path, monkeypatch, key, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("")
    given = {"dataset": "d", "rounds": {"a": {}}, key: [name] if key == "model" else name}
    with pytest.raises(InputError, match=f"{key}: found .*for a wildcard; rename the folder or file"):
        complete_config(given)
