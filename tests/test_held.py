"""No command changes or removes a held memory: each path that could, and random ones."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl import AgentMemory
from memctl.errors import RefusedError
from tests.support.database import connect, everything, rows
from tests.support.documents import copy_of
from tests.support.kills import copy_at, killed_before, one_of_each_kind
from tests.support.program import NOW, Memctl, Words
from tests.support.properties import examples

DAY = timedelta(days=1)

WAYS: dict[str, list[Words]] = {
    "by id": [("active",), ("archived",)],
    "by type and key": [
        ("--type", "learning", "--key", "held"),
        ("--type", "learning", "--key", "old"),
    ],
    "all of the agent": [("--all",)],
}

LATER = (NOW + DAY).strftime("%Y-%m-%d %H:%M:%S")
COLLIDING = {
    "active": [
        {
            "id": memory_id,
            "agent_id": "build_agent",
            "type": "learning",
            "key": key,
            "value": "from the document",
            "created_at": LATER,
            "last_accessed": LATER,
        }
        for memory_id, key in (("imported", "held"), ("archived", "another"))
    ]
}


def held_rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the two held memories, with the type and bytes of every column."""
    found = everything(path)
    return {
        table: [row for row in found[table] if b"held value" in row]
        for table in ("agent_memory", "archived_memories")
    }


@pytest.fixture(params=WAYS)
def held(
    request: pytest.FixtureRequest,
    db: sqlite3.Connection,
    migrated: Memctl,
    remember: Callable[..., str],
) -> Memctl:
    """The program, and a database with an active and an archived memory that are held.

    Both, and three that are free, expired, are idle and would be pruned; run 2 imported the active
    ones.
    """
    old = {"importance": 5, "idle_days": 200}
    remember(id="archived", key="old", value="held value", expired_for=DAY, **old)
    remember(id="free archived", key="free old", agent_id="qa_agent", expired_for=DAY, **old)
    migrated.at(NOW - timedelta(hours=1)).ok("cleanup")
    db.execute("UPDATE archived_memories SET archived_at = '2026-01-01T00:00:00Z', run_id = NULL")
    db.execute(
        """
        INSERT INTO archived_memories
            (id, agent_id, type, key, value, importance, archived_at, archived_reason)
        VALUES
            ('version', 'build_agent', 'learning', 'held', 'v', 9, '2026-11-20T00:00:00Z',
            'replaced')
        """
    )
    remember(id="active", key="held", value="held value", expired_for=DAY, **old)
    remember(id="free", key="free", agent_id="qa_agent", expired_for=DAY, **old)
    db.execute(
        """
        INSERT INTO memory_runs (job, started_at, finished_at, status, memctl_version, host, pid)
        VALUES ('import', '2026-11-22T09:43:58Z', '2026-11-22T09:43:58Z', 'ok', '', '', 1)
        """
    )
    db.execute(
        """
        INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id)
        SELECT '2026-11-22T09:43:58Z', 'memory:imported', id, agent_id, type, key, 2
        FROM agent_memory
        """
    )
    for words in WAYS[request.param]:
        migrated.ok("hold", "build_agent", *words)
    return migrated


@dataclass(frozen=True)
class Danger:
    """A command that would change or remove the held memories, and what it does instead."""

    words: tuple[str, ...]
    exit_code: int = 0
    held: int | None = None  # in its result
    changed: tuple[str, int] | None = None  # a count in its result
    given: bytes = b""


IMPORT = ("import", "-", "--no-checksum", "--on-conflict")
DOCUMENT = json.dumps(COLLIDING).encode()

