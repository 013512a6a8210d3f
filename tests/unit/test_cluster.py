"""`doctor --slurm`: what it reads in a profile and of the file system; the cluster is in tests/slurm."""

import pytest
import yaml

from tomohet.errors import InputError
from tomohet.running.cluster import (
    Site,
    _clock,
    _ended_jobs,
    _gpu,
    _home,
    _latency,
    _minutes,
    _speed,
    site_of,
)
from tomohet.running.shared_disk import HERE, THERE, Speed, on_node, speed


def profile(folder, **content):
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_account_and_partitions_of_a_profile(tmp_path):
    given = {"slurm_account": "lab", "slurm_partition": "gpu", "mem_mb": 4000}
    rules = {"prepare": {"slurm_partition": "cpu"}, "report": {"slurm_partition": "cpu", "mem_mb": 9}}
    expected = Site("lab", ("gpu", "cpu"))
    assert site_of(profile(tmp_path, **{"default-resources": given, "set-resources": rules})) == expected
    as_list = [f"{key}={value}" for key, value in given.items()]
    assert site_of(profile(tmp_path, **{"default-resources": as_list})) == Site("lab", ("gpu",))
    (tmp_path / "p.yaml").write_text("partitions: {cpu: {max_runtime: 60}, gpu: {max_gpu: 4}}\n")
    listed = {"slurm-partition-config": str(tmp_path / "p.yaml"), "slurm-status-command": "squeue"}
    assert site_of(profile(tmp_path, **listed)) == Site("", ("cpu", "gpu"), "squeue")
    with pytest.raises(InputError, match=r"no such profile; --profile names the folder"):
        site_of(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("1-00:00:00", 1440), ("2-12:30:00", 3630), ("1:00", 1), ("04:00:00", 240), ("infinite", float("inf"))],
)
def test_time_limits_of_slurm_are_minutes(text, minutes):
    assert _minutes(text) == minutes


@pytest.mark.parametrize(
    ("command", "seconds", "verdict", "text"),
    [
        ("squeue", 300, "ok", "squeue knows them for 300 s"),
        ("squeue", 60, "FAIL", "set slurm-status-command: sacct in the profile"),
        ("squeue", None, "note", "is not known"),
        ("sacct", 300, "note", "set slurm-status-command: squeue in the profile"),
        ("", 300, "note", "set slurm-status-command: squeue in the profile"),
    ],
)
def test_snakemake_must_learn_of_every_end(command, seconds, verdict, text):
    line = f"MinJobAge               = {seconds} sec\n" if seconds else ""
    found = _ended_jobs(command, f"MessageTimeout          = 10 sec\n{line}MpiDefault = none\n")
    assert found.verdict == verdict and text in found.text


def test_a_node_without_home_needs_a_folder_for_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/home")
    (tmp_path / HERE).write_text("token")
    assert on_node(tmp_path)["home"] is False
    assert _home("node1", "").verdict == "FAIL" and "export XDG_CACHE_HOME" in _home("node1", "").text
    assert _home("node1", "/scratch/cache").verdict == "ok"
    monkeypatch.setenv("HOME", str(tmp_path / "new"))
    assert on_node(tmp_path)["home"] is True


def test_the_speed_of_a_folder_is_measured_and_leaves_nothing(tmp_path):
    found = speed(tmp_path)
    assert min(found.write_mb_s, found.read_mb_s) > 1 and 0.001 < found.small_ms < 5000
    assert list(tmp_path.iterdir()) == []


def test_a_node_says_what_it_sees(tmp_path):
    assert "No such file" in on_node(tmp_path)["error"]
    (tmp_path / HERE).write_text("token")
    assert on_node(tmp_path)["seen"] == "token"
    assert (tmp_path / THERE).read_text() == "token"


def test_what_is_wrong_comes_with_what_to_change():
    slow = _speed("node1", Speed(20, 300, 55))
    assert slow.verdict == "note" and "memory that holds them" in slow.text and "few stacks" in slow.text
    assert _speed("node1", Speed(500, 300, 5)).verdict == "ok"
    late = _latency("node1", 20.0)
    assert late.verdict == "note" and "latency-wait in the profile to 80" in late.text
    assert _latency("node1", 0.1).verdict == "ok"
    assert "9 s or more ahead" in _clock("node1", -1, 9).text and "behind" in _clock("node1", 5, -9).text
    assert _clock("node1", -1, -1).verdict == "ok"
    node = {"node": "n", "given": "0", "cards": [], "driver": True}
    assert "PyTorch with CUDA" in _gpu(node, True)[0].text and _gpu(node, False) == []
    assert _gpu(node | {"cards": ["H100"]}, True)[0].verdict == "ok"
