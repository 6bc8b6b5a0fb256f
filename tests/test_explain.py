"""Explain: what it predicts is what the jobs then do."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.policies import DecayPolicy, PromotePolicy, PrunePolicy
from memctl.insight.explain import Explanation, Policies, explain
from memctl.jobs.cleanup import cleanup
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobContext, JobRequest, JobResult, perform
from memctl.jobs.prune import prune
from memctl.storage.sqlite.database import open_database
from memctl.storage.times import parse_moment
from tests.support.database import connect, insert_memory, rows, text_of
from tests.support.program import NOW, Memctl
from tests.support.service import Service

# Exactly at every threshold of promotion.
PROVEN: dict[str, Any] = {
    "importance": 8,
    "access_count": 5,
    "created_at": "2026-11-08 09:43:58",
    "last_accessed": "2026-11-22 09:43:58",
}
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A migrated database that all examples share, one after the other."""
    path = tmp_path_factory.mktemp("explain") / "memory.db"
    with closing(Service(path)):
        Memctl(path).ok("migrate", "--no-backup")
        yield path


def start_over(path: Path, columns: dict[str, Any]) -> None:
    """Make this the only memory."""
    with closing(connect(path)) as db:
        for table in ("agent_memory", "archived_memories", "memory_events"):
            db.execute(f"DELETE FROM {table}")
        insert_memory(db, **{"id": "m-1", "key": "k", **columns})


def explained(path: Path, *, now: datetime = NOW, policies: Policies | None = None) -> Explanation:
    """Return the explanation of the only memory."""
    with closing(connect(path)) as db:
        return explain(db, "build_agent", ["m-1"], policies or Policies(), now=now)


def run_job(path: Path, work: Callable[[JobContext], JobResult], now: datetime) -> None:
    """Run a job without the clock check."""
    perform("job", work, JobRequest(path, now, force=True))


def importance(path: Path) -> Any:
    """Return the importance of the only active memory."""
    with closing(connect(path)) as db:
        return db.execute("SELECT importance FROM agent_memory").fetchone()[0]