DANGERS = {
    "cleanup": Danger(("cleanup",), held=1, changed=("archived", 1)),
    "decay": Danger(("decay",), held=1, changed=("decayed", 1)),
    "prune": Danger(("prune",), held=1, changed=("pruned", 1)),
    "promote": Danger(("promote",)),
    "run": Danger(("run",)),
    "archive by id": Danger(("archive", "build_agent", "active"), 3),
    "archive by run": Danger(("archive", "--run", "2"), held=1, changed=("archived", 1)),
    "forget": Danger(("forget", "build_agent", "learning", "held"), 3),
    "forget all": Danger(("forget", "build_agent", "learning"), held=1, changed=("forgotten", 0)),
    "remember": Danger(("remember", "build_agent", "learning", "held", "new"), 3),
    "remember and keep": Danger(
        ("remember", "build_agent", "learning", "held", "new", "--keep-replaced"), 3
    ),
    "import, fail": Danger((*IMPORT, "fail"), 13, given=DOCUMENT),
    "import, skip": Danger((*IMPORT, "skip"), given=DOCUMENT),
    "import, replace": Danger((*IMPORT, "replace"), given=DOCUMENT),
    "import, newest": Danger((*IMPORT, "newest"), given=DOCUMENT),
    "import, atomic": Danger((*IMPORT, "replace", "--atomic"), given=DOCUMENT),
    "restore of a version": Danger(
        ("restore", "build_agent", "--type", "learning", "--key", "held", "--version", "1"), 3
    ),
    "erase by id": Danger(("erase", "build_agent", "active", "--yes"), 3),
    "erase of an archived memory": Danger(("erase", "build_agent", "archived", "--yes"), 3),
    "erase by text": Danger(("erase", "build_agent", "--match", "held value", "--yes"), 3),
    "redact": Danger(("redact", "build_agent", "active", "--match", "held", "--yes"), 3),
    "rollback of holds": Danger(("rollback", "--to", "2", "--yes"), 3),
    "rollback of the archive": Danger(("rollback", "--to", "1", "--yes"), 3),
    "check": Danger(("check", "--fix", "-q")),
    "snapshot": Danger(("snapshot",)),
}


@pytest.mark.parametrize("name", DANGERS)
def test_no_command_changes_or_removes_what_is_held(held: Memctl, name: str) -> None:
    danger = DANGERS[name]
    before = held_rows(held.database)
    reports = () if danger.words[0] in ("rollback", "check") else ("--json",)
    assert [len(found) for found in before.values()] == [1, 1]

    answer = held(*danger.words, *reports, given=danger.given)

    assert answer.exit_code == danger.exit_code, answer
    assert held_rows(held.database) == before
    if danger.held is not None:
        assert answer.json["held"] == danger.held
    if danger.changed is not None:
        assert answer.json[danger.changed[0]] == danger.changed[1]


@pytest.mark.parametrize("name", ["cleanup", "decay", "prune", "archive by run"])
def test_a_preview_counts_what_the_run_leaves(held: Memctl, name: str) -> None:
    words = DANGERS[name].words
    counts = {"held", *(DANGERS[name].changed or ())[:1]}

    preview = held.ok(*words, "-n", "--json").json
    message = held.ok(*words, "-n").err
    done = held.ok(*words, "--json").json

    assert {key: preview[key] for key in counts} == {key: done[key] for key in counts}
    assert "; left 1 held memory" in message
    with closing(connect(held.database)) as db:
        (recorded,) = db.execute(
            "SELECT counts FROM memory_runs ORDER BY run_id DESC LIMIT 1"
        ).fetchone()
    assert json.loads(recorded)["held"] == 1


@pytest.mark.parametrize("rule", ["replace", "newest"])
def test_an_import_counts_and_reports_what_is_held(held: Memctl, rule: str) -> None:
    preview = held(*IMPORT, rule, "-n", "--json", given=DOCUMENT).json
    done = held(*IMPORT, rule, given=DOCUMENT)
    again = held(*IMPORT, rule, "--json", given=DOCUMENT).json

    for answer in (preview, again):
        assert (answer["active"]["held"], answer["active"]["inserted"]) == (2, 0)
    assert (
        "not replaced because the memory in the database is held: 2 active, 0 archived" in done.err
    )


