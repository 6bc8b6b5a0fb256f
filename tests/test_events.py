"""Events: in order, exactly once, after a cursor, and to a follower as they happen."""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.cli import events
from memctl.cli.options import GlobalOptions, OutputOptions, PageOptions
from memctl.storage import engines
from memctl.storage.rows import EventFilter
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.events import follow_events
from tests.support.database import connect, insert_memory, rows, text_of
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import Service

EVENT = {
    "event_id": 1,
    "at": "2026-11-22T09:43:58Z",
    "event": "memory:expired",
    "memory_id": "m-1",
    "agent_id": "qa_agent",
    "type": "context",
    "key": "task:1",
    "run_id": 1,
    "detail": None,
}


def ids(answer: Answer) -> list[int]:
    """Return the numbers of the events in a JSON array."""
    return [event["event_id"] for event in answer.json]


@pytest.fixture
def happened(db: sqlite3.Connection, migrated: Memctl) -> Memctl:
    """Eight events: two expired, one decayed, one archived and restored by hand, one pruned."""
    hour = timedelta(hours=1)
    insert_memory(db, id="m-1", agent_id="qa_agent", type="context", key="task:1", expired_for=hour)
    insert_memory(db, id="m-2", key="k\n2", expired_for=hour)
    insert_memory(db, id="m-3", idle_days=20)
    migrated.ok("cleanup")
    migrated.ok("decay")
    later = migrated.at(NOW + timedelta(days=1))
    later.ok("archive", "build_agent", "m-3")
    later.ok("restore", "build_agent", "m-3")
    migrated.at(NOW + timedelta(days=91)).ok("prune", "--agent", "qa_agent", "--force")
    return migrated


def test_events_are_listed_in_order_with_their_detail(happened: Memctl) -> None:
    received = happened.ok("events").json

    assert received[0] == EVENT
    assert [(event["event_id"], event["event"]) for event in received] == [
        (1, "memory:expired"),
        (2, "memory:archived"),
        (3, "memory:expired"),
        (4, "memory:archived"),
        (5, "memory:decayed"),
        (6, "memory:archived"),
        (7, "memory:restored"),
        (8, "memory:pruned"),
    ]
    assert [(event["memory_id"], event["detail"]) for event in received] == [
        ("m-1", None),
        ("m-1", {"reason": "expired"}),
        ("m-2", None),
        ("m-2", {"reason": "expired"}),
        (None, {"decayed": 1}),
        ("m-3", {"reason": "manual"}),
        ("m-3", None),
        ("m-1", None),
    ]


def test_each_format_lists_the_same_events(happened: Memctl) -> None:
    lines = happened.ok("events", "--nl").out.splitlines()
    comma = happened.ok("events", "--csv", "--limit", "4").out
    table = happened.ok("events", "--table", "--since", "7").out

    assert [json.loads(line) for line in lines] == happened.ok("events").json
    assert comma.splitlines()[1] == (
        '5,2026-11-22T09:43:58Z,memory:decayed,,,,,2,"{""decayed"": 1}"'
    )
    assert table == (
        "event id  at                event   memory  agent     type     key     run\n"
        "       8  2027-02-21 09:43  pruned  m-1     qa_agent  context  task:1    5\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--agent", "qa_agent"], [1, 2, 8], id="by agent"),
        pytest.param(["--type", "context"], [1, 2, 8], id="by type"),
        pytest.param(["--key", "k\n2"], [3, 4], id="by key"),
        pytest.param(["--event", "expired"], [1, 3], id="by event"),
        pytest.param(["--event", "memory:pruned"], [8], id="by event, with the prefix"),
        pytest.param(["--run", "3"], [6], id="by run"),
        pytest.param(["--since", "6"], [7, 8], id="after a cursor"),
        pytest.param(["--since", "0", "--limit", "2"], [1, 2], id="the first after a cursor"),
        pytest.param(["--limit", "2"], [7, 8], id="the newest"),
        pytest.param(["--since", "2026-11-23"], [6, 7, 8], id="since a date"),
        pytest.param(["--since", "3h"], [1, 2, 3, 4, 5, 6, 7, 8], id="since a duration"),
        pytest.param(["--since", "8"], [], id="after the last"),
        pytest.param(["--agent", "nobody"], [], id="an unknown agent"),
    ],
)
def test_events_can_be_filtered(happened: Memctl, words: list[str], expected: list[int]) -> None:
    assert ids(happened.ok("events", *words)) == expected


