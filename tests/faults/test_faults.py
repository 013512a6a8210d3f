"""A few faults of every kind on single commands; `try_faults.py` tries hundreds, and the whole workflow."""

import forked
import of_commands
import pytest
import small_workflow as small
from disturbed import Bench, Fault
from drawing import acts, drawn, tried
from of_snakemake import KINDS

STAGES = ("prepare", "select all", "train_linear all", "states all", "train_vae all")
PER_KIND = 1


@pytest.fixture(scope="module")
def bench(tmp_path_factory, few_bootstraps):
    patch = pytest.MonkeyPatch()
    patch.setattr("tomohet.plots.save", lambda *_, **__: None)  # put back at the end; `load` replaces it
    forked.load()
    found = Bench(tmp_path_factory.mktemp("faults"), STAGES)
    found.make()
    yield found
    patch.undo()


@pytest.mark.parametrize("kind", [kind for kind in acts() if kind not in KINDS])
def test_a_fault_ends_in_the_same_results_or_in_one_line(bench, kind):
    for fault, _ in zip(drawn(bench, [kind], seed=0), range(PER_KIND), strict=False):
        outcome = tried(bench, fault)
        assert outcome.good, f"{fault}: {outcome.said}"


def test_the_harness_sees_harm(bench, monkeypatch):
    """A command that goes on with a damaged file, or leaves half a file, is found out."""
    monkeypatch.setattr("tomohet.files.digests.check", lambda path: None)
    for module in ("files.pickles", "files.tables", "files.text", "files.arrays", "model.load"):
        monkeypatch.setattr(f"tomohet.{module}.check", lambda path: None, raising=False)
    fault = Fault("file of another run", "train_linear all", str(small.RESULTS / "all/subset/indices.pkl"))
    monkeypatch.setitem(of_commands.DAMAGE, "of another run", _other_particles)
    assert "went on with it" in tried(bench, fault).said


def _other_particles(path, other, rng):
    from tomohet.files.atomic import write_pickle

    write_pickle(path, [*range(20)])
