"""memctl does not affect the service: its statements work as before migrate and rollback."""

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.database import connect, everything, text_of
from tests.support.program import NOW, Memctl
from tests.support.properties import examples
from tests.support.service import COLUMNS, Service

AGENTS = ("build_agent", "qa_agent", "a/b", "[bold]a[/]")
TYPES = ("context", "learning", "preference", "error_pattern", "success_pattern")
KEYS = ("task:1", "task:2", "--help", "tab\there", "", "\N{ELEPHANT}", "nul\0inside", "k")
IMPORTANCES = (5, 5, 5, 3, 7, 8, 0, -3, 100, 7.5, "high", "", None)
EXPIRIES = (
    None,
    None,
    "2020-01-01 00:00:00",
    "2020-01-01T00:00:00.000Z",
    "2026-11-22 09:00:00",
    "2026-11-22T09:00:00.000Z",
    "2999-12-31T23:59:59.999Z",
    "+011533-07-07T00:00:00.000Z",
    "-000192-09-06T00:00:00.000Z",
    "soon",
)

# The states in which memctl can leave a database that the service keeps using.
# access-boost is not among them: its purpose is to change importance, and so the order of results.
STATES = (
    "migrated",
    "with features",
    "rolled back to 1",
    "rolled back to 0",
    "made by memctl",
)

OTHER_TABLES = """
    PRAGMA user_version = 41;
    PRAGMA application_id = 4711;
    CREATE TABLE tasks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL,
        status TEXT DEFAULT 'open' CHECK (status IN ('open', 'done')),
        agent_id TEXT REFERENCES agents (id)
    );
    CREATE TABLE agents (id TEXT PRIMARY KEY, name TEXT UNIQUE, config JSON) WITHOUT ROWID;
    CREATE TABLE observability_events (
        id INTEGER PRIMARY KEY,
        timestamp TEXT DEFAULT (datetime('now')),
        event_type TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        message NOT NULL
    );
    CREATE INDEX open_tasks ON tasks (agent_id) WHERE status = 'open';
    CREATE VIEW busy_agents AS
        SELECT agents.name, count(*) AS tasks FROM agents JOIN tasks ON tasks.agent_id = agents.id
        GROUP BY agents.id;
    CREATE VIEW what_agents_know AS SELECT * FROM agent_memory ORDER BY importance DESC;
    CREATE TRIGGER tell_of_done AFTER UPDATE OF status ON tasks WHEN NEW.status = 'done' BEGIN
        INSERT INTO observability_events (timestamp, event_type, agent_id, message)
        VALUES ('2026-01-01 00:00:00', 'task_done', NEW.agent_id, NEW.title);
    END;
    INSERT INTO agents VALUES ('a1', 'builder', '{"x": 1}'), ('a2', 'tester', NULL);
    INSERT INTO tasks (title, agent_id) VALUES ('compile', 'a1'), (x'00ff', 'a2'), ('ship', 'a1');
    UPDATE tasks SET status = 'done' WHERE title = 'compile';
    DELETE FROM tasks WHERE title = 'ship';
"""


class Call(NamedTuple):
    """One call of the service: a method and its arguments."""

    method: str
    given: dict[str, Any]


class Play(NamedTuple):
    """The result of a sequence of calls: the answers, and the rows they left."""

    answers: list[Any]
    rows: list[tuple[Any, ...]]


def random_calls(random: Random, count: int) -> list[Call]:
    """Return calls on few enough names that they often meet, with many ties among the memories."""
    calls = []
    for number in range(count):
        agent = {"agent": random.choice(AGENTS)}
        name = agent | {"kind": random.choice(TYPES), "key": random.choice(KEYS)}
        memory = name | {
            "value": f"value {number}",
            "memory_id": f"id-{random.randrange(10**12)}",
            "metadata": random.choice([None, "{}", '{"taskId": 7}']),
            "importance": random.choice(IMPORTANCES),
            "expires_at": random.choice(EXPIRIES),
        }
        choices: list[tuple[int, Call]] = [
            (40, Call("remember", memory)),
            (30, Call("recall", name)),
            (10, Call("recall_all", agent)),
            (10, Call("recall_all", agent | {"kind": random.choice(TYPES)})),
            (8, Call("forget", name)),
            (1, Call("forget_all", agent)),
            (1, Call("cleanup_expired", {})),
        ]
        weights = [weight for weight, _ in choices]
        calls.append(random.choices([call for _, call in choices], weights)[0])
    return calls


def answer(service: Service, calls: Sequence[Call], *, first: int = 0) -> list[Any]:
    """Make the calls, a second apart, and return the answers; `first` is the number of the first.

    The service's clock is the test's, so that all databases see the same times.
    """
    moment = NOW + timedelta(seconds=first)
    service.db.create_function("datetime", 1, lambda _: text_of(moment))
    answers = []
    for call in calls:
        moment += timedelta(seconds=1)
        answers.append(as_seen(getattr(service, call.method)(**call.given)))
    return answers


