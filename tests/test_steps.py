"""The steps of the schema can be looked at before, are what is printed, and can be undone."""

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memctl.output.shell import shell_line
from memctl.storage.sqlite.database import open_database, open_or_create_database
from memctl.storage.sqlite.locking import exclusive
from memctl.storage.sqlite.migrate import migrate, preview_migration
from memctl.storage.sqlite.rollback import preview_rollback, roll_back
from memctl.storage.sqlite.steps import statements_in
from tests.support.database import ALL_STEPS, STEPS, connect, insert_memory, names_beside
from tests.support.locks import write_lock
from tests.support.odd_values import ODDITIES
from tests.support.program import NOW, PROGRAM, Answer, Memctl, complaint
from tests.support.service import COLUMNS, SCHEMA

STAMP = f"{NOW:%Y%m%dT%H%M%SZ}"
LONG_AGO = "2020-01-01T00:00:00.000Z"

# What other programs may have put beside and around the memories.
OF_OTHER_PROGRAMS = """
    CREATE INDEX "by value; odd" ON agent_memory (value COLLATE NOCASE DESC, length(key));
    CREATE INDEX some_of_them ON agent_memory (importance) WHERE importance > 5;
    CREATE TABLE log (n INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, x AS (upper(what)));
    CREATE TRIGGER seen AFTER UPDATE OF value ON agent_memory BEGIN
        INSERT INTO log (what) VALUES ('a;b' || old.key); -- with a comment;
        DELETE FROM log WHERE what = '';
    END;
    CREATE VIEW important AS SELECT key, value AS "the value" FROM agent_memory;
    CREATE TABLE "table of 'quotes'" (a BLOB PRIMARY KEY, b ANY) WITHOUT ROWID;
    CREATE VIRTUAL TABLE words USING fts5(value, content='agent_memory', content_rowid='rowid');
    CREATE TRIGGER indexed AFTER INSERT ON agent_memory BEGIN
        INSERT INTO words (rowid, value) VALUES (new.rowid, new.value);
    END;
    INSERT INTO log (what) VALUES ('one'), ('two'), ('three');
    DELETE FROM log WHERE n > 1;
    INSERT INTO "table of 'quotes'" VALUES (x'00ff', 1.5), (x'', NULL);
    PRAGMA user_version = 7;
    PRAGMA application_id = 77;
"""

Dump = dict[str, list[tuple[Any, ...]]]


def odd_database(path: Path) -> None:
    """Create a service's database with unusual memories, and objects of other programs."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA)
        db.executescript(OF_OTHER_PROGRAMS)
        oddities: list[Any] = list(ODDITIES.values())
        for number, columns in enumerate(oddities):
            known = {name: value for name, value in columns.items() if name in COLUMNS}
            insert_memory(db, **{"id": f"m-{number}", "expires_at": LONG_AGO, **known})
        db.execute("DELETE FROM agent_memory WHERE rowid IN (1, 5)")
        db.execute("UPDATE agent_memory SET rowid = -3 WHERE rowid = 4")
        db.execute("UPDATE agent_memory SET rowid = 2000 WHERE rowid = 2")


def dump(path: Path) -> Dump:
    """Return the schema, the settings and every row of a database, with rowids and types."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        schema = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")
        found = {"schema": schema.fetchall()}
        for pragma in ("user_version", "application_id", "encoding", "journal_mode", "page_size"):
            found[pragma] = db.execute(f"PRAGMA {pragma}").fetchall()
        for table, without_rowid in db.execute(
            "SELECT name, wr FROM pragma_table_list WHERE type IN ('table', 'shadow')"
            " AND schema = 'main' AND name <> 'sqlite_schema'"
        ).fetchall():
            name = table.decode().replace('"', '""')
            columns = db.execute(f'PRAGMA table_xinfo("{name}")').fetchall()
            quoted = ['"' + column[1].decode().replace('"', '""') + '"' for column in columns]
            exact = ", ".join(f"typeof({column}), CAST({column} AS BLOB)" for column in quoted)
            rowid = "0" if without_rowid else "rowid"
            found[f"rows of {name}"] = sorted(
                db.execute(f'SELECT {rowid}, {exact} FROM "{name}"').fetchall(), key=repr
            )
    # The identity of the database is a new random number at each migration.
    for number, row in enumerate(found.get("rows of memory_state", [])):
        anonymous = re.sub(rb'"id": "[0-9a-f]{32}"', b'"id": "..."', row[-1])
        found["rows of memory_state"][number] = (*row[:-1], anonymous)
    return found