def count(path: Path, table: str) -> int:
    """Return how many rows a table has."""
    with closing(connect(path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


MOMENTS = st.builds(
    timedelta, days=st.integers(-3, 60), seconds=st.sampled_from([0, 1, 43200, 86399])
).map(lambda before: NOW - before)

FADING_MEMORIES = st.fixed_dictionaries(
    {
        "importance": st.one_of(
            st.integers(-1, 12),
            st.integers(80, 1200).map(lambda hundredths: hundredths / 100),
            st.sampled_from(["high", None, 1e9]),
        ),
        "last_accessed": st.one_of(st.none(), MOMENTS.map(text_of), st.just("long ago")),
        "created_at": st.one_of(MOMENTS.map(text_of), st.just("long ago")),
        "last_decay_at": st.one_of(
            st.none(), MOMENTS.map(lambda moment: f"{moment:%FT%TZ}"), st.just("long ago")
        ),
        "importance_decay_rate": st.sampled_from([None, None, 0, 0.001, 0.25, 3.5]),
        "metadata": st.sampled_from([None, "{}", '{"decay_rate": 0.15}', '{"decay_rate": "x"}']),
    }
)


@given(
    columns=FADING_MEMORIES,
    policy=st.sampled_from(
        [DecayPolicy(), DecayPolicy(floor=2.5, grace_days=0), DecayPolicy(since=NOW - 20 * DAY)]
    ),
)
def test_decay_does_what_is_predicted_at_the_predicted_times(
    columns: dict[str, Any], policy: DecayPolicy, database: Path
) -> None:
    start_over(database, columns)
    fading = _of(explained(database, policies=Policies(policy)))

    def after_decay(now: datetime) -> Any:
        start_over(database, columns)
        run_job(database, lambda run: decay(run, policy, PromotePolicy()), now)
        return importance(database)

    assert after_decay(NOW) == fading.importance_after_next
    falls: list[tuple[str | None, Callable[[Any], bool]]] = [
        (fading.unprotected_at, lambda left: left < 8),
        (fading.floor_at, lambda left: left <= policy.floor),
    ]
    for moment, is_reached in falls:
        if moment is not None:
            at = parse_moment(moment)
            assert not is_reached(after_decay(at - SECOND))
            assert is_reached(after_decay(at))
        elif isinstance(columns["importance"], int | float) and not is_reached(
            columns["importance"]
        ):
            assert not is_reached(after_decay(NOW + 30 * 365 * DAY))


def _of(explanation: Explanation) -> Any:
    assert explanation.active is not None
    return explanation.active.fading


EXPIRIES = st.one_of(
    st.integers(-20 * 86400, 200 * 86400).flatmap(
        lambda seconds: st.sampled_from(
            [
                text_of(NOW + seconds * SECOND),
                (NOW + seconds * SECOND).strftime("%Y-%m-%dT%H:%M:%S.999Z"),
                (NOW + seconds * SECOND).strftime("%Y-%m-%dT%H:%M:%S+02:00"),
            ]
        )
    ),
    st.sampled_from(
        [None, "soon", "", "-000192-09-06T00:00:00.000Z", "+011533-07-07T00:00:00.000Z"]
    ),
)


@given(columns=FADING_MEMORIES, expires_at=EXPIRIES)
def test_cleanup_and_prune_act_at_the_predicted_times(
    columns: dict[str, Any], expires_at: str | None, database: Path
) -> None:
    policies = Policies(prune=PrunePolicy(retention=30 * DAY))
    columns = {**columns, "expires_at": expires_at}
    start_over(database, columns)
    explanation = explained(database, policies=policies)
    assert explanation.active is not None
    expiry, retention = explanation.active.expiry, explanation.active.retention

    if expiry.at is None:
        expired_long_ago = expiry.stored is not None and expiry.stored.startswith("-")
        run_job(database, cleanup, NOW + 3000 * DAY)
        assert count(database, "archived_memories") == expired_long_ago
        assert (expiry.state == "expired") == expired_long_ago
        return
    at = parse_moment(expiry.at)
    assert (expiry.state == "expired") == (at < NOW)
    run_job(database, cleanup, at)
    assert count(database, "archived_memories") == 0
    archived_at = max(at + SECOND, NOW)
    run_job(database, lambda run: decay(run, policies.decay, policies.promotion), archived_at)
    run_job(database, cleanup, archived_at)
    assert count(database, "archived_memories") == 1

    assert retention is not None
    (copy,) = explained(database, policies=policies).archived
    assert copy.retention == retention
    assert retention.at is not None
    run_job(database, lambda run: prune(run, policies.prune), parse_moment(retention.at))
    assert count(database, "archived_memories") == 1
    run_job(database, lambda run: prune(run, policies.prune), parse_moment(retention.at) + SECOND)
    assert count(database, "archived_memories") == int(retention.protected)


def test_the_full_explanation_of_an_active_memory(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(
        db,
        id="m-1",
        key="toolchain",
        importance=9,
        access_count=2,
        idle_days=40,
        created_at=text_of(NOW - 50 * DAY),
        expires_at="2027-01-01T00:00:00.000Z",
    )

    answer = migrated.ok("explain", "build_agent", "learning", "toolchain")
    as_json = migrated.ok("explain", "build_agent", "m-1", "--json").json

    assert answer.out == (
        "memory        'build_agent' learning 'toolchain'\n"
        "state         active\n"
        "id            m-1\n"
        "written       2026-10-03 09:43:58\n"
        "accesses      2 (last: 2026-10-13 09:43:58)\n"
        "importance    9\n"
        "idle          40 days: 0 points charged, 4.3 due; importance after the next decay: 4.7\n"
        "decay         0.1 points per day after 7 idle days, 0.2 after 30, to a minimum of 1\n"
        "below 8       2026-10-31T09:43:58Z, if it is not read\n"
        "at the floor  2026-12-11T09:43:58Z, if it is not read\n"
        "expires       2027-01-01T00:00:00Z: the first cleanup after that archives it\n"
        "pruned        its copy in the archive will be deleted by the first prune after"
        " 2027-04-01T00:00:01Z\n"
        "promotion     not due: accesses 2 of 5 (3 too low)\n"
    )
    assert as_json == {
        "schema": 1,
        "at": "2026-11-22T09:43:58Z",
        "agent_id": "build_agent",
        "type": "learning",
        "key": "toolchain",
        "state": "active",
        "policy": ["decay", "prune"],
        "earlier_ids": [],
        "active": {
            "id": "m-1",
            "importance": 9,
            "access_count": 2,
            "created_at": "2026-10-03 09:43:58",
            "last_accessed": "2026-10-13 09:43:58",
            "archived_at": None,
            "promoted_at": None,
            "known_since": None,
            "fading": {
                "unreadable": None,
                "idle_since": "2026-10-13T09:43:58Z",
                "idle_days": 40,
                "rate": None,
                "charged": 0,
                "due": 4.3,
                "importance_after_next": 4.7,
                "unprotected_at": "2026-10-31T09:43:58Z",
                "floor_at": "2026-12-11T09:43:58Z",
            },
            "expiry": {
                "stored": "2027-01-01T00:00:00.000Z",
                "state": "to_come",
                "at": "2027-01-01T00:00:00Z",
            },
            "promotion": [
                {
                    "condition": "type",
                    "needed": ["error_pattern", "success_pattern", "learning"],
                    "found": "learning",
                    "met": True,
                    "lacks": None,
                },
                {"condition": "importance", "needed": 8, "found": 9, "met": True, "lacks": 0},
                {"condition": "accesses", "needed": 5, "found": 2, "met": False, "lacks": 3},
                {"condition": "age_days", "needed": 14, "found": 50, "met": True, "lacks": 0},
            ],
            "retention": {"at": "2027-04-01T00:00:01Z", "importance": 1, "protected": False},
            "quota": None,
        },
        "archived": [],
        "history": [],
        "holds": [],
    }


def test_a_memory_archived_and_written_again_has_one_explanation(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    insert_memory(db, id="m-1", key="k", importance=9, expired_for=DAY)
    migrated.ok("cleanup")
    service.remember("build_agent", "learning", "k", "again", memory_id="m-2")

    by_name = migrated.ok("explain", "build_agent", "learning", "k", "--json").json
    by_old_id = migrated.ok("explain", "build_agent", "m-1", "--json").json
    by_new_id = migrated.ok("explain", "build_agent", "m-2", "--json").json

    assert by_name == by_old_id == by_new_id
    assert (by_name["state"], by_name["active"]["id"]) == ("active", "m-2")
    assert by_name["archived"] == [
        {
            "archive_id": 1,
            "id": "m-1",
            "archived_at": "2026-11-22T09:43:58Z",
            "archived_reason": "expired",
            "run_id": 1,
            "retention": {"at": "2027-02-20T09:43:58Z", "importance": 9, "protected": True},
        }
    ]
    assert [event["event"] for event in by_name["history"]] == [
        "memory:expired",
        "memory:archived",
    ]


@pytest.mark.parametrize(
    ("words", "state"),
    [
        pytest.param((), "active", id="active"),
        pytest.param(("cleanup",), "archived", id="archived"),
    ],
)
def test_the_state_of_a_memory_is_shown(
    db: sqlite3.Connection, migrated: Memctl, words: tuple[str, ...], state: str
) -> None:
    insert_memory(db, id="m-1", key="k", expired_for=DAY)
    if words:
        migrated.ok(*words)

    assert migrated.ok("explain", "build_agent", "m-1", "--json").json["state"] == state


def test_a_pruned_memory_is_found_by_its_id_and_its_name(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, id="m-1", key="k", expired_for=DAY)
    migrated.ok("cleanup")
    later = migrated.at(NOW + 100 * DAY)
    later.ok("prune", "--force")

    answer = later.ok("explain", "build_agent", "m-1")

    assert answer == later.ok("explain", "build_agent", "learning", "k")
    assert answer.out == (
        "memory  'build_agent' learning 'k'\n"
        "state   permanently deleted from the archive\n"
        "event id  at                event     memory  run  detail\n"
        "       1  2026-11-22 09:43  expired   m-1       1\n"
        "       2  2026-11-22 09:43  archived  m-1       1  reason=expired\n"
        "       3  2027-03-02 09:43  pruned    m-1       2\n"
    )


def test_a_memory_deleted_by_a_client_is_shown_as_gone(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    insert_memory(db, id="m-1", key="k", expired_for=DAY)
    migrated.ok("cleanup")
    migrated.ok("restore", "build_agent", "m-1")
    service.forget("build_agent", "learning", "k")

    assert migrated.ok("explain", "build_agent", "m-1", "--json").json["state"] == "gone"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(
            ("build_agent", "learning", "tolchain"),
            "agent 'build_agent' never had a memory learning 'tolchain'; "
            "did you mean learning 'toolchain'?",
            id="a misspelt key",
        ),
        pytest.param(
            ("build_agent", "context", "toolchain"),
            "agent 'build_agent' never had a memory context 'toolchain'; "
            "did you mean learning 'toolchain'?",
            id="another type",
        ),
        pytest.param(
            ("build_agent", "toolchain"),
            "agent 'build_agent' never had a memory with the id 'toolchain'; "
            "did you mean its key, with the type: learning 'toolchain'?",
            id="a key for an id",
        ),
        pytest.param(
            ("build_agent", "nothing"),
            "agent 'build_agent' never had a memory with the id 'nothing'; "
            "specify its id, or its type and key",
            id="an unknown id",
        ),
        pytest.param(
            ("build_agnt", "learning", "toolchain"),
            "agent 'build_agnt' has no memories; did you mean 'build_agent'?",
            id="a misspelt agent",
        ),
        pytest.param(
            ("build_agent", "of qa"),
            "agent 'build_agent' never had a memory with the id 'of qa'; "
            "specify its id, or its type and key",
            id="the id of another agent's memory",
        ),
    ],
)
def test_an_unknown_memory_is_not_found(
    db: sqlite3.Connection, migrated: Memctl, words: tuple[str, ...], complaint: str
) -> None:
    insert_memory(db, id="m-1", key="toolchain")
    insert_memory(db, id="of qa", agent_id="qa_agent", key="another")

    answer = migrated("explain", *words)

    assert (answer.exit_code, answer.out, answer.err) == (1, "", f"memctl: {complaint}\n")


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        pytest.param({"expires_at": "soon"}, "never: 'soon' is not a time", id="not a time"),
        pytest.param({"expires_at": None}, "never", id="no expiry"),
        pytest.param(
            {"expires_at": "2026-11-22 09:43:57"},
            "2026-11-22T09:43:57Z: the next cleanup archives it",
            id="expired a second ago",
        ),
        pytest.param(
            {"expires_at": "+011533-07-07T00:00:00.000Z"},
            "+011533-07-07T00:00:00.000Z: the first cleanup after that archives it",
            id="beyond the calendar",
        ),
    ],
)
def test_an_expiry_is_described_in_words(
    db: sqlite3.Connection, migrated: Memctl, columns: dict[str, Any], line: str
) -> None:
    insert_memory(db, id="m-1", **columns)

    facts = migrated.ok("explain", "build_agent", "m-1").out.splitlines()

    assert [fact.split(maxsplit=1)[1] for fact in facts if fact.startswith("expires")] == [line]


def test_an_unreadable_time_is_shown(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, id="m-1", last_accessed="soon")

    facts = migrated.ok("explain", "build_agent", "m-1").out.splitlines()

    assert "idle        does not decay: last_accessed is not a time" in facts


@pytest.mark.parametrize(
    ("columns", "failing"),
    [
        pytest.param({}, {}, id="at every threshold"),
        pytest.param({"type": "context"}, {"type": None}, id="another type"),
        pytest.param({"importance": 7.5}, {"importance": 0.5}, id="importance"),
        pytest.param(
            {"importance": "high"}, {"importance": None}, id="importance that is not a number"
        ),
        pytest.param({"access_count": 3}, {"accesses": 2}, id="accesses"),
        pytest.param({"created_at": "2026-11-09 09:43:58"}, {"age_days": 1}, id="age"),
        pytest.param(
            {"created_at": "2026-11-08 09:43:59"}, {"age_days": 0.00001}, id="a second too young"
        ),
        pytest.param({"created_at": "long ago"}, {"age_days": None}, id="an unknown age"),
        pytest.param(
            {"importance": None, "access_count": None, "created_at": "2026-11-23 09:43:58"},
            {"importance": None, "accesses": None, "age_days": 15},
            id="everything",
        ),
    ],
)
def test_unmet_conditions_of_promotion_are_shown_with_what_is_missing(
    database: Path, columns: dict[str, Any], failing: dict[str, Any]
) -> None:
    start_over(database, {**PROVEN, **columns})

    active = explained(database).active

    assert active is not None
    assert {one.condition: one.lacks for one in active.promotion if not one.met} == failing


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        pytest.param({}, "all four conditions are met", id="met"),
        pytest.param(
            {"created_at": "2026-11-22 07:43:58"},
            "not due: age 2 hours of 14 days (13 days 22 hours too low)",
            id="hours old",
        ),
        pytest.param(
            {"created_at": "2026-11-22 09:43:50"},
            "not due: age less than a minute of 14 days (14 days too low)",
            id="seconds old",
        ),
        pytest.param(
            {"created_at": "2026-11-21 09:42:58"},
            "not due: age 1 day 1 minute of 14 days (12 days 23 hours too low)",
            id="a day old",
        ),
        pytest.param(
            {"created_at": "2026-11-23 10:43:58"},
            "not due: created in the future",
            id="in the future",
        ),
        pytest.param(
            {"created_at": "long ago"},
            "not due: its age is unknown, because 'long ago' is not a time",
            id="of an unknown age",
        ),
        pytest.param(
            {"created_at": "2026-11-01 09:43:58", "last_accessed": "2026-11-08 09:43:58"},
            "all four conditions are met",
            id="important when it was old enough",
        ),
        pytest.param(
            {"created_at": "2026-11-01 09:43:58", "last_accessed": "2026-11-01 09:43:58"},
            "not due: importance after decay 7.3 of 8 (0.7 too low)",
            id="no longer important when it was old enough",
        ),
    ],
)
def test_explain_states_what_a_promotion_lacks(
    db: sqlite3.Connection, migrated: Memctl, columns: dict[str, Any], line: str
) -> None:
    insert_memory(db, **{"id": "m-1", **PROVEN, **columns})

    facts = migrated.ok("explain", "build_agent", "m-1").out.splitlines()

    assert [fact.split(maxsplit=1)[1] for fact in facts if fact.startswith("promotion")] == [line]


