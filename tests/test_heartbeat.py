"""The heartbeat: sent after each `memctl run`, within its time, and without affecting the run."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from memctl import __version__
from memctl.errors import MemctlError
from memctl.jobs.heartbeat import send_heartbeat
from tests.support.locks import lock_file
from tests.support.processes import eventually, has_opened
from tests.support.program import PROGRAM, Answer, Memctl
from tests.support.web import WebServer, web_server

SECRET = "0b9f-secret"  # noqa: S105


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server that receives heartbeats."""
    with web_server() as running:
        yield running


@pytest.fixture
def configured(tmp_path: Path, server: WebServer) -> tuple[str, str]:
    """The options that name a configuration with a heartbeat to the server."""
    return configure(tmp_path, server.url(f"/ping/{SECRET}"))


def configure(folder: Path, url: str) -> tuple[str, str]:
    """Write a configuration and return the options that name it."""
    file = folder / "memctl.toml"
    file.write_text(f"[heartbeat]\nurl = {json.dumps(url)}\n")
    return "--config", str(file)


# When it is sent


def test_each_successful_run_sends_one_get_request(
    migrated: Memctl, server: WebServer, configured: tuple[str, str]
) -> None:
    answers = [migrated.ok("run", *configured) for _ in range(2)]

    assert answers == [Answer(0, "", "")] * 2
    assert server.paths == [f"/ping/{SECRET}"] * 2
    method, _, headers = server.requests[0]
    assert (method, headers["User-Agent"]) == ("GET", f"memctl/{__version__}")


def test_a_run_with_nothing_due_or_while_paused_is_a_success(
    migrated: Memctl, server: WebServer, tmp_path: Path
) -> None:
    options = configure(tmp_path, server.url("/ping"))
    migrated.ok("pause", "--reason", "deploying")
    migrated.ok("run", *options)
    migrated.ok("resume")
    with Path(options[1]).open("a") as file:
        file.write("[run]\n" + "".join(f'{job} = "never"\n' for job in ("cleanup", "decay")))
        file.write("".join(f'{job} = "never"\n' for job in ("promote", "snapshot", "prune")))
    migrated.ok("run", *options)

    assert server.paths == ["/ping"] * 2


def test_a_run_that_fails_sends_a_failure(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    server: WebServer,
    configured: tuple[str, str],
) -> None:
    remember(expired_for=timedelta(hours=1))
    db.execute(
        "CREATE TRIGGER mute BEFORE INSERT ON memory_events BEGIN SELECT RAISE(ABORT, 'no'); END"
    )

    failed = migrated("run", *configured)
    with lock_file(migrated.database):
        locked = migrated("run", "--lock-wait", "0", *configured)
    missing = migrated("run", "--db", "missing.db", *configured)

    assert (failed.exit_code, locked.exit_code, missing.exit_code) == (12, 11, 10)
    assert [answer.err.count("\n") for answer in (failed, locked, missing)] == [1] * 3
    assert server.paths == [f"/ping/{SECRET}/fail"] * 3


def test_jobs_by_hand_and_previews_send_nothing(
    migrated: Memctl, server: WebServer, configured: tuple[str, str]
) -> None:
    migrated.ok("cleanup", *configured)
    migrated.ok("run", "--dry-run", *configured)

    assert server.requests == []


@pytest.mark.parametrize(
    ("path", "failed", "requested"),
    [
        pytest.param("/ping/", True, "/ping/fail", id="a slash at the end"),
        pytest.param("/ping?rid=1&x=%2F", True, "/ping/fail?rid=1&x=%2F", id="a query"),
        pytest.param("/ping?rid=1#part", False, "/ping?rid=1", id="a fragment"),
        pytest.param("", True, "/fail", id="no path"),
        pytest.param("", False, "/", id="no path, and a success"),
    ],
)
def test_a_failure_adds_to_the_path(
    server: WebServer, path: str, failed: bool, requested: str
) -> None:
    send_heartbeat(server.url(path), failed=failed)

    assert server.paths == [requested]


def test_a_user_name_and_a_password_are_sent_as_a_header(server: WebServer) -> None:
    send_heartbeat(server.url("/ping", user="me:p%40ss@"), failed=False)

    ((_, path, headers),) = server.requests
    assert (path, headers["Authorization"]) == ("/ping", "Basic bWU6cEBzcw==")
    assert headers["Host"] == f"127.0.0.1:{server.port}"


def test_the_proxy_of_the_environment_is_used(
    migrated: Memctl, server: WebServer, tmp_path: Path
) -> None:
    options = configure(tmp_path, "http://ping.invalid/ping")

    ran = subprocess.run(
        [PROGRAM, "run", *options],
        env=migrated.environment() | {"http_proxy": server.url("")},
        capture_output=True,
        check=True,
    )

    assert (ran.stdout, ran.stderr) == (b"", b"")
    assert server.paths == ["http://ping.invalid/ping"]