def as_seen(found: Any) -> Any:
    """Return the part of an answer that the service uses: its columns, which must come first."""
    if isinstance(found, sqlite3.Row):
        return list(zip(found.keys(), found, strict=True))[: len(COLUMNS)]
    if isinstance(found, list):
        return [as_seen(row) for row in found]
    return found


def memories(path: Path) -> list[tuple[Any, ...]]:
    """Return the service's columns of every memory, with rowids and SQLite types, by rowid."""
    typed = ", ".join(f"typeof({name}), {name}" for name in COLUMNS)
    with closing(connect(path)) as db:
        return db.execute(f"SELECT rowid, {typed} FROM agent_memory ORDER BY rowid").fetchall()


def play(database: Path, calls: Sequence[Call], folder: Path, *, before: str = "") -> Play:
    """Run the calls on a copy of a database, after the given SQL, if any."""
    copy = Path(tempfile.mkdtemp(dir=folder)) / database.name
    shutil.copy(database, copy)
    with closing(Service(copy)) as service:
        service.db.execute("PRAGMA synchronous = OFF")
        service.db.executescript(before)
        answers = answer(service, calls)
    return Play(answers, memories(copy))


def fill(path: Path) -> None:
    """Let the service write some memories, always the same."""
    with closing(Service(path)) as service:
        answer(service, random_calls(Random(0), 600))