def normal(statements: list[str]) -> list[str]:
    """Return statements without comments, spaces and the number of an identity."""
    without_comments = (re.sub(r"--[^\n]*", "", statement) for statement in statements)
    words = (" ".join(text.split()) for text in without_comments)
    return [re.sub('"id": "[0-9a-f]{32}"', '"id": "..."', text) for text in words]


READING = re.compile(
    r"SELECT|EXPLAIN|PRAGMA (?!journal_mode = WAL)|PRAGMA journal_mode$", re.IGNORECASE
)


def writing(traced: list[str]) -> list[str]:
    """Return the statements of a trace that can change a database."""
    found = [statement for statement in normal(traced) if statement]
    found = [statement for statement in found if not READING.match(statement)]
    for number in reversed(range(len(found) - 1)):
        if found[number : number + 2] == ["BEGIN", "COMMIT"]:  # it only read
            del found[number : number + 2]
    return found


@pytest.fixture
def odd(path: Path, memctl: Memctl) -> Memctl:
    """The program, pointed at a service's database with the objects of other programs."""
    odd_database(path)
    return memctl


# What is printed is what is executed


@pytest.mark.parametrize("to", [None, 1], ids=["all steps", "one step"])
@pytest.mark.parametrize("kind", ["no database", "an odd database", "half migrated"])
def test_migrate_executes_the_statements_that_it_prints(
    path: Path, memctl: Memctl, kind: str, to: int | None
) -> None:
    if kind != "no database":
        odd_database(path)
    if kind == "half migrated":
        memctl.ok("migrate", "--to", "1", "--no-backup")
    traced: list[str] = []

    with open_or_create_database(path) as db:
        printed = preview_migration(db, path, now=NOW, to=to).sql
        db.set_trace_callback(traced.append)
        migrate(db, path, now=NOW, to=to)
        db.set_trace_callback(None)

    assert writing(traced) == normal(statements_in(printed))
    assert bool(statements_in(printed)) is (kind != "half migrated" or to is None)


@pytest.mark.parametrize("tombstones", [0, 1])
@pytest.mark.parametrize("to", [2, 1, 0])
def test_rollback_executes_the_statements_that_it_prints(
    odd: Memctl, to: int, tombstones: int
) -> None:
    odd.ok("migrate")
    odd.ok("enable", "access-counting")
    odd.ok("enable", "archive-on-delete")
    odd.ok("enable", "archive-on-replace")
    with closing(connect(odd.database)) as db:
        for _ in range(tombstones):
            db.execute(
                "INSERT INTO memory_tombstones (kind, erased_at, salt, name_hash)"
                " VALUES ('erased', '2026-11-22T09:43:58Z', x'01', x'02')"
            )
    odd.ok("cleanup")
    traced: list[str] = []

    with open_database(odd.database) as db:
        printed = preview_rollback(db, odd.database, now=NOW, to=to).sql
        db.set_trace_callback(traced.append)
        roll_back(db, odd.database, now=NOW, to=to, confirmed=True)
        db.set_trace_callback(None)

    assert writing(traced) == normal(statements_in(printed))
    assert len(statements_in(printed)) > 10