@pytest.mark.parametrize(
    ("rule", "exit_code", "count"), [("fail", 3, None), ("replace", 3, None), ("skip", 0, 1)]
)
def test_a_restore_does_not_replace_a_held_memory(
    held: Memctl, db: sqlite3.Connection, rule: str, exit_code: int, count: int | None
) -> None:
    db.execute(
        """
        INSERT INTO archived_memories
            (id, agent_id, type, key, value, importance, archived_at, archived_reason)
        VALUES
            ('earlier', 'build_agent', 'learning', 'held', 'v', 9, '2026-11-01T00:00:00Z', 'manual')
        """
    )
    before = held_rows(held.database)
    words = ("restore", "build_agent", "earlier", "--on-conflict", rule)

    preview = held(*words, "-n", "--json")
    answer = held(*words, "--json")

    assert preview.exit_code == answer.exit_code == exit_code
    assert held_rows(held.database) == before
    if count is not None:
        counts = [
            (one["restored"], one["skipped"], one["held"]) for one in (preview.json, answer.json)
        ]
        assert counts == [(0, 1, 1)] * 2


def test_a_restore_does_not_rename_a_held_copy(held: Memctl, db: sqlite3.Connection) -> None:
    db.execute(
        """
        INSERT INTO archived_memories
            (id, agent_id, type, key, value, importance, archived_at, archived_reason)
        VALUES
            ('archived', 'build_agent', 'learning', 'x', 'v', 9, '2026-11-01T00:00:00Z', 'manual')
        """
    )
    before = held_rows(held.database)

    refused = held("restore", "build_agent", "--reason", "manual", "--since", "2026-10-01")
    skipped = held.ok(
        *("restore", "build_agent", "--reason", "manual", "--since", "2026-10-01", "--json"),
        *("--on-conflict", "skip"),
    ).json

    assert refused.exit_code == 3
    assert refused.err == (
        "memctl: a held memory is in the way of 'build_agent' learning 'x'; end the hold with"
        " `memctl release`, or use --on-conflict skip; nothing was changed\n"
    )
    assert (skipped["restored"], skipped["held"]) == (0, 1)
    assert held_rows(held.database) == before


def test_a_held_memory_can_be_restored(held: Memctl, db: sqlite3.Connection) -> None:
    held.ok("restore", "build_agent", "archived")

    assert rows(db, "agent_memory", "id, value, importance")[-1] == ("archived", "held value", 5)


API_CALLS: dict[str, Callable[[AgentMemory], object]] = {
    "remember": lambda api: api.remember("build_agent", "learning", "held", "new"),
    "remember and keep": lambda api: api.remember(
        "build_agent", "learning", "held", "new", keep_replaced=True
    ),
    "forget": lambda api: api.forget("build_agent", "learning", "held"),
    "forget_all": lambda api: api.forget_all("build_agent"),
    "cleanup_expired": lambda api: api.cleanup_expired(),
}
REFUSED = ("remember", "remember and keep", "forget")


@pytest.mark.parametrize("name", API_CALLS)
def test_the_python_api_does_not_change_what_is_held(held: Memctl, name: str) -> None:
    before = held_rows(held.database)
    refusal = None

    with AgentMemory(held.database, clock=lambda: NOW) as api:
        try:
            API_CALLS[name](api)
        except RefusedError as error:
            refusal = error.message

    assert (refusal is not None) == (name in REFUSED)
    assert held_rows(held.database) == before


# Going back to a backup


def test_a_backup_with_the_held_memories_is_restored_and_the_holds_stay(
    held: Memctl, db: sqlite3.Connection, tmp_path: Path
) -> None:
    backup = tmp_path / "copy.db"
    held.ok("backup", "-o", str(backup))
    held.ok("remember", "qa_agent", "learning", "later", "v")
    before, holds = held_rows(held.database), rows(db, "memory_holds", "memory_id, type, key")
    db.close()

    held.ok("backup", "--restore", str(backup))

    assert held_rows(held.database) == before
    with closing(connect(held.database)) as restored:
        assert sorted(rows(restored, "memory_holds", "memory_id, type, key")) == sorted(holds)
    assert held.ok("check", "-q").out == ""


