"""GPUs that jobs ask for: of one machine, and for the linear model and a training of several."""

import pytest

from tomohet.rounds.config import config_mistakes
from tomohet.rounds.machines import of_one_machine, of_several_machines


def config(gpus, each=None):
    return {"gpus": gpus, "gpus_per_node": each}


@pytest.mark.parametrize(("gpus", "each"), [(0, None), (0, 4), (1, None), (4, None), (4, 4), (2, 4)])
def test_on_one_machine_all_stages_ask_for_the_same(gpus, each):
    found = of_several_machines(config(gpus, each))
    assert found == of_one_machine(config(gpus, each))
    assert found.resources == {"cards": gpus} | ({"gpu": gpus, "nodes": 1} if gpus else {})
    assert found.several == ("--multigpu" if gpus > 1 else "")
    assert found.launcher == ""


def test_a_stage_of_several_asks_for_whole_machines_and_starts_once_on_each():
    found = of_several_machines(config(16, 8))
    assert found.resources == {
        "cards": 0,
        "gpu": 16, "nodes": 2, "tasks": 2, "tasks_per_gpu": 0, "mpi": "srun", "cpus_per_task": 16,
        "slurm_extra": "--gpus-per-node=8",
    }  # fmt: skip
    words = (
        "--nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=16 --gpus-per-node=8 --kill-on-bad-exit=1"
    )
    assert found.launcher == f"srun {words}"
    assert found.several == "--multigpu"
    assert of_one_machine(config(16, 8)).resources == {"cards": 8, "gpu": 8, "nodes": 1}


def test_the_plugin_turns_the_request_into_whole_machines():
    """The words that sbatch gets: one task on each of two machines, with the GPUs of all."""
    submit = pytest.importorskip("snakemake_executor_plugin_slurm.submit_string")
    from types import SimpleNamespace

    class Resources(dict):
        __getattr__ = dict.__getitem__

    job = SimpleNamespace(resources=Resources(of_several_machines(config(16, 8)).resources), threads=2)
    names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    words = submit.get_submit_command(job, dict.fromkeys(names, "x")).split()
    for word in ("--nodes=2", "--ntasks=2", "--cpus-per-task=16", "--gpus-per-node=8"):
        assert word in words
    assert not [word for word in words if word.startswith(("--ntasks-per-gpu", "--ntasks-per-node"))]


def test_gpus_that_make_no_whole_number_of_machines_are_refused():
    mistakes = config_mistakes({"dataset": "d", "rounds": {"all": {}}, "gpus": 12, "gpus_per_node": 8})
    assert mistakes == [
        "gpus: found 12, expected a multiple of gpus_per_node (8), for a whole number of machines; "
        "write 8 or 16"
    ]
    for gpus in (2, 8, 24):
        assert not config_mistakes({"dataset": "d", "rounds": {"all": {}}, "gpus": gpus, "gpus_per_node": 8})