def run_by_module(script: str, path: Path) -> None:
    """Run SQL as Python does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(script)


def run_by_shell(script: str, path: Path) -> None:
    """Run SQL as the SQLite shell does."""
    if shutil.which("sqlite3") is None:
        pytest.skip("the SQLite shell is not installed")
    subprocess.run(["sqlite3", "-bail", path], input=script, text=True, check=True)


@pytest.mark.parametrize("run", [run_by_module, run_by_shell])
@pytest.mark.parametrize(
    ("first", "words"),
    [
        pytest.param([], "migrate", id="migrate"),
        pytest.param([], "migrate --to 1", id="migrate one step"),
        pytest.param(["migrate --to 1"], "migrate", id="migrate the other steps"),
        pytest.param(["migrate"], "rollback", id="rollback"),
        pytest.param(["migrate"], "rollback --to 1", id="rollback to the first step"),
        pytest.param(["migrate", "cleanup"], "rollback --to 0", id="rollback with an archive"),
        pytest.param(["migrate", "rollback --to 0"], "migrate", id="migrate again"),
        pytest.param(
            ["migrate", "enable archive-on-delete", "enable archive-on-replace"],
            "rollback",
            id="rollback with features",
        ),
        pytest.param(
            ["migrate", "enable archive-on-delete", "rollback"], "migrate", id="with a feature"
        ),
        pytest.param(["migrate"], "migrate", id="nothing to do"),
    ],
)
def test_the_printed_sql_has_the_effect_of_the_command(
    odd: Memctl,
    tmp_path: Path,
    first: list[str],
    words: str,
    run: Callable[[str, Path], None],
) -> None:
    for line in first:
        odd.ok(*line.split())
    with closing(connect(odd.database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "copy.db"
    shutil.copyfile(odd.database, copy)
    before = dump(odd.database)

    printed = odd.ok(*words.split(), "--sql")
    untouched = dump(odd.database)
    run(printed.out, copy)
    odd.ok(*words.split(), *(["--yes"] if words.startswith("rollback") else []))

    assert printed.err == ""
    assert untouched == before
    assert dump(copy) == dump(odd.database)


@pytest.mark.parametrize("run", [run_by_module, run_by_shell])
def test_the_printed_sql_creates_a_database(
    path: Path, memctl: Memctl, tmp_path: Path, run: Callable[[str, Path], None]
) -> None:
    printed = memctl.ok("migrate", "--sql").out
    untouched = path.exists()
    run(printed, tmp_path / "copy.db")
    memctl.ok("migrate")

    created, copied = dump(path), dump(tmp_path / "copy.db")
    states = [found.pop("rows of memory_state") for found in (created, copied)]
    assert not untouched
    assert copied == created
    assert [len(state) for state in states] == [1, 1]  # the file has another inode
    shutil.copyfile(tmp_path / "copy.db", path)
    assert memctl("migrate").err == f"migrate: {path} is up to date\n"
    memctl.ok("backup", "--keep", "1")


@pytest.mark.parametrize("name", ["two\nlines; DROP TABLE x.db", "it's.db", b"half \xf0\x9f.db"])
def test_the_printed_sql_can_be_run_whatever_the_path(tmp_path: Path, name: str | bytes) -> None:
    path = tmp_path / (name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
    memctl = Memctl(path)
    odd_database(path)

    run_by_module(memctl.ok("migrate", "--sql").out, path)
    migrated = memctl("migrate", "--exit-code")
    run_by_module(memctl.ok("rollback", "--to", "0", "--sql").out, path)

    assert migrated == Answer(0, "", "")
    assert memctl("migrate", "--exit-code").exit_code == 12


# There and back again


@pytest.mark.parametrize("to", ["0", "1"])
def test_migrate_rollback_and_migrate_give_the_same_database(odd: Memctl, to: str) -> None:
    if to == "1":
        odd.ok("migrate", "--to", "1", "--no-backup")
    before = dump(odd.database)

    odd.ok("migrate")
    migrated = dump(odd.database)
    odd.ok("rollback", "--to", to)
    rolled_back = dump(odd.database)
    odd.ok("migrate")

    assert rolled_back == before
    assert dump(odd.database) == migrated
    assert migrated != before


# The dry run


def test_the_dry_run_of_migrate_shows_what_would_be_done(path: Path, memctl: Memctl) -> None:
    odd_database(path)

    answer = memctl("migrate", "--dry-run")

    assert answer == Answer(
        0,
        "",
        f"migrate: would first save the database as {path}.before-migrate-{STAMP}\n"
        f"migrate: would apply {ALL_STEPS} to {path}\n"
        "migrate: agent_memory already exists and would be kept unchanged\n"
        "migrate: would add to the schema: columns agent_memory.archived_at,"
        " agent_memory.importance_decay_rate, agent_memory.last_decay_at,"
        " agent_memory.promoted_at; indexes archived_memories_by_agent, archived_memories_by_id,"
        " archived_memories_by_time, memctl_expires_at, memory_events_by_agent,"
        " memory_holds_by_agent, memory_tombstones_by_name; tables"
        " archived_memories, memctl_migrations, memory_access_counts, memory_analytics,"
        " memory_events, memory_holds, memory_promotions, memory_replacements, memory_runs,"
        " memory_state, memory_tombstones\n"
        "migrate: the first `memctl decay` will charge all idle time up to now; preview it with"
        " --dry-run, or set `since` under [decay] in the configuration\n"
        "migrate: triggers of other programs also fire on changes by memctl: indexed, seen\n",
    )


def test_the_dry_run_of_rollback_shows_what_would_be_done(odd: Memctl) -> None:
    path = odd.database
    odd.ok("migrate")
    odd.ok("enable", "access-boost")
    with closing(connect(path)) as db:
        db.execute("CREATE INDEX of_others ON archived_memories (type)")
    odd.ok("cleanup")
    archived = odd.ok("status", "--json").json["archived"]

    answer = odd("rollback", "--to", "1", "-n")

    sentences = answer.err.splitlines()
    assert (answer.exit_code, answer.out) == (0, "")
    assert sentences[:4] == [
        f"rollback: would first save the database, with {archived} archived memories, as"
        f" {path}.before-rollback-{STAMP}",
        "rollback: would roll back 003_holds_and_erasures, 002_memory_persistence",
        "rollback: would remove from the schema: columns agent_memory.archived_at,"
        " agent_memory.importance_decay_rate, agent_memory.last_decay_at,"
        " agent_memory.promoted_at; indexes archived_memories_by_agent, archived_memories_by_id,"
        " archived_memories_by_time, memctl_expires_at, memory_events_by_agent,"
        " memory_holds_by_agent, memory_idle_times_by_memory, memory_tombstones_by_name,"
        " of_others; tables"
        " archived_memories, memory_access_counts, memory_analytics, memory_events,"
        " memory_holds, memory_idle_times, memory_promotions, memory_replacements, memory_runs,"
        " memory_state, memory_tombstones; trigger"
        " memctl_access_boost",
        f"rollback: would require --yes: {archived} archived memories would remain only in the"
        " backup made first",
    ]
    assert sentences[4].startswith("rollback: this command would then bring the archive back: ")
    assert len(sentences) == 5


PREVIEWS = [
    pytest.param([], "migrate", id="migrate"),
    pytest.param(["migrate"], "migrate", id="migrate, with nothing to do"),
    pytest.param(["migrate"], "rollback", id="rollback"),
    pytest.param(["migrate"], "rollback --to 3", id="rollback, with nothing to do"),
    pytest.param(["migrate", "cleanup"], "rollback --to 0 --yes", id="rollback with an archive"),
]


@pytest.mark.parametrize(("first", "words"), PREVIEWS)
def test_the_dry_run_prints_the_json_of_the_result(
    odd: Memctl, first: list[str], words: str
) -> None:
    for line in first:
        odd.ok(*line.split(), "-q")

    preview = odd.ok(*words.split(), "--json", "-n").json
    result = odd.ok(*words.split(), "--json").json

    assert (preview.pop("dry_run"), result.pop("dry_run")) == (True, False)
    assert {name: preview[name] for name in result} == result
    assert set(preview) - set(result) <= {"adds", "removes", "to_confirm", "sql"}


@pytest.mark.parametrize("option", ["--dry-run", "--sql"])
@pytest.mark.parametrize(("first", "words"), PREVIEWS)
def test_a_preview_waits_for_no_lock_and_changes_nothing(
    odd: Memctl, first: list[str], words: str, option: str
) -> None:
    for line in first:
        odd.ok(*line.split(), "-q")
    before = odd.database.read_bytes(), dump(odd.database)
    names = names_beside(odd.database)

    with exclusive(odd.database, job="cleanup", wait=0), write_lock(odd.database):
        answer = odd(*words.split(), option, "--lock-wait", "0")

    assert answer.exit_code == 0
    assert (odd.database.read_bytes(), dump(odd.database)) == before
    created = set(names_beside(odd.database)) - set(names)
    assert created <= {"harness.db-shm", "harness.db-wal", "harness.db.memctl.lock"}


@pytest.mark.parametrize("option", ["--dry-run", "--sql", "--json --dry-run"])
def test_a_preview_of_a_new_database_creates_nothing(
    path: Path, memctl: Memctl, option: str
) -> None:
    answer = memctl("migrate", *option.split())

    assert answer.exit_code == 0
    assert list(path.parent.iterdir()) == []


def test_a_preview_in_the_default_place_creates_no_directory(tmp_path: Path) -> None:
    ran = subprocess.run(
        [PROGRAM, "migrate", "-n"],
        env={"XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stderr.startswith(f"migrate: would create {tmp_path}/memctl/memory.db\n")
    assert list(tmp_path.iterdir()) == []


def a_column_too_many(path: Path) -> None:
    """Add a column that memctl does not know."""
    with closing(connect(path)) as db:
        db.execute("ALTER TABLE agent_memory ADD COLUMN mood TEXT")


def a_name_too_many(path: Path) -> None:
    """Take a name that memctl needs."""
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE memory_runs (x)")


def a_broken_view(path: Path) -> None:
    """Create a view of a table that does not exist."""
    with closing(connect(path)) as db:
        db.execute("CREATE VIEW broken AS SELECT * FROM gone")


def an_index_on_a_column(path: Path) -> None:
    """Index a column that a rollback would drop."""
    with closing(connect(path)) as db:
        db.execute("CREATE INDEX of_others ON agent_memory (promoted_at)")


def a_later_step(path: Path) -> None:
    """Record a step of a later memctl."""
    with closing(connect(path)) as db:
        db.execute("INSERT INTO memctl_migrations VALUES (99, 'later', 'x', 'x', 0, '9')")


@pytest.mark.parametrize("option", ["-n", "--sql"])
@pytest.mark.parametrize(
    ("obstacle", "words", "exit_code"),
    [
        pytest.param(a_column_too_many, "migrate", 12, id="an unknown column"),
        pytest.param(a_name_too_many, "migrate", 12, id="a name that is taken"),
        pytest.param(a_broken_view, "rollback --to 1", 12, id="a broken view"),
        pytest.param(an_index_on_a_column, "rollback --to 1", 12, id="an index on a column"),
        pytest.param(a_later_step, "rollback", 12, id="a later step"),
        pytest.param(lambda path: None, "rollback --to 7", 2, id="no such step"),
        pytest.param(lambda path: None, "migrate --to 7", 2, id="no such step to migrate"),
    ],
)
def test_a_preview_fails_as_the_command_does(
    odd: Memctl, obstacle: Callable[[Path], None], words: str, exit_code: int, option: str
) -> None:
    if words.startswith("rollback"):
        odd.ok("migrate")
    obstacle(odd.database)

    preview, result = odd(*words.split(), option), odd(*words.split())

    assert preview == result
    assert result.exit_code == exit_code


@pytest.mark.parametrize("option", ["-n", "--sql"])
def test_a_preview_refuses_to_lose_memories(path: Path, memctl: Memctl, option: str) -> None:
    memctl.ok("migrate")
    with closing(connect(path)) as db:
        insert_memory(db)

    preview, result = (memctl("rollback", "--to", "0", *more) for more in ([option], []))

    assert preview == result
    assert result.exit_code == 3


def test_a_schema_that_needs_another_sqlite_does_not_prevent_a_preview(odd: Memctl) -> None:
    with closing(connect(odd.database)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "INSERT INTO sqlite_schema VALUES ('table', 'far', 'far', 0,"
            " 'CREATE VIRTUAL TABLE far USING unknown_module(x)')"
        )
    first = odd.ok("migrate", "-n", "--json").json["adds"]
    odd.ok("migrate")
    with closing(connect(odd.database)) as db:
        db.execute("CREATE VIEW of_far AS SELECT * FROM far")

    answer = odd.ok("rollback", "--to", "1", "-n", "--json").json

    assert len(first) == 22
    assert (answer["rolled_back"], answer["removes"]) == (STEPS[:0:-1], None)


@pytest.mark.parametrize("words", ["--list -n", "--list --sql", "--exit-code -n"])
def test_a_list_of_steps_cannot_be_combined_with_a_preview(migrated: Memctl, words: str) -> None:
    answer = migrated("migrate", *words.split())

    assert answer.exit_code == 2
    assert complaint(answer) == (
        "memctl: --list and --exit-code apply no step; omit --to, --backup, --no-backup, --dry-run"
        " and --sql"
    )


# The archive after a rollback


def archive(path: Path) -> list[tuple[Any, ...]]:
    """Return every archived memory: types and bytes of all columns."""
    return dump(path)["rows of archived_memories"]


def archive_odd_memories(memctl: Memctl) -> None:
    """Make a database of which many odd memories were archived."""
    odd_database(memctl.database)
    memctl.ok("migrate", "--no-backup")
    with closing(connect(memctl.database)) as db:
        insert_memory(db, id="stays", key="stays")
        insert_memory(db, id=None, key="no id", expires_at=LONG_AGO)
    memctl.ok("cleanup")


@pytest.mark.parametrize(
    ("name", "form", "to"),
    [
        pytest.param("harness.db", "text", "0", id="a plain path"),
        pytest.param("harness.db", "json", "1", id="as JSON, to step 1"),
        pytest.param("it's $HOME; a `b`.db", "text", "1", id="quotes"),
        pytest.param("two\nlines'\\.db", "json", "0", id="two lines"),
        pytest.param("half \udcf0\udc9f'\n\\.db", "text", "0", id="not UTF-8"),
    ],
)
def test_the_printed_command_brings_the_archive_back_and_loses_nothing(
    tmp_path: Path, name: str, form: str, to: str
) -> None:
    path = tmp_path / name
    archived = Memctl(path)
    archive_odd_memories(archived)
    before = archive(path)
    if form == "text":
        answer = archived.ok("rollback", "--to", to, "--yes")
        command = answer.err.splitlines()[-1].removeprefix(
            "rollback: to bring the archive back, run: "
        )
    else:
        command = archived.ok("rollback", "--to", to, "--yes", "--json").json["archive_command"]
    copy = next(file for file in path.parent.iterdir() if re.search("rollback-[^.]*$", file.name))
    content = copy.read_bytes()
    with closing(connect(path)) as db:
        insert_memory(db, id="written since", key="written since")
        db.execute("UPDATE agent_memory SET value = 'changed since' WHERE id = 'stays'")

    ran = [
        subprocess.run(
            ["bash", "-c", command],
            env=archived.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        for _ in range(2)
    ]

    with closing(connect(path)) as db:
        active = dict(db.execute("SELECT id, value FROM agent_memory"))
    assert [process.returncode for process in ran] == [0, 0], ran
    assert archive(path) == before
    assert len(before) > 8
    assert active["stays"] == "changed since"
    assert "written since" in active
    assert copy.read_bytes() == content


def test_without_archived_memories_there_is_no_command(odd: Memctl) -> None:
    odd.ok("migrate")

    answer = odd.ok("rollback")

    assert "run:" not in answer.err


@pytest.mark.parametrize("word", ["a b", "it's", "$x`y`", "a\nb\t\\", "half \udcf0\udc9f", "é", ""])
def test_a_shell_reads_a_quoted_word_unchanged(word: str) -> None:
    ran = subprocess.run(
        ["bash", "-c", f"printf %s {shell_line(word)}"], capture_output=True, check=True
    )

    assert ran.stdout.decode("utf-8", "surrogateescape") == word
