"""The configuration: its mistakes in plain words, its defaults, and its keys as options of the commands."""

import shlex
from pathlib import Path

import pytest
import yaml

from tomohet.cli import options_of
from tomohet.errors import InputError
from tomohet.options.configuration import COMMANDS, STAGES, WORKFLOW_DEFAULTS
from tomohet.rounds.config import complete_config, config_mistakes, read_config
from tomohet.rounds.flags import command_line, selection_line
from tomohet.rounds.inputs import selection_files
from tomohet.rounds.reference import reference_page
from tomohet.rounds.schema import keys_of, stages
from tomohet.rounds.tree import stage_options
from tomohet.simulation.config import SimulationConfig

ROOT = Path(__file__).resolve().parents[2]


def config(**changes) -> dict:
    return {"dataset": "d", "rounds": {"all": {}}} | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trian": {}}, "trian: unknown key; did you mean 'train'?"),
        ({"train": {"batchsize": 4}}, "train.batchsize: unknown key; did you mean 'batch_size'?"),
        (
            {"train": {"lr": "1e-3"}},
            "train.lr: found the text '1e-3', expected a number: YAML reads 1e-3 as text, write 0.001",
        ),
        ({"train": {"epochs": 2.5}}, "train.epochs: found 2.5, expected a whole number"),
        ({"train": {"epochs": 0}}, "train.epochs: found 0, expected at least 1"),
        ({"train": {"pe_type": "gausian"}}, "did you mean 'gaussian'?"),
        ({"latents": "nn"}, "latents: found the text 'nn', expected one of train_vae, linear"),
        ({"dataset": "my data"}, "dataset: found the text 'my data', expected letters, digits"),
        ({"particles": "no.star"}, "particles: no such file or folder: no.star"),
        ({"rounds": {}}, "rounds: found {}, expected this many entries or more: 1"),
        (
            {"rounds": {"all": {}, "b": {"parent": "al"}}},
            "rounds.b.parent: no round 'al'; there are all, b; did",
        ),
        (
            {"rounds": {"a": {"parent": "b"}, "b": {"parent": "c"}, "c": {"parent": "a"}}},
            "the rounds go in a circle: a -> b -> c -> a",
        ),
        ({"rounds": {"a": {"parent": "a"}}}, "the rounds go in a circle: a -> a"),
        ({"rounds": {"a": {"train": {"zdmi": 3}}}}, "rounds.a.train.zdmi: unknown key; did you mean 'zdim'?"),
        ({"rounds": {"a": {"select": "kmeans in [0"}}}, "rounds.a.select: 'kmeans in [0' is not a query"),
        ({"rounds": {"a": {"select": "x > 1", "indices": "i.pkl"}}}, "has both 'select' and 'indices'"),
        ({"rounds": {"prepared": {}}}, "rounds.prepared: this name is a folder or file of the dataset"),
        ({"rounds": {"served": {}}}, "rounds.served: this name is a folder or file of the dataset"),
        ({"rounds": {"config.yaml": {}}}, "rounds.config.yaml: this name is a folder or file of the dataset"),
        ({"train": {"encoder": "fre"}}, "did you mean 'free'?"),
        (
            {"train": {"init": None, "zdim": 8, "encoder": "free"}},
            "train.encoder: free starts from the linear model, and init is null; leave encoder out",
        ),
        (
            {"train": {"init": None, "zdim": 8, "until": "converged"}},
            "train.until: converged is decided by held-out tilt images, and with init null none are held out",
        ),
        (
            {
                "train": {"init": None, "zdim": 8, "until": "converged", "fraction_train": 0.9},
                "rounds": {"a": {"train": {"fraction_train": 1.0}}},
            },
            "rounds.a.train.until: converged is decided by held-out tilt images",
        ),
        ({"train": {"init": None}}, "train.zdim: found nothing, expected a whole number such as 128"),
        (
            {"train": {"encoder": "backprojected"}, "rounds": {"a": {"train": {"init": None, "zdim": 8}}}},
            "rounds.a.train.encoder: backprojected starts from the linear model",
        ),
        ({"rounds": {"a": {"indices": "i.pkl"}}}, "rounds.a.indices: no such file: i.pkl"),
        (
            {"rounds": {"a": {"indices": "i.npy"}}},
            "indices: found i.npy, expected a file .pkl or",
        ),
        ({"rounds": {"a": {"labels": "l.csv", "keep": [1]}}}, "rounds.a.labels: no such file: l.csv"),
        ({"rounds": {"a": {"exclude": "bad.txt"}}}, "rounds.a.exclude: no such file: bad.txt"),
        ({"rounds": {"a": {"exclude": "kmeans in [0"}}}, "rounds.a.exclude: 'kmeans in [0' is not a query"),
        ({"rounds": {"a": {"keep": [1]}}}, "rounds.a: has 'keep' without 'labels'; they belong together"),
        ({"rounds": {"a": {"labels": "l.txt"}}}, "rounds.a: has 'labels' without 'keep'"),
        (
            {"rounds": {"a": {"select": "x > 1", "indices": "i.pkl", "labels": "l.pkl", "keep": [1]}}},
            "rounds.a: has 'select', 'indices' and 'labels'; keep one",
        ),
        ({"rounds": {"a": {"min_confidence": 2}}}, "rounds.a.min_confidence: found 2, expected at most 1"),
        ({"rounds": {"a": {"sample": 0}}}, "rounds.a.sample: found 0, expected at least 1"),
        ({"rounds": {"a": {"tomograms": "T1"}}}, "rounds.a.tomograms: found the text 'T1', expected a list"),
        ({"rounds": {"a": {"samples": 5}}}, "rounds.a.samples: unknown key; did you mean 'sample'?"),
    ],
)
def test_mistake_is_named_with_its_remedy(changes, expected):
    lines = config_mistakes(config(**changes))
    assert any(expected in line for line in lines), lines


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(InputError) as error:
        complete_config(config(trian={}, train={"lr": "1e-3", "zdmi": 8}, rounds={"b": {"parent": "a"}}))
    text = str(error.value)
    assert text.startswith("config: 4 mistakes")
    assert all(word in text for word in ("trian", "train.lr", "train.zdmi", "rounds.b.parent"))


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"init": None, "zdim": 128}},
        {"train": {"init": None, "zdim": 128, "until": "converged", "fraction_train": 0.9}},
        {"train": {"until": "converged"}},
        {"train": {"init": None, "zdim": 8, "encoder": "tilts"}},
        {"train": {"encoder": "free"}, "rounds": {"a": {"train": {"epochs": 3}}}},
        {"train": {"init": None, "zdim": 8}, "rounds": {"a": {"train": {"init": "linear", "zdim": None}}}},
        {"latents": "linear", "train": {"init": None}},
    ],
)
def test_a_network_without_a_teacher_needs_no_encoder_named(changes):
    assert config_mistakes(config(**changes)) == []


