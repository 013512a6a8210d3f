"""Every option has one owner, `tomohet.options`; command lines, errors and notebooks get it from there."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import tomohet
from tomohet.cli import commands, options_of
from tomohet.errors import InputError
from tomohet.options import OPTIONS, SirenOptions, TrainLinearOptions, TrainVaeOptions

PACKAGE = Path(tomohet.__file__).parent
VAE = ("store", "-o", "run", "--zdim", "8")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_command_can_be_called_by_a_notebook(name):
    run = importlib.import_module(f"tomohet.commands.{name}").run
    (options,) = inspect.signature(run).parameters.values()
    assert options.annotation is OPTIONS[name]


def test_nothing_but_the_options_reads_a_command_line():
    """No namespace of argparse below the package of options, and no flag is declared elsewhere."""
    allowed = PACKAGE / "options" / "command_line.py"
    for path in PACKAGE.rglob("*.py"):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        } | {
            node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        }
        assert "argparse" not in names or path == allowed, path


def test_every_option_is_told_in_a_sentence():
    for name, model in OPTIONS.items():
        assert commands()[name].endswith("."), name
        for key, field in model.model_fields.items():
            assert field.description and field.description.endswith((".", "...")), f"{name}.{key}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-epochs", "0"), "--num-epochs 0: expected at least 1"),
        (("--rows-per-image", "1.5"), "--rows-per-image 1.5: expected at most 1"),
        (("--max-frequency", "0"), "--max-frequency 0.0: expected more than 0"),
        (("--beta", "f"), "--beta f: expected a number or 'a', 'b', 'c', 'd' or 'e'"),
        (("--num-workers", "-1"), "--num-workers -1: expected at least 0"),
        (("--init", "l", "--poses", "p"), "--init and --poses exclude each other"),
        (("--encoder", "free"), "--encoder free: latents of this encoder start from a linear model"),
        (("--pooling-function", "set_encoder", "--num-heads", "3"), "--num-heads 3: --enc-dim-B 256"),
    ],
)
def test_values_that_cannot_be_are_named_by_their_flag(words, message):
    with pytest.raises(InputError) as refused:
        options_of("train_vae", [*VAE, *words])
    assert str(refused.value).startswith(message)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InputError) as refused:
        options_of("train_vae", [*VAE, "--num-epochs", "0", "--lr", "-1"])
    assert "--num-epochs 0" in str(refused.value) and "--lr -1.0" in str(refused.value)


def test_a_default_that_the_user_gave_is_told_from_one_that_was_left():
    given_by_user = options_of("prepare", ["a.star", "-o", "x", "--window-r", "0.8"])
    left = options_of("prepare", ["a.star", "-o", "x"])
    assert given_by_user.window_r == left.window_r == 0.8
    assert given_by_user.given("window_r") and not left.given("window_r")


def test_help_tells_own_options_first_and_every_default(capsys):
    with pytest.raises(SystemExit):
        options_of("train_vae", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    own, particles, training = (
        text.index(words) for words in ("Size of the latent", "particles:", "training:")
    )
    assert own < particles < training
    for words in ("Seed of all random numbers (default: 0)", "the network (default: 1.0)", "(default: 20)"):
        assert words in text


def test_a_notebook_gives_options_by_name():
    options = SirenOptions(volumes="volumes", outdir="siren", level=0.3)
    assert (options.volumes, options.level, options.rule) == (Path("volumes"), "0.3", "phi")
    assert TrainLinearOptions(particles="store", outdir="run").refine_poses
    with pytest.raises(ValidationError):
        SirenOptions(volumes="volumes", outdir="siren", rul="phi")
    with pytest.raises(ValidationError):
        options.rule = "siren"


@given(
    epochs=st.integers(1, 10**6),
    lr=st.floats(1e-9, 1e3),
    fraction=st.floats(1e-6, 1),
    verbose=st.booleans(),
    pooling=st.sampled_from(["concatenate", "max", "mean", "median"]),
)
def test_command_line_and_notebook_say_the_same(epochs, lr, fraction, verbose, pooling):
    words = [*VAE, "-n", str(epochs), f"--lr={lr!r}", f"--rows-per-image={fraction!r}"]
    words += ["--pooling-function", pooling, *["--verbose"] * verbose]
    expected = TrainVaeOptions(
        particles="store",
        outdir="run",
        zdim=8,
        num_epochs=epochs,
        lr=lr,
        rows_per_image=fraction,
        verbose=verbose,
        pooling_function=pooling,
    )
    assert options_of("train_vae", words) == expected
