"""archive-on-replace: whatever statement overwrites a memory, its version is archived once.

The statements of any client run on three databases: on one with the feature; on one without it,
which must give the same results; and row by row on a third one, whose changes tell what was lost.
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl import AgentMemory
from memctl.storage.memory import MemoryType
from memctl.storage.sqlite.database import open_database, transaction
from memctl.storage.sqlite.features import Feature, enable, renew_triggers
from memctl.storage.sqlite.migrate import migrate
from tests.support.database import connect, insert_memory, rows
from tests.support.program import NOW, Memctl
from tests.support.properties import examples
from tests.support.service import Service

COLUMNS = ("id", "agent_id", "type", "key", "value", "metadata", "importance")
KEPT = (*COLUMNS, "access_count", "last_accessed", "created_at", "expires_at")
NAME, CONTENT = KEPT[1:4], KEPT[4:7]
HELD_KEY, HELD_ID = "k1", "'b'"

Memory = dict[str, Any]


class Statement(NamedTuple):
    """A statement of a client: for each row of it, the SQL that does the same alone."""

    sql: str
    steps: Sequence[str]
    conflict: str = ""
    sets: Collection[str] = ()  # the columns that it sets in rows that stay


class Mode(NamedTuple):
    """What is enabled in a database."""

    features: tuple[Feature, ...]
    held: bool = False

    @property
    def has_delete_trigger(self) -> bool:
        """Whether there is a trigger for deletes."""
        return self.held or "archive-on-delete" in self.features

    def archives(self, feature: Feature, memory: Memory) -> bool:
        """Return whether a memory is archived when it is replaced, or deleted."""
        return feature in self.features or (self.held and is_held(memory))


def is_held(memory: Memory) -> bool:
    """Return whether one of the two holds covers a memory."""
    return bool(memory["key"] == HELD_KEY or memory["id"] == HELD_ID.strip("'"))


MODES = {
    "replace": Mode(("archive-on-replace",)),
    "replace and delete": Mode(("archive-on-replace", "archive-on-delete")),
    "replace, with holds": Mode(("archive-on-replace",), held=True),
    "everything": Mode(
        ("archive-on-replace", "archive-on-delete", "access-boost", "access-counting"), held=True
    ),
    "delete, with holds": Mode(("archive-on-delete",), held=True),
    "holds": Mode((), held=True),
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[Mode, Path]:
    """One database for each mode, and those without these features that are compared with it."""
    folder = tmp_path_factory.mktemp("replacing")
    boosted = Mode(("access-boost",))
    made = {}
    for number, mode in enumerate((*MODES.values(), Mode(()), boosted)):
        path = made[mode] = folder / f"{number}.db"
        with closing(Service(path)), open_database(path) as db:
            migrate(db, path, now=NOW, backup=False)
            enable_mode(db, mode)
    return made


def enable_mode(db: sqlite3.Connection, mode: Mode) -> None:
    """Enable the features of a mode, and hold memories."""
    for feature in mode.features:
        enable(db, feature, now=NOW)
    if mode.held:
        with transaction(db):
            db.execute(
                "INSERT INTO memory_holds (agent_id, memory_id, type, key, held_at, until) VALUES"
                " ('a1', NULL, 't', 'k1', '2026-11-22T09:43:58Z', NULL),"
                " ('a1', 'b', NULL, NULL, '2026-11-22T09:43:58Z', '2999-01-01T00:00:00Z'),"
                " ('a1', NULL, NULL, NULL, '2026-11-22T09:43:58Z', '2026-11-23T00:00:00Z')"
            )
            renew_triggers(db)


# SQL literals, so that text that is not UTF-8, and BLOBs, can be among them.
BROKEN_TEXT = "CAST(x'ed61' AS TEXT)"
IDS = st.sampled_from(["NULL", "'a'", HELD_ID, "'b'", "'c'", "x'ff00'", "CAST(x'80' AS TEXT)"])
KEYS = st.sampled_from(["'k1'", "'k1'", "'k2'", "x'6b31'", "CAST(x'6b00' AS TEXT)"])
VALUES = st.sampled_from(["'v'", "'v'", "'w'", "''", BROKEN_TEXT, "x'ff'", "NULL"])
METADATA = st.sampled_from(["NULL", "NULL", "'{}'", "x'7b7d'"])
IMPORTANCES = st.sampled_from(["5", "5", "'5'", "7.5", "NULL", "'high'"])
CONFLICTS = st.sampled_from(
    ["", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT", "OR ROLLBACK"]
)
ROWS = st.builds(
    lambda *given: f"({', '.join(given)}, '2026-01-01', '2026-01-02')",
    *(IDS, st.just("'a1'"), st.just("'t'"), KEYS, VALUES, METADATA, IMPORTANCES),
)
UPSERTS = st.sampled_from(
    [
        ("", ()),
        ("ON CONFLICT DO NOTHING", ()),
        ("ON CONFLICT (id) DO NOTHING", ()),
        ("ON CONFLICT (agent_id, type, key) DO UPDATE SET value = excluded.value", ["value"]),
        (
            "ON CONFLICT (agent_id, type, key) DO UPDATE SET value = excluded.value,"
            " metadata = excluded.metadata, importance = excluded.importance",
            ["value", "metadata", "importance"],
        ),
        (
            "ON CONFLICT (agent_id, type, key) DO UPDATE SET id = excluded.id,"
            " value = excluded.value, access_count = access_count + 1",
            ["value"],
        ),
        ("ON CONFLICT (agent_id, type, key) DO UPDATE SET importance = 9", ()),
        ("ON CONFLICT (id) DO UPDATE SET value = excluded.value WHERE false", ()),
        ("ON CONFLICT (id) DO UPDATE SET value = excluded.value, key = excluded.key", ["value"]),
        ("ON CONFLICT (id) DO NOTHING ON CONFLICT DO UPDATE SET value = 'u'", ["value"]),
    ]
)


@st.composite
def inserts(draw: st.DrawFn) -> Statement:
    """Draw an INSERT of one row or more, in any of its forms."""
    conflict = draw(CONFLICTS)
    upsert, sets = draw(st.one_of(st.just(("", ())), UPSERTS))
    returning = draw(st.sampled_from(["", "RETURNING rowid, id, value, importance"]))
    added = draw(st.lists(ROWS, min_size=1, max_size=3))

    def sql(rows: Sequence[str]) -> str:
        columns = ", ".join((*COLUMNS, "last_accessed", "created_at"))
        return (
            f"INSERT {conflict} INTO agent_memory ({columns})"
            f" VALUES {', '.join(rows)} {upsert} {returning}"
        )

    return Statement(sql(added), [sql([row]) for row in added], conflict, sets)


@st.composite
def updates(draw: st.DrawFn) -> Statement:
    """Draw an UPDATE: of the content of all memories or of one, or also of the name of one."""
    conflict = draw(CONFLICTS)
    content = draw(
        st.lists(
            st.one_of(
                VALUES.map(lambda value: ("value", value)),
                METADATA.map(lambda value: ("metadata", value)),
                IMPORTANCES.map(lambda value: ("importance", value)),
                st.just(("value", "value")),
            ),
            max_size=2,
            unique_by=lambda change: change[0],
        )
    )
    names = draw(
        st.lists(
            st.one_of(IDS.map(lambda value: ("id", value)), KEYS.map(lambda value: ("key", value))),
            max_size=2,
            unique_by=lambda change: change[0],
        )
    )
    where = "TRUE"
    of_one = draw(st.sampled_from(["", "key", "id"])) or (names and "key")
    if of_one:
        where = f"{of_one} = {draw(KEYS if of_one == 'key' else IDS)}"
    changes = [*content, *names] or [("access_count", "access_count + 1")]
    assigned = ", ".join(f"{column} = {value}" for column, value in changes)
    sql = f"UPDATE {conflict} agent_memory SET {assigned} WHERE {where}"
    sets = [column for column, _ in content]
    return Statement(sql, [sql], conflict, sets if set(sets) & {"value", "metadata"} else ())


DELETES = st.one_of(
    KEYS.map(lambda key: f"DELETE FROM agent_memory WHERE key = {key}"),
    st.just("DELETE FROM agent_memory WHERE value = 'w'"),
).map(lambda sql: Statement(sql, [sql]))


class Outcome(NamedTuple):
    """What a client sees of a statement."""

    returned: list[tuple[Any, ...]]
    error: str | None
    row_count: int | None
    changes: int
    last_row: int
    memories: list[tuple[Any, ...]]


def execute(db: sqlite3.Connection, sql: str) -> Outcome:
    """Execute a statement of a client."""
    returned, error, row_count = [], None, None
    try:
        cursor = db.execute(sql)
        returned, row_count = cursor.fetchall(), cursor.rowcount
    except sqlite3.Error as raised:
        error = f"{raised.sqlite_errorname}: {raised}"
    changes, last_row = db.execute("SELECT changes(), last_insert_rowid()").fetchone()
    found = rows(db, "agent_memory", "rowid, *")
    return Outcome(returned, error, row_count, changes, last_row, found)


def memories_by_row(db: sqlite3.Connection) -> dict[int, Memory]:
    """Return the active memories by their rows."""
    found = rows(db, "agent_memory", f"rowid, {', '.join(KEPT)}")
    return {row[0]: dict(zip(KEPT, row[1:], strict=True)) for row in found}


def lost_in_step(before: dict[int, Memory], after: dict[int, Memory], sets: Collection[str]) -> Any:
    """Yield the memories that a step overwrote, each with the id that is taken from it, if any."""
    new = [after[row] for row in after if row not in before]
    changed = [row for row in before if row in after and before[row] != after[row]]
    for row in before:
        if row in after:
            if any(before[row][column] != after[row][column] for column in sets):
                yield before[row], after[row]["id"]
            continue
        (by,) = new or [after[row] for row in changed]
        is_same = all(before[row][column] == by[column] for column in (*NAME, *CONTENT))
        if not is_same or before[row]["id"] == HELD_ID.strip("'") != by["id"]:
            yield before[row], by["id"], is_same


def expected_losses(
    db: sqlite3.Connection, statement: Statement, mode: Mode, outcome: Outcome
) -> list[Any]:
    """Execute a statement row by row; return what must be archived, in no order.

    A statement that fails may keep its first rows.
    """
    if outcome.error and rows(db, "agent_memory", "rowid, *") == outcome.memories:
        return []
    expected: list[Any] = []
    db.execute("BEGIN")
    for step in statement.steps:
        before = memories_by_row(db)
        if execute(db, step).error:
            break
        left = memories_by_row(db)
        if step.startswith("DELETE"):
            gone = [before[row] for row in before if row not in left]
            expected += [
                (memory, memory["id"], "deleted")
                for memory in gone
                if mode.archives("archive-on-delete", memory)
            ]
            continue
        for memory, taken, *same in lost_in_step(before, left, statement.sets):
            if same == [True] and not mode.held:
                continue
            if mode.archives("archive-on-replace", memory):
                expected.append((memory, taken, "replaced"))
    if db.in_transaction:
        db.execute("COMMIT")
    return expected


def archived_since(db: sqlite3.Connection, archive_id: int) -> list[Any]:
    """Return what was archived after a row of the archive, as `expected_losses` does."""
    found = db.execute(
        f"SELECT archived_at, archived_reason, {', '.join(KEPT)} FROM archived_memories"
        " WHERE archive_id > ?",
        (archive_id,),
    )
    return [
        (dict(zip(KEPT, kept, strict=True)), archived_at, reason)
        for archived_at, reason, *kept in found
    ]


def with_suffix(memory_id: str | bytes | None, archived_at: str) -> str | bytes | None:
    """Return the id of a version whose id its successor has."""
    if isinstance(memory_id, bytes):
        return memory_id + f"~{archived_at}".encode()
    return None if memory_id is None else f"{memory_id}~{archived_at}"


def comparable(memory: Memory, reason: str) -> tuple[Any, ...]:
    """Return a memory that was archived without its id."""
    return (*(repr(memory[column]) for column in KEPT[1:]), reason)


def expected_events(losses: list[Any]) -> Counter[tuple[Any, ...]]:
    """Return the events of what was archived."""
    events: Counter[tuple[Any, ...]] = Counter()
    for memory, _, reason in losses:
        names = tuple(memory[column] for column in KEPT[:4])
        events["memory:archived", *names, f'{{"reason": "{reason}"}}'] += 1
        if reason == "deleted":
            events["memory:deleted", *names, None] += 1
    return events


@contextmanager
def client(template: Path, path: Path, *, recursive: bool) -> Iterator[sqlite3.Connection]:
    """Connect a client to a copy of a database."""
    shutil.copyfile(template, path)
    with closing(connect(path)) as db:
        db.execute(f"PRAGMA recursive_triggers = {recursive:d}")
        db.execute("PRAGMA trusted_schema = OFF")
        yield db
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


@examples(20)
@given(
    statements=st.lists(
        st.one_of(inserts(), inserts(), updates(), DELETES), min_size=2, max_size=8
    ),
    mode=st.sampled_from(list(MODES.values())),
    recursive=st.booleans(),
)
def test_any_statement_loses_nothing_and_gives_the_results_that_it_gives_without_the_feature(
    statements: list[Statement], mode: Mode, recursive: bool, templates: dict[Mode, Path]
) -> None:
    without = Mode(("access-boost",) if "access-boost" in mode.features else ())
    folder = templates[mode].parent
    with (
        client(templates[mode], folder / "with.db", recursive=recursive) as db,
        client(templates[without], folder / "without.db", recursive=recursive) as plain,
        client(templates[without], folder / "steps.db", recursive=recursive) as steps,
    ):
        for statement in statements:
            if recursive and mode.has_delete_trigger and "UPDATE OR REPLACE" in statement.sql:
                continue  # SQLite then rejects some of these, whatever the DELETE trigger does
            (last,) = db.execute(
                "SELECT ifnull(max(archive_id), 0) FROM archived_memories"
            ).fetchone()
            (event,) = db.execute("SELECT ifnull(max(event_id), 0) FROM memory_events").fetchone()

            outcome = execute(db, statement.sql)

            losses = expected_losses(steps, statement, mode, outcome)
            assert outcome == execute(plain, statement.sql)
            assert rows(steps, "agent_memory") == rows(plain, "agent_memory")
            check_archive(db, last, losses, reuses_ids=len(statement.steps) > 1)
            events = db.execute(
                "SELECT event, memory_id, agent_id, type, key, detail FROM memory_events"
                " WHERE event_id > ?",
                (event,),
            )
            assert Counter(events.fetchall()) == expected_events(losses)
            check_leftovers(db, outcome, statement)


def check_archive(
    db: sqlite3.Connection, last: int, losses: list[Any], *, reuses_ids: bool
) -> None:
    """Check what a statement has archived, and under which ids.

    A later row of a statement may use the id of a memory that an earlier one has replaced.
    """
    found = archived_since(db, last)
    assert Counter(comparable(memory, reason) for memory, _, reason in found) == Counter(
        comparable(memory, reason) for memory, _, reason in losses
    )
    ids = Counter(
        memory["id"] if reason == "deleted" or memory["id"] != taken else ("taken", memory["id"])
        for memory, taken, reason in losses
    )
    for memory, archived_at, _ in found:
        plain = memory["id"] if ids[memory["id"]] else None
        for kind, memory_id in [key for key in ids if isinstance(key, tuple)]:
            if with_suffix(memory_id, archived_at) == memory["id"] and ids[kind, memory_id]:
                plain = (kind, memory_id)
        ids[plain] -= 1
    assert not +ids
    active = {memory["id"] for memory in memories_by_row(db).values()} - {None}
    if not reuses_ids:
        assert not active & {memory["id"] for memory, _, _ in found}


def check_leftovers(db: sqlite3.Connection, outcome: Outcome, statement: Statement) -> None:
    """Check that copies stay only of memories that a statement did not replace."""
    left = {row for (row,) in db.execute("SELECT replaced_row FROM memory_replacements")}
    if statement.sql.startswith("INSERT") and not outcome.error:
        assert left <= {memory[0] for memory in outcome.memories}
        if outcome.returned and len(statement.steps) == 1 and "DO UPDATE" not in statement.sql:
            assert not left


REPLACED: tuple[Feature, ...] = ("archive-on-replace",)
BOTH: tuple[Feature, ...] = ("archive-on-replace", "archive-on-delete")
ARCHIVED = "agent_id, type, key, value, archived_reason"
NAMES: tuple[str, MemoryType, str] = ("build_agent", "learning", "k")


def enable_features(memctl: Memctl, features: Collection[Feature]) -> None:
    """Enable some features."""
    for feature in features:
        memctl.ok("enable", feature)


def archived(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return the archived memories, and check that each archiving has an event."""
    of_memories = rows(db, "archived_memories", "agent_id, type, key, archived_reason")
    events = db.execute(
        "SELECT agent_id, type, key, json_extract(detail, '$.reason') FROM memory_events"
        " WHERE event = 'memory:archived' ORDER BY event_id"
    )
    assert events.fetchall() == of_memories
    return rows(db, "archived_memories", ARCHIVED)


