"""Selecting particles by query, the particle table, and the state of a results folder."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from analysis_fakes import run

from tomohet.errors import InputError
from tomohet.files.pickles import load_indices
from tomohet.rounds.config import complete_config
from tomohet.rounds.progress import progress
from tomohet.rounds.select import among, clauses, select
from tomohet.rounds.table import particle_table
from tomohet.rounds.tree import parents_first

TABLE = pd.DataFrame(
    {
        "particle": [5, 3, 9, 1],
        "kmeans": [0, 1, 2, 0],
        "maven_A": [0.9, 0.6, 0.2, np.nan],
        "odd name": [1, 2, 3, 4],
        "tomogram": ["t1", "t1", "t2", "t2"],
    }
)


@pytest.mark.parametrize(
    ("query", "particles"),
    [
        ("kmeans in [0, 2]", [1, 5, 9]),
        ("maven_A > 0.5", [3, 5]),
        ("maven_A > 0.5 and kmeans == 0", [5]),
        ("not maven_A > 0.5", [1, 9]),
        ("`odd name` >= 3 or tomogram == 't1'", [1, 3, 5, 9]),
        ("tomogram.str.endswith('2')", [1, 9]),
        ("0.1 < maven_A < 0.7", [3, 9]),
    ],
)
def test_select_gives_ascending_ordinals(query, particles):
    assert select(TABLE, query).tolist() == particles


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("mavn_A > 0.5", "no column 'mavn_A'; did you mean 'maven_A'?"),
        ("`odd nam` > 0.5", "no column 'odd nam'; did you mean 'odd name'?"),
        ("zzz > 1", "the table has particle, kmeans"),
        ("kmeans in [0", "cannot be read"),
        ("kmeans + 1", "is no condition"),
        ("tomogram > 3", "Invalid comparison"),
        ("kmeans == @x", "'@' is not understood"),
        ("__import__('os').getcwd() == ''", "not a supported function"),
        (
            "kmeans == 0 and maven_A < 0.5",
            r"selects none of 4 particles \(kmeans == 0: 2; maven_A < 0.5: 1\)",
        ),
    ],
)
def test_wrong_query_is_explained(query, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?") if "(" not in message else message):
        select(TABLE, query)


def test_clauses_count_each_condition_alone_and_unknown_values():
    found = clauses(TABLE, "maven_A > 0.5 and (kmeans == 0 or `odd name` > 2)")
    assert [(c.text, c.n_true, c.n_unknown) for c in found] == [
        ("maven_A > 0.5", 2, 1),
        ("kmeans == 0 or `odd name` > 2", 3, 0),
    ]


def test_indices_must_be_among_the_parents_particles():
    assert among(TABLE, np.array([9, 1, 9]), "i.pkl").tolist() == [1, 9]
    with pytest.raises(
        InputError, match="i.pkl: 2 of 3 particles are not among the parent's 4, the first is 2"
    ):
        among(TABLE, np.array([1, 2, 4]), "i.pkl")
    with pytest.raises(InputError, match="holds no particle"):
        among(TABLE, np.array([], int), "i.pkl")


@pytest.fixture
def round_dir(tmp_path):
    """Four stages of a round of the particles 1, 3 and 5, two volumes."""
    for name, table in {
        "states/particles.parquet": {"particle": [1, 3, 5], "state": [0, 0, 1]},
        "analyze/particles.parquet": {"particle": [5, 1, 3], "kmeans": [50, 10, 30]},
        "volumes/assignment.parquet": {"particle": [1, 3, 5], "volume": [0, 1, 1]},
        "maven/volumes.parquet": {"volume": [0, 1], "maven_A": [0.0, 1.0]},
    }.items():
        path = tmp_path / name
        path.parent.mkdir()
        pd.DataFrame(table).to_parquet(path)
    return tmp_path


STORE = pd.DataFrame({"particle": range(6), "tomogram": list("aabbcc")})


def test_particle_table_joins_by_particle_and_by_volume(round_dir):
    table = particle_table(STORE, np.array([1, 3, 5]), round_dir)
    expected = {
        "particle": [1, 3, 5],
        "tomogram": ["a", "b", "c"],
        "state": [0, 0, 1],
        "kmeans": [10, 30, 50],
        "volume": [0, 1, 1],
        "maven_A": [0.0, 1.0, 1.0],
    }
    assert table.to_dict("list") == expected


@pytest.mark.parametrize(
    ("file", "table", "message"),
    [
        (
            "analyze/particles.parquet",
            {"particle": [1, 3], "k": [1, 2]},
            "no row for 1 particles, the first is 5",
        ),
        (
            "analyze/particles.parquet",
            {"particle": [1, 3, 3, 5], "k": [1] * 4},
            "particle 3 appears more than once",
        ),
        (
            "maven/volumes.parquet",
            {"volume": [0, 1], "kmeans": [1, 2]},
            "column 'kmeans' is in another stage's",
        ),
        ("maven/volumes.parquet", {"vol": [0, 1]}, "no column 'volume'; found vol"),
    ],
)
def test_particle_table_refuses_what_does_not_fit(round_dir, file, table, message):
    pd.DataFrame(table).to_parquet(round_dir / file)
    with pytest.raises(InputError, match=message):
        particle_table(STORE, np.array([1, 3, 5]), round_dir)


def test_particle_table_refuses_indices_of_another_store(round_dir):
    with pytest.raises(InputError, match="1 of 4 selected particles are not in the store"):
        particle_table(STORE, np.array([1, 3, 5, 77]), round_dir)


def test_select_command_writes_indices_and_counts(tmp_path, run_script):
    TABLE.to_parquet(tmp_path / "t.parquet")
    outputs = ("-o", tmp_path / "i.pkl", "--summary", tmp_path / "s.json", "--explain")
    done = run_script("select", tmp_path / "t.parquet", "--query", "kmeans < 2 and maven_A > 0.5", *outputs)
    assert done.stdout.splitlines() == [
        "       4 particles in the table",
        "       3 kmeans < 2",
        "       2 maven_A > 0.5   (1 without a value)",
        "       2 left after: query kmeans < 2 and maven_A > 0.5",
        "by tomogram:",
        "       2 of        2  t1",
        "       0 of        2  t2",
        "by kmeans:",
        "       1 of        2  0",
        "       1 of        1  1",
        "       0 of        1  2",
        "       2 of 4 selected",
    ]
    assert load_indices(tmp_path / "i.pkl").tolist() == [3, 5]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["n_particles"], summary["n_parent"]) == (2, 4)


def test_particles_without_an_image_are_never_selected(tmp_path, run_script):
    TABLE.assign(n_tilts=[3, 0, 2, 1]).to_parquet(tmp_path / "t.parquet")
    run_script("select", tmp_path / "t.parquet", "-o", tmp_path / "i.pkl")
    assert load_indices(tmp_path / "i.pkl").tolist() == [1, 5, 9]


def test_empty_selection_is_one_line_and_writes_nothing(tmp_path, run_script):
    TABLE.to_parquet(tmp_path / "t.parquet")
    done = run_script(
        "select", tmp_path / "t.parquet", "--query", "kmeans > 7", "-o", tmp_path / "i.pkl", check=False
    )
    assert done.returncode == 1
    assert done.stderr == "error: query 'kmeans > 7' selects none of 4 particles (kmeans > 7: 0)\n"
    assert not (tmp_path / "i.pkl").exists()


def test_parents_come_first_whatever_the_order_of_the_file():
    rounds = {"c": {"parent": "b"}, "a": {}, "b": {"parent": "a"}, "d": {"parent": None}}
    assert parents_first(rounds) == ["a", "b", "c", "d"]


LOSSES = "epoch,gen,seconds,particles_per_second\n0,1,90,10\n1,1,60,20\n2,1,60,30\n"


def test_progress_reads_the_results_folder(tmp_path):
    config = complete_config(
        {"dataset": "d", "train": {"epochs": 9}, "rounds": {"b": {"parent": "a"}, "a": {}}}
    )
    (tmp_path / "a" / "train_vae").mkdir(parents=True)
    (tmp_path / "a" / "train_vae" / "loss.csv").write_text(LOSSES)
    (tmp_path / "a" / "subset").mkdir()
    (tmp_path / "a" / "subset" / "indices.pkl").write_bytes(pickle.dumps(1))
    states = {(stage.round, stage.name): stage.state for stage in progress(config, tmp_path)}
    assert states["a", "subset"] == "done"
    assert states["a", "train_vae"] == "epoch 3 of 9"
    details = {(stage.round, stage.name): stage.detail for stage in progress(config, tmp_path)}
    assert details["a", "train_vae"] == "20 particles/s, 60 s per epoch, 6 min left"
    assert details["a", "subset"] == ""
    assert states["b", "train_vae"] == states["", "report"] == "pending"
    assert [round_ for round_, _ in states].index("a") < [round_ for round_, _ in states].index("b")


def test_status_says_how_to_release_a_folder_that_a_killed_snakemake_locked(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my config.yaml").write_text("dataset: d\nrounds: {all: {}}\n")
    run("status", "--configfile", "my config.yaml")
    assert "unlock" not in capsys.readouterr().out
    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
    (tmp_path / ".snakemake" / "locks" / "0.input.lock").write_text("results/d/a")
    run("status", "--configfile", "my config.yaml")
    assert "snakemake --unlock --configfile 'my config.yaml'" in capsys.readouterr().out