def schema(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows of `sqlite_schema` without the root pages."""
    with closing(connect(path)) as db:
        return db.execute(
            "SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"
        ).fetchall()


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Databases with the same memories: one that memctl never saw, and each of STATES."""
    folder = tmp_path_factory.mktemp("states")
    found = {name: folder / f"{name}.db" for name in ("untouched", *STATES)}
    Memctl(found["made by memctl"]).ok("migrate")
    for path in found.values():
        fill(path)
    for name in ("migrated", "with features", "rolled back to 1", "rolled back to 0"):
        Memctl(found[name]).ok("migrate", "--no-backup")
    for name in ("with features", "rolled back to 1", "rolled back to 0"):
        for feature in ("access-counting", "archive-on-delete"):
            Memctl(found[name]).ok("enable", feature)
    for step in ("1", "0"):
        Memctl(found[f"rolled back to {step}"]).ok("enable", "access-boost")
    for step in ("1", "0"):
        Memctl(found[f"rolled back to {step}"]).ok("rollback", "--to", step)
    return found


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("seed", range(1, 4), ids="sequence {}".format)
def test_the_service_gets_the_same_answers_as_without_memctl(
    states: dict[str, Path], tmp_path: Path, state: str, seed: int
) -> None:
    calls = random_calls(Random(seed), 1500)
    expected = play(states["untouched"], calls, tmp_path)

    played = play(states[state], calls, tmp_path)

    assert played.answers == expected.answers
    assert played.rows == expected.rows


def test_the_comparison_notices_an_index_that_reorders_ties(
    states: dict[str, Path], tmp_path: Path
) -> None:
    calls = random_calls(Random(1), 1500)
    expected = play(states["untouched"], calls, tmp_path)

    played = play(
        states["untouched"],
        calls,
        tmp_path,
        before="CREATE INDEX by_importance ON agent_memory (agent_id, importance, key DESC)",
    )

    assert played.answers != expected.answers
    assert sorted(map(repr, played.rows)) == sorted(map(repr, expected.rows))


AGENT = {"agent": st.sampled_from(["build_agent", "a/b"])}
TYPE = {"kind": st.sampled_from(["context", "learning"])}
NAME = {**AGENT, **TYPE, "key": st.sampled_from(["task:1", "k", "new"])}
MEMORY = {
    **NAME,
    "value": st.text(),
    "memory_id": st.text(min_size=1),
    "metadata": st.none() | st.text(),
    "importance": st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    "expires_at": st.sampled_from(EXPIRIES) | st.text(),
}
CALLS = st.one_of(
    st.builds(Call, st.just("remember"), st.fixed_dictionaries(MEMORY)),
    st.builds(Call, st.sampled_from(["recall", "forget"]), st.fixed_dictionaries(NAME)),
    st.builds(Call, st.just("recall_all"), st.fixed_dictionaries(AGENT, optional=TYPE)),
    st.builds(Call, st.just("forget_all"), st.fixed_dictionaries(AGENT)),
    st.just(Call("cleanup_expired", {})),
)


@examples(2)
@given(calls=st.lists(CALLS, max_size=12))
def test_no_short_sequence_of_calls_detects_memctl(
    states: dict[str, Path], calls: list[Call]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = play(states["untouched"], calls, Path(folder))

        played = {state: play(states[state], calls, Path(folder)) for state in STATES}

    assert played == dict.fromkeys(STATES, expected)


def plans(path: Path) -> dict[str, list[str]]:
    """Return the query plan of each statement of the service."""
    statements: list[str] = []
    with closing(Service(path)) as service:
        service.db.set_trace_callback(statements.append)
        service.remember("build_agent", "learning", "k", "v", memory_id="id-1")
        service.recall("build_agent", "learning", "k")
        service.recall_all("build_agent")
        service.recall_all("build_agent", "learning")
        service.forget("build_agent", "learning", "k")
        service.forget_all("build_agent")
        service.cleanup_expired()
        service.db.set_trace_callback(None)
        return {
            sql: [row["detail"] for row in service.db.execute(f"EXPLAIN QUERY PLAN {sql}")]
            for sql in statements
        }


@pytest.mark.parametrize(
    "preparation",
    [
        pytest.param("", id="without statistics"),
        pytest.param("ANALYZE", id="with statistics of the service's own"),
    ],
)
def test_every_statement_of_the_service_is_planned_as_before(
    path: Path, memctl: Memctl, preparation: str
) -> None:
    fill(path)
    with closing(connect(path)) as db:
        db.executescript(preparation)
    shutil.copy(path, path.with_name("untouched.db"))
    expected = plans(path.with_name("untouched.db"))

    memctl.ok("migrate")
    shutil.copy(path, path.with_name("migrated.db"))
    memctl.ok("rollback", "--to", "0")

    # Its cleanup returns only a count, so it may use the index on the expiry.
    cleanup = "DELETE FROM agent_memory WHERE expires_at < datetime('now')"
    assert len(expected) == 8
    assert plans(path) == expected
    assert {**plans(path.with_name("migrated.db")), cleanup: []} == {**expected, cleanup: []}


def test_an_open_connection_keeps_working_through_migrate_and_rollback(
    service: Service, memctl: Memctl, path: Path
) -> None:
    calls = random_calls(Random(5), 1000)
    with closing(Service(path.with_name("untouched.db"))) as untouched:
        expected = answer(untouched, calls)

    answers = answer(service, calls[:200])
    memctl.ok("migrate")
    answers += answer(service, calls[200:400], first=200)
    memctl.ok("rollback", "--to", "1")
    answers += answer(service, calls[400:600], first=400)
    memctl.ok("migrate")
    answers += answer(service, calls[600:800], first=600)
    memctl.ok("rollback", "--to", "0")
    answers += answer(service, calls[800:], first=800)

    assert answers == expected
    assert memories(path) == memories(path.with_name("untouched.db"))


def test_a_list_being_read_during_a_job_is_complete(
    service: Service, memctl: Memctl, path: Path
) -> None:
    fill(path)
    query = f"SELECT {', '.join(COLUMNS)} FROM agent_memory ORDER BY rowid"
    expected = service.db.execute(query).fetchall()

    reading = service.db.execute(query)
    found = [reading.fetchone()]
    memctl.ok("migrate")
    found += reading.fetchmany(50)
    memctl.ok("rollback", "--to", "0")
    found += reading.fetchall()

    assert found == expected


def test_a_service_that_writes_continuously_is_never_locked_out(
    service: Service, memctl: Memctl, path: Path
) -> None:
    stop = threading.Event()

    def write() -> list[str]:
        written: list[str] = []
        with closing(Service(path)) as busy:
            while not stop.is_set():
                name = ("build_agent", "learning", f"k{len(written) % 50}")
                written.append(f"value {len(written)}")
                assert busy.remember(*name, written[-1])["value"] == written[-1]
                assert busy.recall(*name) is not None
        return written

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        try:
            for _ in range(2):
                memctl.ok("migrate")
                memctl.ok("rollback", "--to", "0")
        finally:
            stop.set()
        written = writing.result()

    found = [row["value"] for row in service.recall_all("build_agent")]
    assert sorted(found) == sorted(written[-50:])


def other_tables(path: Path) -> tuple[list[Any], dict[str, Any], list[Any]]:
    """Return everything in a database that belongs neither to the memories nor to memctl."""
    ours = ("agent_memory", "archived_memories", "memory_", "memctl_")
    with closing(connect(path)) as db:
        marks = [
            db.execute(f"PRAGMA {name}").fetchone()
            for name in ("user_version", "application_id", "journal_mode", "page_size")
        ]
    return (
        [row[1:] for row in schema(path) if not row[3].startswith(ours)],
        {name: rows for name, rows in everything(path).items() if not name.startswith(ours)},
        marks,
    )


def test_nothing_else_in_the_database_changes(path: Path, memctl: Memctl) -> None:
    fill(path)
    with closing(connect(path)) as db:
        db.executescript(OTHER_TABLES)
    others = other_tables(path)
    before = schema(path), everything(path)

    memctl.ok("migrate")
    migrated = other_tables(path)
    memctl.ok("rollback", "--to", "0")

    assert migrated == others
    assert (schema(path), everything(path)) == before
    assert set(others[1]) == {"agents", "observability_events", "sqlite_sequence", "tasks"}
    assert all(others[1].values())