def test_an_update_of_name_and_value_archives_its_old_version_and_what_it_replaces(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    enable_features(migrated, REPLACED)
    service.remember("build_agent", "learning", "old", "first")
    service.remember("build_agent", "learning", "k", "in the way")

    service.db.execute(
        "UPDATE OR REPLACE agent_memory SET key = 'k', value = 'v' WHERE key = 'old'"
    )

    assert sorted(archived(db)) == [
        (*NAMES, "in the way", "replaced"),
        ("build_agent", "learning", "old", "first", "replaced"),
    ]
    assert rows(db, "agent_memory", "key, value") == [("k", "v")]


def test_an_upsert_of_the_value_leaves_no_copy_behind(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    enable_features(migrated, REPLACED)
    service.remember(*NAMES, "first")

    service.db.execute(
        "INSERT INTO agent_memory (id, agent_id, type, key, value)"
        " VALUES ('i', 'build_agent', 'learning', 'k', 'second')"
        " ON CONFLICT (agent_id, type, key) DO UPDATE SET value = excluded.value"
    )

    assert archived(db) == [(*NAMES, "first", "replaced")]
    assert rows(db, "memory_replacements") == []


@pytest.mark.parametrize("features", [REPLACED, BOTH], ids=["replace", "and delete"])
@pytest.mark.parametrize("keep_replaced", [False, True], ids=["", "keep_replaced"])
def test_the_api_archives_what_it_replaces_once(
    db: sqlite3.Connection,
    migrated: Memctl,
    service: Service,
    features: tuple[Feature, ...],
    keep_replaced: bool,
) -> None:
    enable_features(migrated, features)

    with AgentMemory(migrated.database) as memories:
        for value in ("first", "second", "second", "third"):
            memories.remember(*NAMES, value, keep_replaced=keep_replaced and value == "third")

    assert archived(db) == [(*NAMES, "first", "replaced"), (*NAMES, "second", "replaced")]
    assert rows(db, "memory_replacements") == []


@pytest.mark.parametrize("features", [REPLACED, BOTH], ids=["replace", "and delete"])
def test_memctl_archives_what_an_import_and_a_restore_replace_once(
    db: sqlite3.Connection, migrated: Memctl, service: Service, features: tuple[Feature, ...]
) -> None:
    service.remember(*NAMES, "exported")
    document = migrated.ok("export", "--all").out.encode()
    enable_features(migrated, features)
    service.remember(*NAMES, "newer")

    migrated.ok("import", "--all", "--on-conflict", "replace", "-", given=document)
    after_import = archived(db)
    migrated.ok("restore", "--run", "1", "--on-conflict", "replace")

    assert after_import == [(*NAMES, "exported", "replaced"), (*NAMES, "newer", "replaced")]
    assert archived_values(db) == ["exported", "exported"]
    assert rows(db, "agent_memory", "value") == [("newer",)]


def archived_values(db: sqlite3.Connection) -> list[str]:
    """Return the values in the archive."""
    return [value for (value,) in rows(db, "archived_memories", "value")]


@pytest.mark.parametrize("recursive", [False, True], ids=["", "recursive"])
@pytest.mark.parametrize("features", [REPLACED, BOTH], ids=["replace", "and delete"])
def test_a_memory_that_is_replaced_by_its_rowid_is_archived(
    db: sqlite3.Connection, migrated: Memctl, features: tuple[Feature, ...], recursive: bool
) -> None:
    enable_features(migrated, features)
    insert_memory(db, key="k", value="first")
    db.execute(f"PRAGMA recursive_triggers = {recursive:d}")

    db.execute(
        "INSERT OR REPLACE INTO agent_memory (rowid, id, agent_id, type, key, value)"
        " SELECT rowid, 'other', agent_id, type, 'other', 'second' FROM agent_memory"
    )

    assert archived_values(db) == ["first"]


def test_no_copy_of_a_memory_stays_when_the_feature_is_disabled(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    enable_features(migrated, REPLACED)
    service.remember(*NAMES, "first")
    db.execute(
        "INSERT OR IGNORE INTO agent_memory (agent_id, type, key, value)"
        " VALUES ('build_agent', 'learning', 'k', 'ignored')"
    )
    assert len(rows(db, "memory_replacements")) == 1

    migrated.ok("disable", "archive-on-replace")

    assert rows(db, "memory_replacements") == []


def test_decay_and_accesses_archive_nothing(
    db: sqlite3.Connection, migrated: Memctl, service: Service
) -> None:
    enable_features(migrated, (*BOTH, "access-boost", "access-counting"))
    insert_memory(db, importance=9, idle_days=40)

    migrated.ok("decay")
    (memory,) = service.recall_all("build_agent")
    service.recall(*(memory[column] for column in ("agent_id", "type", "key")))

    ((importance,),) = rows(db, "agent_memory", "importance")
    assert importance < 9
    assert archived(db) == []


@pytest.mark.parametrize(
    "trigger",
    ["replace_begins", "replace_ends", "update_of_value", "rename_begins", "rename_ends"],
)
def test_a_check_finds_each_missing_trigger_and_creates_it_again(
    db: sqlite3.Connection, migrated: Memctl, trigger: str
) -> None:
    enable_features(migrated, BOTH)
    before = rows(db, "sqlite_schema", "name, sql")
    db.execute(f"DROP TRIGGER memctl_{trigger}")

    answer = migrated("check", "--json")
    migrated("check", "--fix")

    (finding,) = [found for found in answer.json["findings"] if "feature" in found["code"]]
    assert finding["code"] == "feature_outdated"
    assert finding["message"].startswith("archive-on-replace is enabled, but its triggers")
    assert sorted(rows(db, "sqlite_schema", "name, sql")) == sorted(before)
