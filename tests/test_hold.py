"""The commands hold, release and holds, and what jobs and clients do with held memories."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import archive_row, connect, exact_rows, insert_memory, rows
from tests.support.kills import copy_at, killed_before, one_of_each_kind, program_at
from tests.support.program import NOW, Answer, Memctl, Words, complaint
from tests.support.service import Service

DAY = timedelta(days=1)
HOLD_COLUMNS = "agent_id, memory_id, type, key, reason, held_at, until"
AT = "2026-11-22T09:43:58Z"


def holds_in(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return the holds."""
    return rows(db, "memory_holds", HOLD_COLUMNS)


def events_in(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return what the events of holds say."""
    return db.execute(
        "SELECT event, memory_id, agent_id, type, key, run_id, detail FROM memory_events"
        " WHERE event IN ('memory:held', 'memory:released') ORDER BY event_id"
    ).fetchall()


# Placing


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(("m-1",), ("m-1", None, None), id="by id"),
        pytest.param(
            ("--type", "learning", "--key", "k"), (None, "learning", "k"), id="by type and key"
        ),
        pytest.param(("--all",), (None, None, None), id="all of the agent"),
    ],
)
def test_a_hold_is_placed_recorded_and_listed(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    words: Words,
    expected: tuple[Any, ...],
) -> None:
    remember(id="m-1", key="k")

    answer = migrated.ok("hold", "build_agent", *words, "--reason", "case 7", "--until", "30d")

    hold = ("build_agent", *expected, "case 7", AT, "2026-12-22T09:43:58Z")
    detail = json.dumps({"reason": "case 7", "until": "2026-12-22T09:43:58Z"})
    name = (None, None) if words == ("--all",) else ("learning", "k")
    assert (answer.out, answer.err) == ("", "")
    assert holds_in(db) == [hold]
    assert events_in(db) == [("memory:held", expected[0], "build_agent", *name, 1, detail)]
    assert rows(db, "memory_runs", "job, status, counts") == [
        ("hold", "ok", '{"added": 1, "changed": 0, "unchanged": 0}')
    ]
    assert migrated.ok("holds").json == [dict(zip(HOLD_COLUMNS.split(", "), hold, strict=True))]


def test_the_same_hold_twice_changes_nothing(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1")
    words = ("hold", "build_agent", "m-1", "--reason", "case 7")
    migrated.ok(*words)
    before = holds_in(db), events_in(db)

    again = migrated.at(NOW + DAY).ok(*words, "--json").json

    assert (again["added"], again["changed"], again["unchanged"]) == (0, 0, 1)
    assert (holds_in(db), events_in(db)) == before


@pytest.mark.parametrize(
    ("words", "reason", "until"),
    [
        pytest.param(("--reason", "other"), "other", None, id="another reason, and no end"),
        pytest.param(("--until", "2027-01-01"), "case 7", "2027-01-01T00:00:00Z", id="a later end"),
        pytest.param((), "case 7", None, id="no end"),
    ],
)
def test_a_second_hold_changes_the_end_and_the_reason_if_it_has_one(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    words: Words,
    reason: str,
    until: str | None,
) -> None:
    remember(id="m-1")
    migrated.ok("hold", "build_agent", "m-1", "--reason", "case 7", "--until", "30d")

    changed = migrated.at(NOW + DAY).ok("hold", "build_agent", "m-1", *words, "--json").json

    assert (changed["added"], changed["changed"], changed["unchanged"]) == (0, 1, 0)
    assert holds_in(db) == [("build_agent", "m-1", None, None, reason, AT, until)]
    assert [event for event, *_ in events_in(db)] == ["memory:held", "memory:held"]


def test_a_hold_that_has_ended_is_placed_anew(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1")
    migrated.ok("hold", "build_agent", "m-1", "--until", "1d", "--reason", "old")

    later = migrated.at(NOW + 2 * DAY).ok("hold", "build_agent", "m-1", "--json").json

    assert later["added"] == 1
    assert holds_in(db) == [("build_agent", "m-1", None, None, None, "2026-11-24T09:43:58Z", None)]


def test_a_preview_names_what_would_be_done_and_changes_nothing(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1")
    remember(id="m-2")
    migrated.ok("hold", "build_agent", "m-1")
    before = holds_in(db), rows(db, "memory_events"), rows(db, "memory_runs")

    hold = migrated.ok("hold", "build_agent", "m-1", "m-2", "-n")
    release = migrated.ok("release", "build_agent", "m-1", "m-2", "-n")

    assert hold.err == "hold: would add 1 hold, change 0, leave 1 unchanged\n"
    assert release.err == "release: would release 1 hold; 1 of the selected holds not found\n"
    assert (holds_in(db), rows(db, "memory_events"), rows(db, "memory_runs")) == before


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        pytest.param(
            ("build_agent", "m-1", "--all"),
            2,
            "exactly one of ids, --type with --key, and --all is required",
            id="two ways",
        ),
        pytest.param(
            ("build_agent",),
            2,
            "exactly one of ids, --type with --key, and --all is required",
            id="no way",
        ),
        pytest.param(
            ("build_agent", "--type", "learning"),
            2,
            "--type and --key must be used together",
            id="a type alone",
        ),
        pytest.param(
            ("build_agent", "m-1", "--until", "2026-01-01"), 2, "--until is in the past", id="past"
        ),
        pytest.param(
            ("build_agent", "m-1", "--until", "soon"), 2, "'soon' is not a time", id="no time"
        ),
        pytest.param(
            ("build_agent", "m-1", "m-9"), 1, "agent 'build_agent' has no memory 'm-9'", id="id"
        ),
        pytest.param(
            ("qa_agent", "m-1"), 1, "agent 'qa_agent' has no memory 'm-1'", id="another's id"
        ),
        pytest.param(
            ("build_agent", "--type", "learning", "--key", "x"),
            1,
            "agent 'build_agent' has no memory learning 'x', active or archived",
            id="an unknown name",
        ),
        pytest.param(("nobody", "--all"), 1, "agent 'nobody' has no memories", id="agent"),
    ],
)
def test_what_cannot_be_held_is_refused(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    words: Words,
    exit_code: int,
    message: str,
) -> None:
    remember(id="m-1")
    remember(agent_id="qa_agent")

    answer = migrated("hold", *words)

    assert answer.exit_code == exit_code
    assert complaint(answer).startswith(f"memctl: {message}")
    assert holds_in(db) == []


# Releasing


def test_a_hold_is_released_by_the_selection_with_which_it_was_placed(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1", key="k")
    ways: list[Words] = [("m-1",), ("--type", "learning", "--key", "k"), ("--all",)]
    for way in ways:
        migrated.ok("hold", "build_agent", *way)

    for left, way in zip((2, 1, 0), ways, strict=True):
        released = migrated.ok("release", "build_agent", *way, "--json").json

        assert (released["released"], released["not_found"], len(holds_in(db))) == (1, 0, left)
    assert [event for event, *_ in events_in(db)] == ["memory:held"] * 3 + ["memory:released"] * 3
    assert events_in(db)[3] == ("memory:released", "m-1", "build_agent", "learning", "k", 4, None)


def test_releasing_a_hold_that_does_not_exist_is_reported(
    migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1")
    migrated.ok("hold", "build_agent", "--all")

    answer = migrated.ok("release", "build_agent", "m-1")

    assert answer.err.startswith(
        "release: released 0 holds; 1 of the selected holds not found; run 2, "
    )


def test_a_copy_whose_id_was_given_up_is_held_by_the_id_it_had(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1", key="k", value="first")
    migrated.ok("archive", "build_agent", "m-1")
    document = {"active": [{"id": "m-1", "agent_id": "build_agent", "type": "learning"}]}
    document["active"][0] |= {"key": "k", "value": "second"}
    migrated.ok(
        "import",
        "-",
        "--no-checksum",
        "--on-conflict",
        "replace",
        given=json.dumps(document).encode(),
    )
    ((renamed,),) = rows(db, "archived_memories", "id")
    assert renamed == "m-1~2"
    db.execute("UPDATE archived_memories SET run_id = 2, archived_reason = 'replaced'")

    migrated.ok("hold", "build_agent", renamed)

    assert [hold[1] for hold in holds_in(db)] == ["m-1"]
    assert migrated("forget", "build_agent", "learning", "k").exit_code == 3
    assert migrated.ok("release", "build_agent", renamed, "--json").json["released"] == 1


# The end


def test_an_ended_hold_holds_nothing_and_is_deleted_by_cleanup(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1", key="k", expired_for=DAY)
    migrated.ok("hold", "build_agent", "m-1", "--until", "1d")

    one_second_before = migrated.at(NOW + DAY - timedelta(seconds=1)).ok("cleanup", "--json").json
    listed = migrated.at(NOW + DAY).ok("holds").json
    at_the_end = migrated.at(NOW + DAY).ok("cleanup", "--json").json

    assert (one_second_before["archived"], one_second_before["held"]) == (0, 1)
    assert listed == []
    assert (at_the_end["archived"], at_the_end["held"]) == (1, 0)
    assert holds_in(db) == []
    assert events_in(db)[-1] == (
        "memory:released",
        "m-1",
        "build_agent",
        "learning",
        "k",
        3,
        '{"ended": true}',
    )


def triggers_in(db: sqlite3.Connection) -> list[str]:
    """Return the triggers in the database."""
    found = db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
    return [name for (name,) in found]


def test_the_triggers_come_with_the_first_hold_and_go_with_the_last(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    remember(id="m-1")
    remember(id="m-2")

    present = [triggers_in(db)]
    for words in (
        ("hold", "build_agent", "m-1"),
        ("hold", "build_agent", "m-2", "--until", "1d"),
        ("release", "build_agent", "m-1"),
    ):
        migrated.ok(*words)
        present.append(triggers_in(db))
    migrated.at(NOW + 2 * DAY).ok("cleanup")
    present.append(triggers_in(db))

    assert [bool(names) for names in present] == [False, True, True, True, False]
    assert present[1] == present[2] == present[3]


# What clients do


CLIENT_CHANGES = {
    "delete": "DELETE FROM agent_memory WHERE key = 'held'",
    "delete all": "DELETE FROM agent_memory",
    "replace": """
        INSERT OR REPLACE INTO agent_memory (id, agent_id, type, key, value)
        VALUES ('new', 'build_agent', 'learning', 'held', 'new')
    """,
    "upsert": """
        INSERT INTO agent_memory (id, agent_id, type, key, value)
        VALUES ('new', 'build_agent', 'learning', 'held', 'new')
        ON CONFLICT (agent_id, type, key) DO UPDATE SET value = excluded.value
    """,
    "update": "UPDATE agent_memory SET value = 'new' WHERE key = 'held'",
}


@pytest.mark.parametrize("way", [("m-1",), ("--type", "learning", "--key", "held"), ("--all",)])
@pytest.mark.parametrize("change", CLIENT_CHANGES)
def test_what_a_client_removes_of_a_held_memory_is_archived_with_all_features_off(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    change: str,
    way: Words,
) -> None:
    remember(id="m-1", key="held", value="kept")
    remember(id="m-2", agent_id="qa_agent", key="free")
    migrated.ok("hold", "build_agent", *way)

    with closing(connect(migrated.database)) as client:
        client.execute(CLIENT_CHANGES[change])

    assert rows(db, "archived_memories", "key, value") == [("held", "kept")]
    features = migrated.ok("status", "--json").json["features"]
    assert {feature["state"] for feature in features} == {"off"}
    assert migrated.ok("prune", "--older-than", "1s", "--force", "--json").json["pruned"] == 0


def test_what_clients_remove_of_other_memories_is_gone(
    db: sqlite3.Connection, migrated: Memctl, service: Service, remember: Callable[..., str]
) -> None:
    remember(id="m-1")
    remember(id="m-2", key="k", value="old")
    migrated.ok("hold", "build_agent", "m-1")

    service.remember("build_agent", "learning", "k", "new")
    service.forget("build_agent", "learning", "k")

    assert rows(db, "archived_memories") == []


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        pytest.param("DROP TRIGGER memctl_archive_on_delete", "missing", id="missing"),
        pytest.param(
            """
            DROP TRIGGER memctl_archive_on_delete;
            CREATE TRIGGER memctl_archive_on_delete AFTER DELETE ON agent_memory
            BEGIN SELECT 1; END
            """,
            "outdated",
            id="outdated",
        ),
    ],
)
def test_check_reports_missing_triggers_of_holds_and_creates_them_again(
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
    damage: str,
    state: str,
) -> None:
    remember(id="m-1")
    migrated.ok("hold", "build_agent", "m-1")
    before = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    db.executescript(damage)

    found = migrated("check", "-q")
    fixed = migrated("check", "-q", "--fix")

    assert (found.exit_code, found.out) == (
        3,
        "warning  memories are held, but a trigger that archives what clients delete or replace of"
        f" them is {state}; run `memctl check --fix`\n",
    )
    assert fixed == Answer(0, "fixed  renew the triggers of held memories\n", "")
    after = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    assert sorted(after) == sorted(before)
    assert {one["state"] for one in migrated.ok("status", "--json").json["features"]} == {"off"}


# explain, report


def test_explain_shows_holds(
    migrated: Memctl, db: sqlite3.Connection, remember: Callable[..., str]
) -> None:
    remember(id="m-1", key="k")
    remember(id="m-2", key="other")
    for words in (("m-1", "--reason", "case 7"), ("--all", "--until", "1d"), ("m-2",)):
        migrated.ok("hold", "build_agent", *words)

    answer = migrated.ok("explain", "build_agent", "m-1")
    document = migrated.ok("explain", "build_agent", "m-1", "--json").json

    spared = (
        "what it covers does not expire or decay, and is not pruned; the times below apply without"
        " the hold"
    )
    assert [line for line in answer.out.splitlines() if line.startswith("hold")] == [
        f"hold          on the id 'm-1', without end (case 7): {spared}",
        f"hold 2        on all memories of the agent, until 2026-11-23T09:43:58Z: {spared}",
    ]
    assert [(hold["memory_id"], hold["until"]) for hold in document["holds"]] == [
        ("m-1", None),
        (None, "2026-11-23T09:43:58Z"),
    ]


def test_held_memories_are_not_overdue(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(id="m-1", expired_for=10 * DAY)
    remember(id="m-2", expired_for=10 * DAY)
    migrated.ok("hold", "build_agent", "m-1")

    assert migrated("report", "--json").json["overdue"] == 1


# Decay


def test_decay_after_a_hold_charges_as_if_there_had_been_none(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    for memory_id in ("held", "free"):
        remember(id=memory_id, idle_days=20, importance=9)
    migrated.ok("hold", "build_agent", "held")

    during = migrated.ok("decay", "--json").json
    kept = dict(rows(db, "agent_memory", "id, importance"))
    migrated.at(NOW + DAY).ok("release", "build_agent", "held")
    after = migrated.at(NOW + 20 * DAY).ok("decay", "--json").json

    assert (during["decayed"], during["held"]) == (1, 1)
    assert kept == {"held": 9, "free": 7.7}
    assert (after["decayed"], after["held"]) == (2, 0)
    assert dict(rows(db, "agent_memory", "id, importance")) == {"held": 4.7, "free": 4.7}


def test_idle_times_that_end_during_a_hold_are_charged_after_it(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    migrated.ok("enable", "access-boost")
    for memory_id in ("held", "free"):
        remember(id=memory_id, idle_days=20, importance=9, created_at="2026-10-01 00:00:00")
    migrated.ok("hold", "build_agent", "held")
    db.execute(
        "UPDATE agent_memory SET access_count = access_count + 1,"
        " last_accessed = '2026-11-22 09:43:58'"
    )

    first = migrated.at(NOW + 10 * DAY).ok("decay", "-n", "--json").json
    done = migrated.at(NOW + 10 * DAY).ok("decay", "--json").json
    held = dict(rows(db, "agent_memory", "id, importance"))
    migrated.at(NOW + 11 * DAY).ok("release", "build_agent", "held")
    migrated.at(NOW + 11 * DAY).ok("decay")

    assert (first["decayed"], first["held"]) == (done["decayed"], done["held"]) == (1, 1)
    assert held["held"] == 9.1
    found = dict(rows(db, "agent_memory", "id, importance"))
    assert found["held"] == found["free"] < 9
    assert rows(db, "memory_idle_times") == []


# Prune


def test_prune_counts_what_it_leaves_and_the_guard_does_not_count_it(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for _ in range(120):
        archive_row(db, days_ago=40)
    archive_row(db, days_ago=40, agent="qa_agent")
    migrated.ok("hold", "build_agent", "--all")
    before = exact_rows(db, "archived_memories")[:120]

    preview = migrated.ok("prune", "--older-than", "30d", "-n", "--json").json
    done = migrated.ok("prune", "--older-than", "30d", "--json").json

    counts = [(answer["pruned"], answer["held"]) for answer in (preview, done)]
    assert counts == [(1, 120), (1, 120)]
    assert exact_rows(db, "archived_memories") == before


# Killed commands


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("hold", "build_agent", "m-1", "--reason", "r"), id="the first hold"),
        pytest.param(("release", "build_agent", "m-2"), id="the release of the last one"),
    ],
)
def test_a_killed_command_leaves_holds_and_triggers_that_agree(
    tmp_path: Path, words: Words
) -> None:
    template = program_at(tmp_path / "template")
    Service(template.database).close()
    template.ok("migrate", "--no-backup")
    with closing(connect(template.database)) as db:
        insert_memory(db, id="m-1")
        insert_memory(db, id="m-2")
    if words[0] == "release":
        template.ok("hold", "build_agent", "m-2")
    recorded = one_of_each_kind(copy_at(tmp_path / "recorded", template), words)

    left, ended = [], []
    for memctl in killed_before(recorded, template, words, tmp_path):
        with closing(connect(memctl.database)) as db:
            left.append((len(holds_in(db)), bool(triggers_in(db)), len(events_in(db))))
        ended.append(memctl(*words).exit_code)

    before, after = ((0, False, 0), (1, True, 1))
    if words[0] == "release":
        before, after = (1, True, 1), (0, False, 2)
    assert {*left} == {before, after}
    assert {*ended} == {0}