def test_what_depends_on_the_teacher_is_left_to_the_command():
    options = command_line("train", stage_options(complete_config(config()), "train"))
    assert "--encoder" not in options and "--zdim" not in options
    options = command_line("train", {"encoder": "free", "zdim": 3, "march": 0.5})
    assert options == "--encoder free --zdim 3 --march 0.5"


def test_what_chooses_a_rounds_particles_becomes_options_of_select(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l.csv").touch()
    (tmp_path / "bad.txt").touch()
    given = {"labels": "l.csv", "keep": [3, "wide one"], "tomograms": ["T 1", "T2*"], "exclude": "bad.txt"}
    given |= {"min_confidence": 0.5, "sample": 7, "sample_seed": 2, "train": {"epochs": 3}}
    complete = complete_config(config(rounds={"a": given}))
    options = options_of("select", ["t.parquet", "-o", "i.pkl", *shlex.split(selection_line(given))])
    assert (options.keep, options.tomograms) == (("3", "wide one"), ("T 1", "T2*"))
    assert (options.exclude, options.min_confidence, options.sample) == ("bad.txt", 0.5, 7)
    assert (options.sample_seed, options.query) == (2, None)
    assert selection_files(complete["rounds"]["a"]) == {"labels": "l.csv", "exclude": "bad.txt"}
    query = {"select": "a > 1 and b == 'x'", "exclude": "c < 2"}
    options = options_of("select", ["t.parquet", "--explain", *shlex.split(selection_line(query))])
    assert (options.query, options.exclude) == ("a > 1 and b == 'x'", "c < 2")
    assert selection_files(query) == {}


def test_missing_dataset_is_said():
    assert any("dataset" in line for line in config_mistakes({"rounds": {"all": {}}}))


def test_unreadable_yaml_is_one_line(tmp_path):
    (tmp_path / "c.yaml").write_text("dataset: [")
    with pytest.raises(InputError, match="not readable as YAML") as error:
        read_config(tmp_path / "c.yaml")
    assert "\n" not in str(error.value)


def test_round_overrides_the_dataset_and_not_its_parent():
    complete = complete_config(
        config(train={"lr": 0.5}, rounds={"a": {"train": {"epochs": 3}}, "b": {"parent": "a"}})
    )
    a, b = (stage_options(complete, "train", name) for name in "ab")
    assert (a["epochs"], a["lr"]) == (3, 0.5)
    assert (b["epochs"], b["lr"]) == (keys_of("train")["epochs"]["default"], 0.5)


def test_options_of_a_stage_become_flags():
    options = {"batch_size": 8, "l_dose_mask": True, "recon_tilt_weight": False, "pe_dim": None, "epochs": 2}
    assert command_line("train", options) == "--batch-size 8 --l-dose-mask --num-epochs 2"
    assert command_line("prepare", {"norm": [0, 1.5]}) == "--norm 0 1.5"
    assert command_line("volumes", {"count": 5}) == ""


NEEDED = {
    "auto": "r",
    "validate": "a.star -o x",
    "prepare": "a.star -o x",
    "homogeneous": "store -o x",
    "linear": "store -o x",
    "export": "a.star -o b.star",
    "states": "store --linear l -o x",
    "train": "store --init l -o x",
    "convergence": "run",
    "analyze": "run",
    "volumes": "-o x",
    "analyze_volumes": "--voldir v",
    "siren": "--volumes v -o x",
    "maven": "--volumes v --model m.cif -o x",
    "mapback": "v.star --table t.parquet -o x",
}


@pytest.mark.parametrize("stage", COMMANDS)
def test_the_command_gets_what_the_configuration_says(stage):
    """Each key's default in the workflow arrives at the command as the value of the option it stands for."""
    options = stage_options(complete_config(config()), stage)
    words = NEEDED[stage].split() + shlex.split(command_line(stage, options))
    found = options_of(COMMANDS[stage], words)
    for word in STAGES[stage].keys.split():
        key, _, name = word.partition("=")
        value = options[key]
        arrived = getattr(found, name or key)
        assert (list(arrived) if isinstance(arrived, tuple) else arrived) == value or str(arrived) == str(
            value
        )


def test_workflow_defaults_are_those_that_differ():
    for stage, defaults in WORKFLOW_DEFAULTS.items():
        names = dict(word.partition("=")[::2] for word in STAGES[stage].keys.split())
        for key, value in defaults.items():
            field = STAGES[stage].model.model_fields[names[key] or key]
            assert field.default != value, f"{stage}.{key}"
            assert keys_of(stage)[key]["default"] == value


def test_keys_of_the_simulation_are_its_parameters():
    defaults = SimulationConfig().plain()
    keys = keys_of("simulate")
    assert set(keys) == set(defaults)
    for name in set(keys) - {"blocks", "dialect"}:
        assert keys[name]["default"] == defaults[name], name


def test_every_stage_has_a_command():
    assert set(stages()) == {*COMMANDS, "simulate"}


def test_config_readme_is_written_from_the_schema():
    assert (ROOT / "config" / "README.md").read_text() == reference_page(), "run: make config-readme"


@pytest.mark.parametrize(
    "path", [ROOT / "config" / "config.yaml", *(ROOT / "config" / "examples").glob("*.yaml")]
)
def test_shipped_configurations_are_right_but_for_the_users_paths(path):
    given = yaml.safe_load(path.read_text())
    assert [line for line in config_mistakes(given) if "no such file" not in line] == []