def test_a_backup_from_before_the_holds_gets_them(
    held: Memctl, db: sqlite3.Connection, tmp_path: Path
) -> None:
    backup = tmp_path / "copy.db"
    for memory in ("active", "archived"):
        held.ok("release", "build_agent", memory)
    held.ok("release", "build_agent", "--all")
    held.ok("backup", "-o", str(backup))
    for memory in ("active", "archived"):
        held.ok("hold", "build_agent", memory)
    db.close()

    held.ok("backup", "--restore", str(backup))

    listed = held.ok("holds").json
    assert {"active", "archived"} <= {hold["memory_id"] for hold in listed}
    assert held.ok("check", "-q").out == ""
    with closing(connect(held.database)) as restored:
        restored.execute("DELETE FROM agent_memory WHERE id = 'active'")
        assert restored.execute(
            "SELECT count(*) FROM archived_memories WHERE id = 'active'"
        ).fetchone() == (1,)


def test_a_held_memory_read_and_promoted_since_the_backup_does_not_prevent_its_restore(
    held: Memctl, db: sqlite3.Connection, tmp_path: Path
) -> None:
    backup = tmp_path / "copy.db"
    held.ok("backup", "-o", str(backup))
    before = held_rows(held.database)
    held.ok("recall", "build_agent", "learning", "held")
    db.execute("UPDATE agent_memory SET promoted_at = '2026-11-22T09:43:58Z'")
    assert held_rows(held.database) != before
    db.close()

    held.ok("backup", "--restore", str(backup))

    assert held_rows(held.database) == before


@pytest.mark.parametrize("column", ["value", "importance", "expires_at"])
@pytest.mark.parametrize("table", ["agent_memory", "archived_memories"])
def test_a_backup_without_a_held_memory_is_refused(
    held: Memctl, db: sqlite3.Connection, tmp_path: Path, table: str, column: str
) -> None:
    backup = tmp_path / "copy.db"
    held.ok("backup", "-o", str(backup))
    triggers = db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for (name,) in triggers:
        db.execute(f"DROP TRIGGER {name}")
    db.execute(f"UPDATE {table} SET {column} = {column} || 'x' WHERE value = 'held value'")
    before = everything(held.database)

    answer = held("backup", "--restore", str(backup))

    assert (answer.exit_code, answer.err) == (
        3,
        f"memctl: 1 memory that is held is not in {backup}, or not the same there; export them, and"
        " end the holds with `memctl release` first; nothing was changed\n",
    )
    assert everything(held.database) == before
    assert [file.name for file in held.database.parent.glob("*before-restore*")] == []


def test_a_backup_of_an_older_schema_is_refused(
    held: Memctl, tmp_path: Path, db: sqlite3.Connection
) -> None:
    backup = tmp_path / "copy.db"
    held.ok("backup", "-o", str(backup))
    held.ok("backup", "-o", str(tmp_path / "rolled.db"))
    older = Memctl(tmp_path / "rolled.db")
    with closing(connect(older.database)) as copy:
        copy.execute("DELETE FROM memory_holds")
    older.ok("rollback", "--to", "2", "--yes")
    with closing(connect(older.database)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")
    for left in tmp_path.glob("rolled.db[-.]*"):
        left.unlink()
    before = everything(held.database)

    answer = held("backup", "--restore", str(older.database))

    assert answer.exit_code == 3
    assert "is of a schema without holds" in answer.err
    assert everything(held.database) == before


# Random holds, and random commands in random order


AGENTS = ("build_agent", "build_agent", "qa_agent")  # most of what happens is about one
KEYS = ("one", "two")
IDS = ("m-1", "m-2", "m-3", "m-4", "m-5")
RULES = ("skip", "replace", "newest", "fail")

Step = tuple[Any, ...]


def random_target(chance: Random) -> Step:
    """Return what a hold covers: agent, id and key."""
    way = chance.randrange(3)
    memory_id = chance.choice(IDS) if way == 0 else None
    return chance.choice(AGENTS), memory_id, chance.choice(KEYS) if way == 1 else None


def random_step(chance: Random) -> Step:
    """Return something that memctl or a client does."""
    name = chance.choice(AGENTS), chance.choice(KEYS)
    memory_id, rule = chance.choice(IDS), chance.choice(RULES)
    steps: list[Step] = [
        ("hold", random_target(chance), chance.choice([None, None, 1, 5])),
        ("release", random_target(chance)),
        ("cleanup",),
        ("decay",),
        ("promote",),
        ("run",),
        ("prune", chance.choice(["1d", "10d", "90d"])),
        ("archive", name[0], memory_id),
        ("forget", name),
        ("forget all", name[0]),
        ("remember", name, chance.random() < 0.5),
        ("restore", name[0], memory_id, rule),
        ("import", name, memory_id, chance.random() < 0.7, rule),
        ("client deletes", name),
        ("client replaces", name, memory_id),
        ("recall", name),
    ]
    return chance.choice(steps)


def write_random_memories(path: Path, chance: Random) -> None:
    """Write an active or archived memory of each id, except those whose name is taken."""
    with closing(connect(path)) as db:
        for memory_id in IDS:
            read = NOW - chance.randrange(120) * DAY
            row: dict[str, Any] = {
                "id": memory_id,
                "agent_id": chance.choice(AGENTS),
                "type": "learning",
                "key": chance.choice(KEYS),
                "value": f"value of {memory_id}",
                "importance": chance.randint(1, 10),
                "last_accessed": f"{read:%Y-%m-%d %H:%M:%S}",
                "created_at": f"{read:%Y-%m-%d %H:%M:%S}",
            }
            expires = chance.choice([None, -1, 3, 30])
            if expires is not None:
                row["expires_at"] = f"{NOW + expires * DAY:%Y-%m-%dT%H:%M:%S.000Z}"
            table = chance.choice(["agent_memory", "archived_memories"])
            if table == "archived_memories":
                row |= {"archived_at": f"{read:%Y-%m-%dT%H:%M:%SZ}", "archived_reason": "manual"}
            marks = ", ".join("?" for _ in row)
            db.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})",
                tuple(row.values()),
            )