# Failures


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param(500, "status 500", id="an error"),
        pytest.param(404, "status 404", id="an unknown check"),
        pytest.param(302, "status 302", id="a redirect"),
    ],
)
def test_an_unsuccessful_answer_is_one_warning(
    migrated: Memctl,
    server: WebServer,
    configured: tuple[str, str],
    status: int,
    reason: str,
) -> None:
    server.status, server.location = status, server.url("/elsewhere")

    answer = migrated.ok("run", *configured)
    log = migrated.ok("run", "--log-format", "journal", *configured)

    warning = (
        f"memctl: the heartbeat could not be sent to http://127.0.0.1:{server.port} ({reason});"
        " check [heartbeat] in the configuration\n"
    )
    assert answer == Answer(0, "", warning)
    assert log.err.endswith(f"<4>{warning}")
    assert server.paths == [f"/ping/{SECRET}"] * 2


def test_a_warning_contains_no_secret_and_leaves_the_exit_code_of_the_run(
    memctl: Memctl, tmp_path: Path
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]

    answer = memctl(
        "run", *configure(tmp_path, f"http://me:{SECRET}@127.0.0.1:{port}/{SECRET}?{SECRET}")
    )

    assert (answer.exit_code, answer.out, SECRET in answer.err) == (10, "", False)
    assert answer.err.splitlines()[0] == (
        f"memctl: the heartbeat could not be sent to http://127.0.0.1:{port} (Connection refused);"
        " check [heartbeat] in the configuration"
    )


def test_an_answer_that_is_not_http_is_reported(server: WebServer) -> None:
    with pytest.raises(MemctlError, match=r"sent to https://127.* \(\[SSL") as caught:
        send_heartbeat(server.url(f"/{SECRET}", scheme="https"), failed=False)

    assert SECRET not in str(caught.value)


def test_an_invalid_host_name_is_reported() -> None:
    with pytest.raises(MemctlError, match=r"sent to http://a\.\.b \(invalid host name\)"):
        send_heartbeat("http://a..b/ping", failed=False)


def test_a_slow_server_is_abandoned(server: WebServer) -> None:
    server.answers.clear()

    with pytest.raises(MemctlError, match="no answer in time"):
        send_heartbeat(server.url("/ping"), failed=False, seconds=0.1)


def test_the_time_limit_is_for_the_whole_answer() -> None:
    """Each line of the endless answer arrives in time."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        endless = f"""
import socket
client, _ = socket.socket(fileno={listening.fileno()}).accept()
while True:
    client.sendall(b"HTTP/1.1 100 Continue\\r\\n\\r\\n")
"""
        sender = subprocess.Popen(
            [sys.executable, "-c", endless],
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
        try:
            with pytest.raises(MemctlError, match="no answer in time"):
                send_heartbeat(
                    f"http://127.0.0.1:{listening.getsockname()[1]}/", failed=False, seconds=0.3
                )
        finally:
            sender.kill()
            sender.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_wait_for_an_answer(
    migrated: Memctl, server: WebServer, configured: tuple[str, str], number: int
) -> None:
    server.answers.clear()
    process = migrated.start("run", *configured)
    eventually(lambda: bool(server.requests))

    process.send_signal(number)
    out, err = process.communicate(timeout=5)

    assert (out, process.returncode) == (b"", 128 + number)
    assert b"Traceback" not in err


def test_a_run_that_a_signal_ends_sends_nothing(
    db: sqlite3.Connection, migrated: Memctl, server: WebServer, configured: tuple[str, str]
) -> None:
    with lock_file(migrated.database):
        process = migrated.start("run", *configured)
        eventually(lambda: has_opened(process.pid, f"{migrated.database}.memctl.lock"))
        process.terminate()
        process.communicate()

    assert process.returncode == 143
    assert server.requests == []


def test_an_answer_without_a_status_is_reported() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        answer = f"""
import socket
client, _ = socket.socket(fileno={listening.fileno()}).accept()
client.recv(9999)
client.sendall(b"220 smtp.example.com\\r\\n")
"""
        with (
            subprocess.Popen([sys.executable, "-c", answer], pass_fds=[listening.fileno()]),
            pytest.raises(MemctlError, match=r"\(no valid answer\)"),
        ):
            send_heartbeat(f"http://127.0.0.1:{listening.getsockname()[1]}/", failed=False)


# Configuration


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x",
        "file:///etc/passwd",
        "example.com/ping",
        "https:///ping",
        "https://example.com:99999/ping",
        "https://[::1/ping",
        "https://example.com/a b",
        "https://example.com/a\nb",
        "https://exämple.com/ping",
        "",
    ],
)
def test_only_http_and_https_urls_are_accepted(memctl: Memctl, tmp_path: Path, url: str) -> None:
    options = configure(tmp_path, url)

    answer = memctl("run", *options)

    assert answer == Answer(
        2,
        "",
        f"memctl: {options[1]}: heartbeat.url: Input should be a URL such as"
        " https://example.com/ping; correct it\n",
    )


def test_the_secret_in_the_url_is_not_shown(
    memctl: Memctl, server: WebServer, configured: tuple[str, str]
) -> None:
    text = memctl.ok("config", "show", *configured).out
    document = memctl.ok("config", "show", "--json", *configured).json

    (shown,) = (row for row in document["settings"] if row["setting"] == "heartbeat.url")
    assert shown["value"] == f"http://127.0.0.1:{server.port}/..."
    assert SECRET not in text
