"""Files that choose particles, and what narrows a selection down."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest

from tomohet.errors import InputError
from tomohet.files.pickles import load_indices
from tomohet.options import SelectOptions
from tomohet.rounds.flags import query_of_all, selection_words
from tomohet.rounds.narrowing import chosen_in_steps, confidence_columns, counted_by_group
from tomohet.rounds.particle_lists import labels_of, listed_particles, n_listed
from tomohet.rounds.select import columns_of
from tomohet.rounds.sizes import Sizes, _at_most

TABLE = pd.DataFrame(
    {
        "particle": [1, 3, 5, 9],
        "source_id": ["T_1", "T_2", "T_3", "T_4"],
        "tomogram": ["A_01.tomostar", "A_01.tomostar", "A_02.tomostar", "B_01.tomostar"],
        "state": [0, 0, 1, 1],
        "state_probability": [0.9, 0.4, 0.8, 0.6],
        "kmeans": [2, 2, 2, 0],
        "linear_confidence": [0.2, 0.9, 0.9, 0.9],
    }
)


def chosen(table=TABLE, query=None, **options) -> list[int]:
    steps = chosen_in_steps(table, query, SelectOptions(table="t.parquet", **options))
    return sorted(table["particle"][steps[-1].left].tolist())


def written(path, content) -> str:
    if isinstance(content, str):
        path.write_text(content)
    else:
        path.write_bytes(pickle.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("i.pkl", [9, 1, 9]),
        ("i.pkl", np.array([1, 9])),
        ("i.txt", "# good ones\n9\n\n1  # the first\n"),
        ("i.csv", "particle,score\n9,0.5\n1,0.7\n"),
        ("i.csv", "score,source_id\n1,T_4\n2,T_1\n"),
    ],
)
def test_particles_are_listed_in_three_kinds_of_files(tmp_path, name, content):
    file = written(tmp_path / name, content)
    assert listed_particles(TABLE, file).tolist() == [1, 9]
    assert chosen(indices=file) == [1, 9]
    assert chosen(exclude=file) == [3, 5]
    assert n_listed(file) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("i.txt", "1\n2.5\n", r"i.txt: line 2: found '2.5', expected the number of a particle"),
        ("i.txt", "1\n-3\n", r"line 2: found '-3'"),
        ("i.txt", "# none\n", "holds no particle"),
        ("i.pkl", [1, 4], "1 of 2 particles are not among the parent's 4, the first is 4; indices count"),
        ("i.csv", "name\nT_1\n", "found columns name, expected one named particle or source_id"),
        ("i.csv", "particle\n1.5\n", "column 'particle': found float64, expected whole numbers"),
        ("i.csv", "source_id\nT_1\nT_44\n", r"the first is T_44; did you mean 'T_4'\?"),
        ("i.csv", "source_id,x\nT_1,1\n,2\n", "row 3: no value in column 'source_id'; remove the row"),
        ("missing.txt", None, "no such file"),
    ],
)
def test_a_list_that_does_not_fit_is_explained(tmp_path, name, content, message):
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(InputError, match=message) as error:
        listed_particles(TABLE, tmp_path / name)
    assert "\n" not in str(error.value)


def test_excluded_particles_may_belong_to_other_rounds(tmp_path):
    assert chosen(exclude=written(tmp_path / "bad.txt", "2\n3\n700\n")) == [1, 5, 9]
    assert chosen(exclude="kmeans == 2 and state == 0") == [5, 9]
    with pytest.raises(InputError, match="no column 'stat'; did you mean 'state'"):
        chosen(exclude="stat == 0")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.pkl", np.array([0, 7, 7, 2])),
        ("l.pkl", np.array([[0.0], [7.0], [7.0], [2.0]])),
        ("l.txt", "0\n7\n7\n2\n"),
        ("l.csv", "particle,label\n3,7\n5,7\n1,0\n"),
        ("l.csv", "source_id,label\nT_2,7\nT_3,7\nT_9,7\n"),
    ],
)
def test_labels_keep_the_particles_that_carry_them(tmp_path, name, content):
    file = written(tmp_path / name, content)
    assert chosen(labels=file, keep=["7"]) == [3, 5]
    with pytest.raises(InputError, match="no label 8; there are"):
        chosen(labels=file, keep=["7", "8"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.pkl", [1, 2], "2 labels, expected one for each of the table's 4 particles"),
        ("l.csv", "particle,label\n3,7\n3,8\n", "particle 3 has more than one label"),
        ("l.csv", "particle,label\n30,7\n", "none of its 1 particles is among the table's 4"),
        ("l.csv", "particle,labels\n3,7\n", "no column 'label'"),
    ],
)
def test_labels_that_do_not_fit_are_explained(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        labels_of(TABLE, written(tmp_path / name, content))


def test_labels_and_keep_belong_together():
    with pytest.raises(InputError, match="labels and keep belong together"):
        chosen(keep=["1"])


def test_tomograms_are_named_or_fit_a_pattern():
    assert chosen(tomograms=["B_01"]) == [9]
    assert chosen(tomograms=["A_02.tomostar", "B_*"]) == [5, 9]
    with pytest.raises(InputError, match=r"no particle is in a tomogram 'A_03'; there are A_01"):
        chosen(tomograms=["B_01", "A_03"])
    with pytest.raises(InputError, match="no column 'tomogram'"):
        chosen(TABLE.drop(columns="tomogram"), tomograms=["A_01"])


def test_confidence_is_that_of_the_columns_asked_for():
    assert confidence_columns(TABLE, "state == 0") == ["state_probability"]
    assert confidence_columns(TABLE, "kmeans == 2") == ["linear_confidence"]
    assert chosen(query="state == 0", min_confidence=0.5) == [1]
    assert chosen(query="kmeans == 2", min_confidence=0.5) == [3, 5]
    assert chosen(min_confidence=0.5) == [3, 5, 9]
    with pytest.raises(InputError, match="no column linear_confidence; select from a round whose"):
        chosen(TABLE[["particle", "kmeans"]], query="kmeans == 2", min_confidence=0.5)
    with pytest.raises(InputError, match="min_confidence 0.95 of state_probability leaves none of 2"):
        chosen(query="state == 0", min_confidence=0.95)


def test_samples_are_drawn_once_nested_and_stable():
    table = pd.DataFrame({"particle": np.arange(0, 4000, 2), "half": np.arange(2000) % 2})
    some, more = chosen(table, sample=200), chosen(table, sample=700)
    assert len(some) == 200 and set(some) < set(more)
    assert set(chosen(table, query="half == 1", sample=50)) <= {p for p in more if p % 4 == 2}
    assert chosen(table, sample=200) == some != chosen(table, sample=200, sample_seed=1)
    assert abs(np.mean(more) - 1999) < 4 * 4000 / np.sqrt(12 * 700)
    with pytest.raises(InputError, match="sample 2001: only 2000 particles are left; take 2000 or fewer"):
        chosen(table, sample=2001)


def test_steps_follow_one_another_and_are_explained(tmp_path, run_script):
    TABLE.to_parquet(tmp_path / "t.parquet")
    words = ("--query", "kmeans == 2", "--tomograms", "A_*", "--exclude", "state == 1", "--sample", 1)
    files = ("-o", tmp_path / "i.pkl", "--summary", tmp_path / "s.json", "--explain")
    done = run_script("select", tmp_path / "t.parquet", *words, *files)
    after = [line for line in done.stdout.splitlines() if "left after" in line]
    assert [line.split()[0] for line in after] == ["3", "3", "2", "1"]
    assert after[2].endswith("left after: exclude state == 1")
    assert "       0 of        2  1" in done.stdout.split("by state:")[1].splitlines()
    steps = json.loads((tmp_path / "s.json").read_text())["steps"]
    assert [step["n_left"] for step in steps] == [3, 3, 2, 1]
    assert load_indices(tmp_path / "i.pkl").tolist() in ([1], [3])


def test_no_output_is_written_over_a_file_that_is_read(tmp_path, run_script):
    TABLE.to_parquet(tmp_path / "t.parquet")
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps([3]))
    done = run_script("select", tmp_path / "t.parquet", "--exclude", bad, "-o", bad, check=False)
    assert done.returncode == 1 and "bad.pkl" in done.stderr
    assert pickle.loads(bad.read_bytes()) == [3]


def test_many_tomograms_are_summed_up():
    table = pd.DataFrame({"particle": range(100), "tomogram": [f"T{n:03d}" for n in range(100)]})
    lines = list(counted_by_group(table, np.arange(100) >= 90))
    assert len(lines) == 42 and lines[-1] == "      10 of       60  in 60 more"


def test_the_estimate_knows_what_a_sample_and_a_list_leave(tmp_path):
    parent = Sizes(1000, 20_000, 64, 64)
    listed = written(tmp_path / "i.txt", "".join(f"{n}\n" for n in range(30)))
    assert _at_most(parent, {"sample": 100, "select": "a > 1"}) == parent.of(100)
    assert _at_most(parent, {"indices": listed}) == parent.of(30)
    found = _at_most(parent, {"indices": listed, "tomograms": ["a"]})
    assert (found.particles, found.most) == (30, True)
    assert _at_most(parent, {"exclude": "a > 1"}).most and not _at_most(parent, {}).most


def test_a_rounds_choice_is_told_in_words():
    given = {"select": "pc1 > 0", "tomograms": ["TS_1", "TS_2"], "exclude": "kmeans == 3", "sample": 9}
    assert selection_words(given | {"sample_seed": 4}) == (
        "pc1 > 0; tomograms TS_1, TS_2; exclude kmeans == 3; sample 9; sample_seed 4"
    )
    assert selection_words({"parent": "all", "sample_seed": 0}) == ""


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        ({"select": "x_A > 0"}, {"x_A"}),
        ({"select": "x_A > 0", "exclude": "maven_S1 > 0.5"}, {"x_A", "maven_S1"}),
        ({"select": "x_A > 0", "exclude": "others.pkl"}, None),
        ({"select": "x_A > 0", "min_confidence": 0.9}, None),
        ({"indices": "own.pkl"}, None),
        ({"labels": "own.csv", "keep": ["a"]}, None),
        ({"tomograms": ["TS_1"]}, None),
    ],
)
def test_whether_images_chose_a_round_depends_on_all_its_keys(given, columns):
    """`support` leaves out the control by held-out tilts only where no image went into the choice."""
    query = query_of_all(given)
    assert (None if query is None else columns_of(query)) == columns