COMPARED = ("agent_id", "type", "key", "value", "metadata", "importance", "created_at")


@dataclass(frozen=True)
class Hold:
    """A hold as the oracle knows it."""

    agent: str
    memory_id: str | None
    key: str | None
    until: Any

    def covers(self, row: dict[str, Any], now: Any) -> bool:
        """Return whether a memory is held."""
        ends_later = self.until is None or now < self.until
        by_id = self.memory_id is None or (
            row["id"] == self.memory_id
            or (row["table"] == "archived_memories" and row["id"].startswith(f"{self.memory_id}~"))
        )
        by_key = self.key is None or row["key"] == self.key
        return ends_later and row["agent_id"] == self.agent and by_id and by_key


def all_rows(path: Path) -> list[dict[str, Any]]:
    """Return all memories, as their columns by name, with their table."""
    found = []
    with closing(connect(path)) as db:
        db.row_factory = sqlite3.Row
        for table in ("agent_memory", "archived_memories"):
            found += [{"table": table, **dict(row)} for row in db.execute(f"SELECT * FROM {table}")]
    return found


def words_of(step: Step, number: int) -> tuple[tuple[str, ...], bytes]:
    """Return the command line of a step, and what it reads."""
    match step:
        case ("hold" | "release" as command, (agent, memory_id, key), *end):
            which = (memory_id,) if memory_id else ("--type", "learning", "--key", key)
            if memory_id is key is None:
                which = ("--all",)
            until = ("--until", f"{end[0]}d") if end and end[0] else ()
            return (command, agent, *which, *until), b""
        case ("prune", period):
            return ("prune", "--older-than", period, "--force"), b""
        case ("forget" | "recall" as command, (agent, key)):
            return (command, agent, "learning", key), b""
        case ("forget all", agent):
            return ("forget", agent, "learning"), b""
        case ("remember", (agent, key), keep):
            kept = ("--keep-replaced",) if keep else ()
            return ("remember", agent, "learning", key, f"written {number}", *kept), b""
        case ("restore", agent, memory_id, rule):
            rule = "skip" if rule == "newest" else rule
            return ("restore", agent, memory_id, "--on-conflict", rule), b""
        case ("import", (agent, key), memory_id, active, rule):
            row = {"id": memory_id, "agent_id": agent, "type": "learning", "key": key}
            row["value"] = f"imported {number}"
            if not active:
                row |= {"archived_at": "2026-11-20T00:00:00Z", "archived_reason": "manual"}
            document = {"active" if active else "archived": [row]}
            return ("import", "-", "--no-checksum", "--on-conflict", rule), (
                json.dumps(document).encode()
            )
        case _:
            return step, b""


