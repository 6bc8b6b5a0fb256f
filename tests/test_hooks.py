"""Hooks: a program for the start and the end of each run, which cannot affect the run."""

import json
import signal
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl import __version__
from memctl.cli.jobs import cleanup
from memctl.cli.options import GlobalOptions, JobOptions
from memctl.config.jobs import JOBS
from memctl.jobs import programs
from tests.support.jobs import fill_archive
from tests.support.ledger import jobs_run, runs
from tests.support.locks import lock_file, write_lock
from tests.support.processes import eventually, is_gone
from tests.support.program import PROGRAM, Memctl, complaint

HOUR = timedelta(hours=1)
HOOKS = ("start", "success", "failure")


def configure(folder: Path, **hooks: list[str]) -> tuple[str, str]:
    """Write a configuration with hooks and return the options that name it."""
    file = folder / "memctl.toml"
    lines = [f"{name} = {json.dumps(command)}\n" for name, command in hooks.items()]
    file.write_text("[hooks]\n" + "".join(lines))
    return "--config", str(file)


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """The file to which each hook adds its input, one document per line."""
    return tmp_path / "received.jsonl"


@pytest.fixture
def configured(tmp_path: Path, received: Path) -> tuple[str, str]:
    """The options that name a configuration with all hooks."""
    command = ["sh", "-c", f"cat >> {received}; echo >> {received}"]
    return configure(tmp_path, **dict.fromkeys(HOOKS, command))


def documents(received: Path) -> list[Any]:
    """Return the documents that the hooks received."""
    lines = received.read_text().splitlines() if received.exists() else []
    return [json.loads(line) for line in lines if line]


def calls(received: Path) -> list[tuple[str, str, int | None]]:
    """Return hook, job and number of the run of each call."""
    return [(one["hook"], one["job"], one["run_id"]) for one in documents(received)]


# What a hook receives, and when


def test_a_hook_receives_the_result_as_json_prints_it(
    migrated: Memctl, remember: Callable[..., str], configured: tuple[str, str], received: Path
) -> None:
    remember(expired_for=HOUR)

    printed = migrated.ok("cleanup", "--json", *configured).json

    start, success = documents(received)
    assert printed.pop("schema") == 1
    common = {
        "schema": 1,
        "job": "cleanup",
        "at": "2026-11-22T09:43:58Z",
        "database": str(migrated.database),
        "host": start["host"],
        "pid": start["pid"],
        "memctl_version": __version__,
    }
    assert start == {"hook": "start", "run_id": None, "result": None, "error": None, **common}
    assert success == {"hook": "success", "run_id": 1, "result": printed, "error": None, **common}
    assert printed["archived"] == 1


def test_a_failure_hook_receives_the_error_as_json_prints_it(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    configured: tuple[str, str],
    received: Path,
) -> None:
    remember(expired_for=HOUR)
    db.execute(
        "CREATE TRIGGER mute BEFORE INSERT ON memory_events BEGIN SELECT RAISE(ABORT, 'no'); END"
    )

    answer = migrated("cleanup", "--json", *configured)

    _, failure = documents(received)
    assert (failure["hook"], failure["run_id"], failure["result"]) == ("failure", 1, None)
    assert failure["error"] == json.loads(answer.err)["error"]
    assert failure["error"]["exit_code"] == answer.exit_code == 12


def test_every_job_of_a_run_has_a_start_and_an_end(
    migrated: Memctl, configured: tuple[str, str], received: Path
) -> None:
    answer = migrated.ok("run", *configured)
    migrated.ok("run", *configured)

    expected = [
        call
        for number, job in enumerate([*JOBS, "cleanup"], start=1)
        for call in (("start", job, None), ("success", job, number))
    ]
    assert (answer.out, answer.err) == ("", "")
    assert calls(received) == expected


def test_a_refused_part_is_a_failure_with_its_result(
    db: sqlite3.Connection, migrated: Memctl, configured: tuple[str, str], received: Path
) -> None:
    fill_archive(db)

    answer = migrated("run", *configured)

    (failure,) = (one for one in documents(received) if one["hook"] == "failure")
    assert answer.exit_code == 3
    assert failure["job"] == "prune"
    assert failure["result"]["refused"] == failure["error"]["message"]
    assert failure["error"]["code"] == "refused"


def test_runs_by_hand_have_hooks(
    migrated: Memctl, remember: Callable[..., str], configured: tuple[str, str], received: Path
) -> None:
    memory = remember(expired_for=HOUR)
    migrated.ok("cleanup", "--agent", "build_agent", *configured)
    migrated.ok("pause", "--reason", "deploying")  # which does not stop a run by hand
    migrated.ok("restore", "build_agent", memory, *configured)
    migrated("archive", "nobody", "x", *configured)

    assert calls(received) == [
        ("start", "cleanup", None),
        ("success", "cleanup", 1),
        ("start", "restore", None),
        ("success", "restore", 2),
        ("start", "archive", None),
        ("failure", "archive", 3),
    ]


