"""The server of a results folder: who may ask, files, and the command."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from http.cookies import SimpleCookie

import pytest
from served_results import TOKEN, Served, make_served, serving

from tomohet.cli import run_command
from tomohet.commands.serve import bound_socket, refuse_without_libraries
from tomohet.errors import InputError
from tomohet.files.locks import writing
from tomohet.serving import kept_page

QUERY = "kmeans == 1"


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_store, tiny_linear, tiny_training):
    return make_served(tmp_path_factory.mktemp("served") / "tiny", tiny_store, tiny_linear, tiny_training)


@pytest.fixture(scope="module")
def server(results):
    with serving(results) as running:
        yield running


# Who may ask


@pytest.mark.parametrize("token", [None, "", "another token", TOKEN[:-1], "é"])
@pytest.mark.parametrize("address", ["/", "/round?round=all", "/all/linear/mean.mrc", "/absent"])
def test_nothing_is_answered_without_the_token(server, address, token):
    headers = {} if token != "é" else {"Authorization": "Bearer \xe9"}
    status, _, content = server.ask("GET", address, token=None if headers else token, **headers)
    assert status == 403 and b"token" in content


def test_the_printed_address_gives_a_cookie_that_other_pages_cannot_use(server):
    status, headers, content = server.ask("GET", f"/?token={TOKEN.replace(' ', '%20')}", token=None)
    assert status == 200 and b'http-equiv="refresh"' in content
    (name, morsel), *others = SimpleCookie(headers["set-cookie"]).items()
    assert not others and morsel["httponly"] and morsel["samesite"] == "strict"
    cookie = {"Cookie": headers["set-cookie"].split(";")[0], "token": None}
    assert server.ask("GET", "/", **cookie)[0] == 200
    own = f"http://127.0.0.1:{server.port}"
    wanted = {"round": "all", "source": "linear", "z": [0.0, 0.0]}
    assert server.ask("POST", "/volume", wanted, Origin=own, **cookie)[0] == 200
    for origin in ("http://evil.example", f"http://localhost:{server.port}", own + "1", "null"):
        status, _, content = server.ask("POST", "/volume", wanted, Origin=origin, **cookie)
        assert status == 403 and b"comes from a page of" in content
    assert server.ask("POST", "/volume", wanted, **cookie)[0] == 403
    assert server.ask("GET", "/", token=None, Cookie=f"{name}=wrong")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "[", ""])
def test_names_of_other_hosts_are_refused(server, host):
    assert server.ask("GET", "/all/linear/mean.mrc", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "127.0.0.1:8765"])
def test_the_end_of_a_tunnel_may_have_another_port(server, host):
    assert server.ask("GET", "/all/linear/mean.mrc", Host=host)[0] == 200


# Files


def test_the_page_is_the_report_with_what_only_a_server_can_do(server, results):
    status, headers, content = server.ask("GET", "/")
    assert status == 200 and headers["cache-control"] == "no-store"
    assert b"function sectionsView" in content and b'id="round-all"' in content
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    run_command("report", [str(results), "-o", str(results / "report.html")])
    assert "sectionsView" not in (results / "report.html").read_text()


def test_the_page_is_written_again_when_a_file_has_changed_and_only_then(results, monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(
        kept_page, "render", lambda found, served: written.append(found) or f"page {len(written)}"
    )
    kept = kept_page.KeptPage(results)
    assert [kept.text(), kept.text()] == ["page 1", "page 1"]
    added = results / "all" / "linear" / "note.txt"
    added.write_text("a")
    assert [kept.text(), kept.text()] == ["page 2", "page 2"]
    added.write_text("changed")
    assert kept.text() == "page 3"
    (results / "served" / "mean-1").mkdir(parents=True, exist_ok=True)  # what the server writes itself
    (results / "all" / ".hidden").write_text("a")
    (results / "report.html").write_text("a")
    for name in ("all/.hidden", "report.html"):
        (results / name).unlink()
    added.unlink()
    assert kept.text() == "page 4"
    damaged = results / "all" / "gone.csv"
    damaged.symlink_to(tmp_path / "nowhere")
    assert kept.text() == "page 5"
    damaged.unlink()
    (results / "served" / "mean-1").rmdir()


def test_files_are_sent_as_they_are_and_none_can_act_as_the_page(server, results):
    (results / "hostile.html").write_text("<script>fetch('/mean')</script>")
    _, headers, _ = server.ask("GET", "/hostile.html")
    assert headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
    status, headers, content = server.ask("GET", "/all/linear/z.train.pkl")
    assert status == 200 and content == (results / "all/linear/z.train.pkl").read_bytes()
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-type"] == "application/octet-stream"
    status, headers, content = server.ask("GET", "/all/linear/")
    assert b'href="/all/linear/mean.mrc"' in content and b".digests" not in content


@pytest.mark.parametrize(
    "address",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/all/..%2f..%2fsecret.txt",
        "/served/../../secret.txt",
        "/served/..%2f..%2fsecret.txt",
        "//etc/passwd",
        "/all//../../secret.txt",
        "/all/..%5c..%5csecret.txt",
        "/link.txt",
        "/linked/secret.txt",
        "/all/linear/.digests",
        "/all/absent.mrc",
        "/all/linear/mean.mrc/x",
        "/%00",
    ],
)
def test_nothing_outside_of_the_results_is_sent(server, results, address):
    (results.parent / "secret.txt").write_text("secret")
    for name, target in (("link.txt", results.parent / "secret.txt"), ("linked", results.parent)):
        if not (results / name).is_symlink():
            (results / name).symlink_to(target)
    status, _, content = server.ask("GET", address)
    assert status == 404 and "There is no file" in content["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_files_are_only_read(server, method):
    assert server.ask(method, "/all/linear/mean.mrc", {})[0] == 405


# The command


@contextmanager
def started(results, *words):
    """Run the command in a process of its own; the process and the address that it prints."""
    command = [sys.executable, "-m", "tomohet.cli", "serve", str(results), "--port", "0", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()  # where the test has failed
        process.wait()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_server_and_its_jobs(results, tmp_path, number, status):
    folder = tmp_path / "kept"
    with started(results, "--folder", folder, "--threads", 1) as (process, address):
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{40,})", address)
        assert found, address
        server = Served(int(found[1]))
        mean = server.ask("POST", "/mean", {"round": "all", "query": QUERY}, token=found[2])[2]
        until = time.monotonic() + 60
        while not list(folder.glob(".mean-*/indices.pkl")):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        began = time.monotonic()
        assert process.wait(30) == status
        assert time.monotonic() - began < 10
        assert not folder.exists()  # nothing was finished
        assert "error" not in process.stderr.read()
        assert not running(mean["job"])


def test_a_folder_has_one_server(results, tmp_path, run_script):
    with writing(tmp_path / "kept"):
        failed = run_script("serve", results, "--folder", tmp_path / "kept", "--port", 0, check=False)
    assert failed.returncode == 73 and "is writing there" in failed.stderr


def running(word: str) -> list[str]:
    """Command lines of this machine's processes that contain a word."""
    lines = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                lines.append(file.read().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if word in line]


def test_a_folder_left_by_a_killed_server_is_removed(results, tmp_path):
    folder = tmp_path / "kept"
    (folder / ".mean-0123456789abcdef.part").mkdir(parents=True)
    (folder / ".mean-0123456789abcdef.part" / "indices.pkl").touch()
    (folder / "notes").mkdir()
    with serving(results, folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["notes"]


def test_a_taken_port_is_named():
    with bound_socket(0) as taken, pytest.raises(InputError, match=r"--port \d+: .*give another port"):
        bound_socket(taken.getsockname()[1])


def test_missing_libraries_name_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(InputError, match=r"needs uvicorn: .*tomohet\[serve\]"):
        refuse_without_libraries()


def test_a_folder_without_results_is_refused(run_script, tmp_path):
    failed = run_script("serve", tmp_path, check=False)
    assert failed.returncode == 1 and "no stage of the workflow" in failed.stderr
    failed = run_script("serve", tmp_path / "absent", check=False)
    assert failed.returncode == 1 and "no such folder" in failed.stderr