def test_a_reader_that_continues_from_its_cursor_gets_each_event_once(happened: Memctl) -> None:
    seen = [0]

    while page := ids(happened.ok("events", "--since", str(seen[-1]), "--limit", "2")):
        seen += page

    assert seen == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_a_limited_list_prints_how_to_continue(happened: Memctl) -> None:
    answer = happened.ok("events", "--since", "1", "--limit", "2")

    assert answer.err == "events: there are more; continue with --since 3\n"


def test_pruned_events_are_reported(db: sqlite3.Connection, happened: Memctl) -> None:
    db.execute("DELETE FROM memory_events WHERE event_id < 6")

    missed = happened.ok("events", "--since", "1")
    missed_none = happened.ok("events", "--since", "5")
    from_the_start = happened.ok("events", "--since", "0")

    assert (ids(missed), missed.err) == ([6, 7, 8], "events: events up to 5 have been pruned\n")
    assert (ids(missed_none), missed_none.err) == ([6, 7, 8], "")
    assert (ids(from_the_start), from_the_start.err) == ([6, 7, 8], "")


@pytest.mark.parametrize("follow", [[], ["--follow"]], ids=["list", "follow"])
def test_a_cursor_beyond_the_newest_event_is_refused(happened: Memctl, follow: list[str]) -> None:
    answer = happened("events", "--since", "9", *follow)

    assert (answer.exit_code, answer.out) == (1, "")
    assert answer.err == (
        "memctl: there is no event 9, the newest is 8; if the database was restored from a "
        "backup, start over with --since 0\n"
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(["--since", "yesterday"], "'yesterday' is not a time", id="not a time"),
        pytest.param(["--event", "memory:eaten"], "there is no event 'memory:eaten'", id="event"),
        pytest.param(["--follow", "--csv"], "--follow prints one JSON object a line", id="format"),
        pytest.param(["--nl", "--csv"], "cannot be used together", id="two formats"),
    ],
)
def test_invalid_options_are_usage_errors(
    migrated: Memctl, words: list[str], complaint: str
) -> None:
    answer = migrated("events", *words)

    assert (answer.exit_code, answer.out) == (2, "")
    assert complaint in answer.err