def test_without_a_run_no_hook_is_called(
    migrated: Memctl, configured: tuple[str, str], received: Path
) -> None:
    migrated.ok("cleanup", "--dry-run", *configured)
    migrated.ok("run", "--dry-run", *configured)
    migrated.ok("run", "--max-seconds", "0", *configured)
    migrated("prune", "--older-than", "soon", *configured)
    migrated.ok("pause", "--reason", "deploying")
    migrated.ok("run", *configured)
    migrated.ok("cleanup", *configured)

    assert documents(received) == []


def test_wrong_arguments_are_a_failure_only_after_a_start(
    migrated: Memctl, configured: tuple[str, str], tmp_path: Path, received: Path
) -> None:
    migrated("restore", *configured)
    with_start = calls(received)
    received.unlink()
    command = ["sh", "-c", f"cat >> {received}"]
    answer = migrated("restore", *configure(tmp_path, failure=command))

    assert answer.exit_code == 2
    assert with_start == [("start", "restore", None), ("failure", "restore", None)]
    assert calls(received) == []


def test_a_run_that_cannot_start_is_a_failure(
    migrated: Memctl, configured: tuple[str, str], received: Path
) -> None:
    migrated("run", "--db", "missing.db", *configured)
    with lock_file(migrated.database):
        migrated("run", "--lock-wait", "0", *configured)
        migrated("decay", "--lock-wait", "0", *configured)

    assert calls(received) == [
        ("failure", "cleanup", None),
        ("failure", "cleanup", None),
        ("start", "decay", None),
        ("failure", "decay", None),
    ]
    codes = [one["error"]["exit_code"] for one in documents(received) if one["error"]]
    assert codes == [10, 11, 11]


def test_a_wrong_clock_is_one_failure(
    migrated: Memctl, configured: tuple[str, str], received: Path
) -> None:
    migrated.ok("run")

    answer = migrated.at(migrated.now - 2 * HOUR)("run", *configured)

    assert (answer.exit_code, answer.err.count("\n")) == (3, 1)
    assert calls(received) == [("start", "cleanup", None), ("failure", "cleanup", 6)]


def test_a_name_of_any_bytes_is_passed_on(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    configured: tuple[str, str],
    received: Path,
) -> None:
    remember(agent_id="\N{ELEPHANT}", expired_for=HOUR)
    db.execute("UPDATE agent_memory SET agent_id = CAST(x'ff' || agent_id AS TEXT)")

    migrated.ok("cleanup", *configured)

    _, success = documents(received)
    assert success["result"]["agents"] == {"\\xff\N{ELEPHANT}": 1}


# A hook does not affect the run


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        pytest.param(["false"], "ended with 1", id="fails"),
        pytest.param(["/no/such"], "cannot be run (No such file or directory)", id="missing"),
        pytest.param(["sh", "-c", "kill -9 $$"], "was ended by signal 9", id="killed"),
    ],
)
def test_a_failing_hook_is_one_warning_and_the_job_succeeds(
    migrated: Memctl, tmp_path: Path, command: list[str], reason: str
) -> None:
    options = configure(tmp_path, success=command)

    answer = migrated.ok("cleanup", *options)
    log = migrated.ok("cleanup", "--log-format", "journal", *options)

    assert complaint(answer).startswith(f"memctl: the success hook of cleanup {reason}")
    assert answer.err.endswith("; check [hooks] in the configuration\n")
    assert f"<4>{answer.err}" in log.err
    assert runs(migrated.database) == [("cleanup", "ok", 1)] * 2