def carry_out(memctl: Memctl, step: Step, number: int) -> None:
    """Carry out a step, which may be refused."""
    if not step[0].startswith("client"):
        words, given = words_of(step, number)
        assert memctl(*words, given=given).exit_code in (0, 1, 3, 13), words
        return
    with closing(connect(memctl.database)) as db:
        agent, key = step[1]
        if step[0] == "client deletes":
            db.execute("DELETE FROM agent_memory WHERE agent_id = ? AND key = ?", (agent, key))
        else:
            db.execute(
                "INSERT OR REPLACE INTO agent_memory (id, agent_id, type, key, value)"
                " VALUES (?, ?, 'learning', ?, ?)",
                (step[2], agent, key, f"written {number}"),
            )


@examples(1)
@given(seed=st.integers(0, 2**32))
def test_random_commands_neither_change_nor_remove_what_is_held(
    template: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = Random(seed)
    memctl = Memctl(copy_of(template, tmp_path_factory.mktemp("held"), "harness.db"))
    write_random_memories(memctl.database, chance)
    holds: dict[Step, Hold] = {}
    first: list[Step] = [("hold", random_target(chance), None) for _ in range(2)]

    for number, step in enumerate([*first, *(random_step(chance) for _ in range(9))]):
        memctl = memctl.at(NOW + number * 2 * DAY)
        before = [
            row
            for row in all_rows(memctl.database)
            if any(
                hold.covers(row, memctl.now)
                for hold in holds.values()
                # The triggers read the clock of the client, which is not that of the test.
                if hold.until is None or not step[0].startswith("client")
            )
        ]

        carry_out(memctl, step, number)

        after = all_rows(memctl.database)
        moved = step[0] in ("restore", "client deletes", "client replaces")
        for row in before:
            columns = COMPARED if moved or step[0] == "recall" else row
            exact = {name: row[name] for name in columns if name != "promoted_at"}
            assert exact in [{name: one.get(name) for name in exact} for one in after], step
        if step[0] == "hold":
            update_oracle(holds, step, memctl)
        elif step[0] == "release":
            holds.pop(step[1], None)
        listed = memctl.ok("holds").json
        in_force = [
            hold for hold in holds.values() if hold.until is None or memctl.now < hold.until
        ]
        assert len(listed) == len(in_force)


def update_oracle(holds: dict[Step, Hold], step: Step, memctl: Memctl) -> None:
    """Note a hold if it was placed: there was such a memory."""
    agent, memory_id, key = step[1]
    known = [row for row in all_rows(memctl.database) if row["agent_id"] == agent]
    if memory_id is not None:
        known = [row for row in known if row["id"] == memory_id]
    if key is not None:
        known = [row for row in known if row["key"] == key]
    if known:
        until = None if step[2] is None else memctl.now + step[2] * DAY
        holds[step[1]] = Hold(agent, memory_id, key, until)


# Killed restores of a backup


def test_a_killed_restore_of_a_backup_loses_neither_holds_nor_what_is_held(
    held: Memctl, tmp_path: Path
) -> None:
    backup = tmp_path / "copy.db"
    with closing(connect(held.database)) as db:
        kept = rows(db, "memory_holds", "agent_id, memory_id, type, key")
        db.execute("CREATE TABLE kept_holds AS SELECT * FROM memory_holds")
        db.execute("DELETE FROM memory_holds")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        held.ok("check", "-q", "--fix")
        held.ok("backup", "-o", str(backup))
        db.execute("INSERT INTO memory_holds SELECT * FROM kept_holds")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    words = ("backup", "--restore", str(backup))
    before = held_rows(held.database)
    recorded = one_of_each_kind(copy_at(tmp_path / "recorded", held), words)

    for memctl in killed_before(recorded, held, words, tmp_path):
        with closing(connect(memctl.database)) as db:
            assert sorted(rows(db, "memory_holds", "agent_id, memory_id, type, key"), key=repr) == (
                sorted(kept, key=repr)
            )
        assert held_rows(memctl.database) == before