def test_a_memory_is_shown_as_promoted_until_its_text_changes(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, **{"id": "m-1", **PROVEN})
    migrated.ok("promote")

    def promotion() -> str:
        facts = migrated.ok("explain", "build_agent", "m-1").out.splitlines()
        (fact,) = (fact for fact in facts if fact.startswith("promotion"))
        return fact.split(maxsplit=1)[1]

    unchanged = promotion()
    db.execute("UPDATE agent_memory SET value = 'another text'")

    assert unchanged == "promoted at 2026-11-22T09:43:58Z, unchanged since"
    assert promotion() == "promoted at 2026-11-22T09:43:58Z; all four conditions are met"


def test_a_memory_archived_during_explain_is_not_shown_twice(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, id="m-1", key="k")

    def archive_it(statement: str) -> None:
        if "FROM archived_memories" in statement and count(migrated.database, "agent_memory"):
            migrated.ok("archive", "build_agent", "m-1")

    with open_database(migrated.database, read_only=True) as reader:
        reader.set_trace_callback(archive_it)
        explanation = explain(reader, "build_agent", ["learning", "k"], Policies(), now=NOW)

    assert count(migrated.database, "archived_memories") == 1
    assert (explanation.state, explanation.archived, explanation.history) == ("active", [], [])


def test_explain_changes_nothing(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, id="m-1", idle_days=30, importance=9)
    before = rows(db, "agent_memory"), rows(db, "memory_runs")

    migrated.ok("explain", "build_agent", "m-1")

    assert (rows(db, "agent_memory"), rows(db, "memory_runs")) == before


def test_a_memorys_own_decay_rate_is_shown(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, id="m-1", metadata=json.dumps({"decay_rate": 0.25}))

    out = migrated.ok("explain", "build_agent", "m-1").out

    assert "decay         0.25 points per day after 7 idle days (the memory's own rate)\n" in out


def test_the_deciding_policy_is_named_and_applied(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    insert_memory(db, id="m-1", importance=9, idle_days=40)
    file = tmp_path / "memctl.toml"
    file.write_text("[decay.types.learning]\nidle_rate = 0.01\nstale_rate = 0.01\n")

    explained = migrated.ok("explain", "build_agent", "m-1", "--config", str(file)).out
    migrated.ok("decay", "--config", str(file))

    assert "\npolicy        decay.types.learning, prune\n" in explained
    assert "importance after the next decay: 8.67\n" in explained
    assert rows(db, "agent_memory", "importance") == [(8.67,)]