def test_a_hook_that_takes_too_long_is_one_warning_and_is_stopped(
    migrated: Memctl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(programs, "PROGRAM_SECONDS", 0.2)
    _, file = configure(tmp_path, success=["sleep", "600"])
    call = GlobalOptions(db=migrated.database, config=Path(file), now="2026-11-22T09:43:58Z")

    cleanup(call, JobOptions())

    assert capsys.readouterr().err == (
        "memctl: the success hook of cleanup was stopped after 0.2 s; check [hooks] in the"
        " configuration\n"
    )
    assert runs(migrated.database) == [("cleanup", "ok", 1)]


def test_a_failing_hook_leaves_the_exit_code_of_a_failure(migrated: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path, start=["false"], failure=["false"])

    answer = migrated("cleanup", "--agent", "nobody", *options)

    assert (answer.exit_code, len(answer.err.splitlines())) == (1, 3)


@pytest.mark.parametrize("words", [("run",), ("cleanup",)])
def test_no_lock_is_held_during_a_hook(
    migrated: Memctl, remember: Callable[..., str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    remember(expired_for=HOUR)
    codes = tmp_path / "codes"
    program = f"{PROGRAM} remember a learning k v; {PROGRAM} snapshot --lock-wait 0"
    command = ["sh", "-c", f"{program}; echo $? >> {codes}"]

    migrated.ok(*words, *configure(tmp_path, start=command, success=command))

    assert set(codes.read_text().splitlines()) == {"0"}
    assert jobs_run(migrated.database)[:3] == ["snapshot", "cleanup", "snapshot"]


def test_the_failure_hook_runs_after_the_lock_is_released(migrated: Memctl, tmp_path: Path) -> None:
    codes = tmp_path / "codes"
    command = ["sh", "-c", f"{PROGRAM} snapshot --lock-wait 0; echo $? >> {codes}"]

    migrated("cleanup", "--agent", "nobody", *configure(tmp_path, failure=command))

    assert codes.read_text() == "0\n"


def test_memctl_in_a_hook_runs_no_hooks(migrated: Memctl, tmp_path: Path, received: Path) -> None:
    file = tmp_path / "memctl.toml"
    inner = f"{PROGRAM} cleanup --config {file}"
    configure(tmp_path, success=["sh", "-c", f"cat >> {received}; {inner}"])

    migrated.ok("decay", "--config", str(file))

    assert jobs_run(migrated.database) == ["decay", "cleanup"]
    assert calls(received) == [("success", "decay", 1)]


def test_a_job_that_another_process_completes_during_its_hook_is_not_repeated(
    migrated: Memctl, tmp_path: Path
) -> None:
    start = ["sh", "-c", f"grep -q decay && {PROGRAM} decay"]

    answer = migrated("run", "-v", *configure(tmp_path, start=start))

    assert answer.exit_code == 0
    assert jobs_run(migrated.database) == list(JOBS)
    assert "\ndecay: not due before 2026-11-23T00:00:00Z\n" in answer.err


def test_concurrent_runs_with_hooks_do_no_work_twice(
    migrated: Memctl, configured: tuple[str, str]
) -> None:
    both = [migrated.start("run", *configured) for _ in range(2)]
    outcomes = [(*process.communicate(), process.returncode) for process in both]

    assert outcomes == [(b"", b"", 0)] * 2
    assert sorted(jobs_run(migrated.database)) == sorted([*JOBS, "cleanup"])


@pytest.mark.parametrize("hook", ["start", "success"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_memctl_and_the_hook(
    migrated: Memctl, tmp_path: Path, hook: str, number: int
) -> None:
    started = tmp_path / "started"
    command = f"sleep 600 & echo $! > {started}.new; mv {started}.new {started}; wait"
    process = migrated.start("run", *configure(tmp_path, **{hook: ["sh", "-c", command]}))
    eventually(started.exists)
    sleeper = int(started.read_text())

    process.send_signal(number)
    out, err = process.communicate()

    assert (out, process.returncode in (128 + number, -number)) == (b"", True)
    assert b"Traceback" not in err
    eventually(lambda: is_gone(sleeper))
    assert jobs_run(migrated.database) == ([] if hook == "start" else ["cleanup"])


def test_a_run_that_a_signal_ends_has_no_failure_hook(
    migrated: Memctl, remember: Callable[..., str], configured: tuple[str, str], received: Path
) -> None:
    remember(expired_for=HOUR)
    with write_lock(migrated.database):
        process = migrated.start("cleanup", "--lock-wait", "60", *configured)
        eventually(lambda: received.exists() and received.read_text().endswith("\n"))
        process.terminate()
        process.communicate()

    assert process.returncode == 143
    assert calls(received) == [("start", "cleanup", None)]


# Configuration


def test_a_missing_program_is_found_by_config_validate(migrated: Memctl, tmp_path: Path) -> None:
    options = configure(tmp_path, start=["sh"], success=["no-such"], failure=["/no/such", "x"])

    answer = migrated("config", "validate", "--json", *options)

    assert answer.exit_code == 2
    assert [(problem["setting"], problem["message"]) for problem in answer.json["problems"]] == [
        ("hooks.success", "there is no program 'no-such' that this user can run"),
        ("hooks.failure", "there is no program '/no/such' that this user can run"),
    ]


def test_arguments_are_not_interpreted_by_a_shell(migrated: Memctl, tmp_path: Path) -> None:
    script = tmp_path / "show.sh"
    script.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > {tmp_path}/arguments\n')
    script.chmod(0o700)

    migrated.ok("cleanup", *configure(tmp_path, success=[str(script), "$HOME", "a b", "*", ";ls"]))

    assert (tmp_path / "arguments").read_text() == "$HOME|a b|*|;ls|"