def test_a_detail_that_is_not_json_is_shown_unchanged(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.execute("INSERT INTO memory_events (at, event, detail) VALUES ('2026', 'memory:alert', '{')")

    assert migrated.ok("events").json[0]["detail"] == "{"


def test_a_decay_is_reported_when_its_run_ends(db: sqlite3.Connection, migrated: Memctl) -> None:
    db.executescript(
        """
        INSERT INTO memory_events (at, event) VALUES ('2026', 'memory:pruned');
        INSERT INTO memory_runs (run_id, job, started_at, status, memctl_version, host, pid)
            VALUES (1, 'decay', '2026', 'running', '0.1.0', 'h', 1);
        INSERT INTO memory_events (at, event, run_id, detail)
            VALUES ('2026', 'memory:decayed', 1, '{"decayed": 10}');
        INSERT INTO memory_events (at, event) VALUES ('2026', 'memory:archived');
        """
    )

    during_the_run = ids(migrated.ok("events"))
    db.execute("UPDATE memory_runs SET status = 'ok'")
    afterwards = ids(migrated.ok("events", "--since", "1"))

    assert during_the_run == [1]
    assert afterwards == [2, 3]


def test_a_crashed_decay_is_reported_when_another_run_has_begun(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.executescript(
        """
        INSERT INTO memory_runs (job, started_at, status, memctl_version, host, pid)
            VALUES ('decay', '2026-11-22', 'running', '0.1.0', 'h', 1);
        INSERT INTO memory_events (at, event, run_id, detail)
            VALUES ('2026', 'memory:decayed', 1, '{"decayed": 10}');
        """
    )

    during_the_run = ids(migrated.ok("events"))
    migrated.ok("cleanup")

    assert (during_the_run, ids(migrated.ok("events"))) == ([], [1])


# Following


@contextmanager
def following(memctl: Memctl, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Follow the events until the block ends."""
    process = memctl.start("events", "--follow", *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def next_event(process: "subprocess.Popen[bytes]") -> Any:
    """Wait for the next line that a follower prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.endswith(b"\n"), process.communicate()
    return json.loads(line)


def test_a_follower_gets_past_events_and_then_new_ones(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, id="m-1", expired_for=timedelta(hours=1))
    migrated.ok("cleanup")

    with following(migrated, "--since", "0") as process:
        received = [next_event(process), next_event(process)]
        migrated.ok("restore", "build_agent", "m-1")
        received.append(next_event(process))

    assert [(event["event_id"], event["event"]) for event in received] == [
        (1, "memory:expired"),
        (2, "memory:archived"),
        (3, "memory:restored"),
    ]


def test_a_follower_gets_many_events_in_order_and_stops_at_a_limit(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.executemany(
        "INSERT INTO memory_events (at, event, agent_id) VALUES ('2026', 'memory:pruned', ?)",
        [(str(number % 2),) for number in range(3000)],
    )

    answer = migrated.ok("events", "--follow", "--since", "0", "--agent", "1", "--limit", "1400")

    lines = [json.loads(line)["event_id"] for line in answer.out.splitlines()]
    assert lines == list(range(2, 2801, 2))


def test_a_follower_without_a_cursor_gets_only_new_events(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, id="m-1", expired_for=timedelta(hours=1))
    migrated.ok("cleanup")

    with following(migrated, "--since", "2") as process:
        migrated.ok("restore", "build_agent", "m-1")

        assert next_event(process)["event_id"] == 3


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        pytest.param(signal.SIGINT, 130, id="interrupted"),
        pytest.param(signal.SIGTERM, 143, id="terminated"),
    ],
)
def test_a_signal_ends_a_follower(happened: Memctl, number: signal.Signals, exit_code: int) -> None:
    with following(happened, "--since", "7") as process:
        next_event(process)
        process.send_signal(number)
        out, err = process.communicate()

    assert (process.returncode, out) == (exit_code, b"")
    assert b"Traceback" not in err


def test_a_follower_ends_without_a_reader_even_if_no_event_follows(
    happened: Memctl,
) -> None:
    with following(happened, "--since", "7") as process:
        next_event(process)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None

        assert process.wait(timeout=60) == 141


def test_a_follower_keeps_no_transaction_open(
    db: sqlite3.Connection, happened: Memctl, path: Path
) -> None:
    with following(happened, "--since", "7") as process:
        next_event(process)
        db.execute("INSERT INTO memory_events (at, event) VALUES ('2026', 'memory:pruned')")
        next_event(process)

        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    assert busy == 0


def test_a_follower_survives_a_rollback_and_a_migration(
    db: sqlite3.Connection, happened: Memctl
) -> None:
    db.close()
    with following(happened, "--since", "7") as process:
        next_event(process)
        happened.ok("rollback", "--to", "0", "--yes")
        happened.ok("migrate", "--no-backup")
        happened.ok("archive", "build_agent", "m-3")

        again = next_event(process)

    assert (again["event_id"], again["event"]) == (1, "memory:archived")


def test_a_follower_waits_for_a_locked_database(
    service: Service, db: sqlite3.Connection, happened: Memctl, path: Path
) -> None:
    service.close()
    db.execute("PRAGMA journal_mode = DELETE")
    reports: list[str] = []
    moves = iter(["BEGIN EXCLUSIVE", "COMMIT"])  # each while the follower waits

    def wait() -> None:
        move = next(moves)
        db.execute(move)
        if move == "BEGIN EXCLUSIVE":
            db.execute("INSERT INTO memory_events (at, event) VALUES ('2026', 'memory:pruned')")

    events = follow_events(path, EventFilter(), after=7, wait=wait, report=reports.append)
    received = [next(events).event_id, next(events).event_id]

    assert received == [8, 9]
    assert list(moves) == []
    assert reports == []


def other_database(db: sqlite3.Connection, path: Path, change: str) -> Path:
    """Close the database, and return a changed copy of it, to be put in its place."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    other = path.with_name("other.db")
    other.write_bytes(path.read_bytes())
    with closing(connect(other)) as changed:
        changed.execute(change)
    return other


def test_a_follower_continues_with_a_file_that_replaces_the_database(
    db: sqlite3.Connection, happened: Memctl, path: Path
) -> None:
    one_more = "INSERT INTO memory_events (at, event) VALUES ('2026', 'memory:pruned')"
    other = other_database(db, path, one_more)
    with following(happened, "--since", "7") as process:
        next_event(process)
        other.rename(path)

        assert next_event(process)["event_id"] == 9


def test_a_follower_begins_anew_with_a_database_that_has_fewer_events(
    db: sqlite3.Connection, happened: Memctl, path: Path
) -> None:
    other = other_database(db, path, "DELETE FROM memory_events WHERE event_id > 1")
    with following(happened, "--since", "7") as process:
        next_event(process)
        other.rename(path)

        assert next_event(process)["event_id"] == 1
        assert process.stderr is not None
        notice = process.stderr.readline()

    assert notice == b"events: the database was replaced: its events begin anew\n"


def test_a_follower_gets_each_event_of_a_concurrent_writer_once(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    with following(migrated, "--since", "0") as process:
        for number in range(40):
            db.execute(
                "INSERT INTO memory_events (at, event, key) VALUES ('2026', 'memory:pruned', ?)",
                (str(number),),
            )
            if number % 10 == 9:
                received = [next_event(process)["key"] for _ in range(10)]
                assert received == [str(one) for one in range(number - 9, number + 1)]

    assert rows(db, "memory_events", "count(*)") == [(40,)]


def test_events_pruned_during_the_command_are_still_listed(
    db: sqlite3.Connection,
    happened: Memctl,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def prune(statement: str) -> None:
        if "min(event_id)" not in statement and "FROM memory_events" in statement:
            db.execute("DELETE FROM memory_events WHERE event_id < 5")

    @contextmanager
    def open_watched(path: Path, **options: Any) -> Iterator[sqlite3.Connection]:
        with open_database(path, **options) as reader:
            reader.set_trace_callback(prune)
            yield reader

    monkeypatch.setattr(engines, "open_database", open_watched)
    events.events(
        GlobalOptions(db=happened.database, now=text_of(NOW)),
        OutputOptions(),
        PageOptions(),
        since="1",
    )

    printed = json.loads(capsys.readouterr().out)
    assert [event["event_id"] for event in printed] == [2, 3, 4, 5, 6, 7, 8]
    assert rows(db, "memory_events", "event_id") == [(5,), (6,), (7,), (8,)]


def test_each_archiving_is_recorded_after_its_cause(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for number in range(3):
        insert_memory(db, id=f"m-{number}", expired_for=timedelta(hours=1))
    migrated.ok("cleanup")

    assert rows(db, "memory_events", "memory_id, event") == [
        (f"m-{number}", event)
        for number in range(3)
        for event in ("memory:expired", "memory:archived")
    ]


# What memctl wrote when it recorded one event for each archiving: without a detail, and
# `memory:archived` only where there was no cause.
EARLIER_EVENTS = ("expired", "forgotten", "archived", "expired")


def test_an_archiving_with_one_event_or_two_counts_once(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for event in EARLIER_EVENTS:
        db.execute(
            "INSERT INTO memory_events (at, event, memory_id, agent_id, type, key)"
            " VALUES ('2026-11-22T09:43:58Z', ?, 'm', 'build_agent', 'learning', 'k')",
            (f"memory:{event}",),
        )
    insert_memory(db, id="expired", expired_for=timedelta(hours=1))
    insert_memory(db, id="by hand")
    insert_memory(db, id="deleted")
    insert_memory(db, id="forgotten", key="forgotten")
    migrated.ok("enable", "archive-on-delete")
    migrated.ok("cleanup")
    migrated.ok("archive", "build_agent", "by hand")
    migrated.ok("forget", "build_agent", "learning", "forgotten")
    db.execute("DELETE FROM agent_memory")
    db.execute("UPDATE memory_events SET at = '2026-11-22T09:43:58Z'")

    metrics = migrated.ok("metrics", "--history", "2d").json["system"]
    report = migrated.ok("report", "--format", "json").json["system"]

    today = metrics["history"][-1]["figures"]
    assert (metrics["expired_per_day"], metrics["archived_per_day"]) == (3.0, 8.0)
    assert (today["expired_that_day"], today["archived_that_day"]) == (3, 8)
    assert (report["expired"], report["archived_otherwise"]) == (3, 5)
    assert rows(db, "archived_memories", "archived_reason") == [
        ("expired",),
        ("manual",),
        ("forgotten",),
        ("deleted",),
    ]
