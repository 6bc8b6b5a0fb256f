"""SIGKILL at random moments: a command that dies loses nothing, doubles nothing, and can be rerun.

Every memory must at all times be exactly as it was before the command, or exactly as an unkilled
run leaves it, and its events must tell which.
"""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memctl.storage.sqlite.manifests import manifests_in
from tests.conftest import Memctl, connect, is_sound, text_of
from tests.service import Service

KILLS = 6  # of each command and each way to choose the moment
MEMORIES = 3000
SEED = 20261122

Words = tuple[str, ...]
Sign = Callable[[], bool]


# What a database holds, and what may have become of it


class State(NamedTuple):
    """Where a memory is, with the type and bytes of every column, and what events tell of it."""

    copies: tuple[tuple[str, tuple[Any, ...]], ...]
    events: tuple[str, ...]

    @property
    def places(self) -> list[str]:
        """The tables that have a copy."""
        return [table for table, _ in self.copies]


NOWHERE = State((), ())


@dataclass(frozen=True)
class Snapshot:
    """All memories of a database, their order in its tables, and what became knowledge."""

    sound: bool
    states: dict[str, State]
    order: dict[str, list[str]]
    decays_told: int
    knowledge: list[tuple[Any, ...]]


# The entries, but for their ids and times, which differ from run to run.
KNOWLEDGE = """
    SELECT type, content, tags, confidence, occurrences, source_agent_id FROM knowledge_entries
    ORDER BY rowid
"""

# The links of the active memories, to entries that are there.
PROMOTED = """
    SELECT memory.id, link.content_hash, link.promoted_at, entry.content
    FROM agent_memory AS memory
    JOIN memory_promotions AS link USING (agent_id, type, key)
    JOIN knowledge_entries AS entry ON entry.id = link.entry_id
"""


def snapshot(path: Path) -> Snapshot:
    """Look at a copy of the files, so that the next program to come finds them as they are."""
    with connected_to_copy(path) as db:
        copies = defaultdict(list)
        order = {}
        for table in ("agent_memory", "archived_memories"):
            memories = exact_rows(db, table)
            order[table] = [memory_id for memory_id, *_ in memories]
            for memory_id, *columns in memories:
                copies[memory_id].append((table, tuple(columns)))
        knowledge = []
        if column_names(db, "knowledge_entries"):
            knowledge = db.execute(KNOWLEDGE).fetchall()
            for memory_id, *link in db.execute(PROMOTED):
                copies[memory_id].append(("knowledge_entries", tuple(link)))
        events = defaultdict(list)
        decays_told = 0
        if column_names(db, "memory_events"):
            for memory_id, event, detail in db.execute(
                "SELECT memory_id, event, detail FROM memory_events ORDER BY event_id"
            ):
                if event == "memory:decayed":
                    decays_told += json.loads(detail)["decayed"]
                elif memory_id is not None:
                    events[memory_id].append(event)
        return Snapshot(
            sound=is_sound(db),
            states={
                memory_id: State(tuple(copies[memory_id]), tuple(events[memory_id]))
                for memory_id in {*copies, *events}
            },
            order=order,
            decays_told=decays_told,
            knowledge=knowledge,
        )


@contextmanager
def connected_to_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Copy a database with all that its write-ahead log holds, and connect to the copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for name in (path.name, f"{path.name}-wal"):
            if path.with_name(name).exists():
                shutil.copyfile(path.with_name(name), copy.with_name(name))
        with closing(connect(copy)) as db:
            yield db


def exact_rows(db: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """Return the memories of a table in its order: the id, then type and bytes of each column."""
    numbers_of_rows_and_runs = {"archive_id", "run_id"}
    names = [name for name in column_names(db, table) if name not in numbers_of_rows_and_runs]
    if not names:
        return []
    exact = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in names if name != "id")
    # An import appends its number to ids of what it replaces; a rerun has another number.
    without_number = "iif(instr(id, '~'), substr(id, 1, instr(id, '~')), id)"
    return db.execute(
        f"SELECT {without_number}, typeof(id), {exact} FROM {table} ORDER BY rowid"
    ).fetchall()


def column_names(db: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table; none when there is no such table."""
    return [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]


def broken_promises(before: Snapshot, after: Snapshot, found: Snapshot) -> list[str]:
    """Say of which memories it is not true that all or nothing of the change happened to them."""
    broken = [] if found.sound else ["the file is damaged"]
    decayed = 0
    for memory_id in sorted({*before.states, *found.states}):
        old = before.states.get(memory_id, NOWHERE)
        new = after.states.get(memory_id, NOWHERE)
        state = found.states.get(memory_id, NOWHERE)
        if state not in (old, new):
            broken.append(f"{memory_id} is in {state.places}, told of by {list(state.events)}")
        decayed += state != old and (state.places, state.events) == (old.places, old.events)
    if decayed != found.decays_told - before.decays_told:
        broken.append(f"{decayed} memories decayed, {found.decays_told} were told of")
    return broken


def count_changed(before: Snapshot, found: Snapshot) -> int:
    """Return how many memories are not as they were."""
    return sum(
        found.states.get(key, NOWHERE) != before.states.get(key, NOWHERE)
        for key in before.states.keys() | found.states.keys()
    )


# What there is to do


@dataclass(frozen=True)
class Job:
    """A job, and how to build a database that gives it thousands of memories to change."""

    name: str
    prepare: Callable[[Memctl], Words]


def fill_legacy_table(path: Path, *, now: datetime, memories: int = MEMORIES) -> None:
    """Make the service's database, most of it expired and idle, with all kinds of bytes in it."""
    chance = random.Random(SEED)
    with closing(Service(path)) as service:
        service.db.execute("BEGIN")
        for number in range(memories):
            read = now - timedelta(days=chance.uniform(0, 90))
            expiry = now - timedelta(days=chance.uniform(300, 600))
            service.db.execute(
                """
                INSERT INTO agent_memory VALUES
                    (?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?, ?, ?)
                """,
                (
                    str(uuid.UUID(int=chance.getrandbits(128), version=4)),
                    chance.choice(
                        ["build_agent"] * 6 + ["qa_agent", "..", "[bold]a[/]", "two\nlines"]
                    ),
                    chance.choice(["context", "learning", "preference", "error_pattern"]),
                    chance.choice([b"task:%d", b"%d\0nul", b"-%d", b"half \xf0\x9f %d"]) % number,
                    chance.choice([b"plain text ", b'{"fix": 1} ', b"\xf0\x9f ", b"\x1b[31m\0 "])
                    * chance.randrange(1, 60),
                    chance.choice([None, None, "{}", '{"decay_rate": 0.5}', "[1]"]),
                    chance.choice([1, 3, 5, 7, 7.5, 9, 100, -3, "high"]),
                    chance.randrange(20),
                    text_of(read),
                    text_of(read - timedelta(days=30)),
                    chance.choice(
                        [
                            expiry.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                            expiry.strftime("%Y-%m-%dT%H:%M:%S+02:00"),
                            text_of(expiry),
                            text_of(expiry),
                            text_of(now + timedelta(days=1)),
                            chance.choice([None, "soon", "+011533-07-07T00:00:00.000Z"]),
                        ]
                    ),
                ),
            )
        service.db.execute("COMMIT")


def prepare_cleanup(memctl: Memctl) -> Words:
    """Give cleanup expired memories."""
    fill_legacy_table(memctl.database, now=memctl.now)
    memctl.ok("migrate", "--no-backup")
    return ("cleanup",)


def prepare_decay(memctl: Memctl) -> Words:
    """Give decay idle memories."""
    prepare_cleanup(memctl)
    return ("decay",)


def prepare_prune(memctl: Memctl) -> Words:
    """Give prune an old archive."""
    fill_legacy_table(memctl.database, now=memctl.now, memories=2 * MEMORIES)
    memctl.ok("migrate", "--no-backup")
    memctl.at(memctl.now - timedelta(days=200)).ok("cleanup")
    return ("prune", "--force")


def prepare_restore(memctl: Memctl) -> Words:
    """Give restore the work of a whole cleanup."""
    memctl.ok(*prepare_cleanup(memctl))
    return ("restore", "--run", "1")


def prepare_archive(memctl: Memctl) -> Words:
    """Give archive many memories of one agent."""
    prepare_cleanup(memctl)
    with closing(connect(memctl.database)) as db:
        chosen = db.execute("SELECT id FROM agent_memory WHERE agent_id = 'build_agent' LIMIT 800")
        return ("archive", "build_agent", *(memory_id for (memory_id,) in chosen))


def prepare_promote(memctl: Memctl) -> Words:
    """Give promote memories that have proved themselves, many of which say the same."""
    fill_legacy_table(memctl.database, now=memctl.now)
    memctl.ok("migrate", "--no-backup")
    with closing(connect(memctl.database)) as db:
        db.execute("UPDATE agent_memory SET importance = 9, access_count = 9")
    return ("promote",)


def prepare_import(memctl: Memctl) -> Words:
    """Give import a document of which half is missing and a quarter is different here."""
    memctl.ok(*prepare_cleanup(memctl))
    document = memctl.database.with_name("backup.json")
    memctl.ok("export", "--all", "-o", str(document))
    with closing(connect(memctl.database)) as db:
        db.execute("BEGIN")
        for table in ("agent_memory", "archived_memories"):
            db.execute(f"DELETE FROM {table} WHERE rowid % 2")
            db.execute(f"UPDATE {table} SET value = value || 'anew' WHERE rowid % 4 = 0")
        db.execute("COMMIT")
    return ("import", "--all", str(document), "--on-conflict", "replace", "--allow-invalid")


JOBS = [
    Job("cleanup", prepare_cleanup),
    Job("decay", prepare_decay),
    Job("prune", prepare_prune),
    Job("promote", prepare_promote),
    Job("restore", prepare_restore),
    Job("archive", prepare_archive),
    Job("import", prepare_import),
]

every_job = pytest.mark.parametrize("job", [pytest.param(job, id=job.name) for job in JOBS])


# Killing


def eventually(sign: Sign, *, within: float = 60) -> None:
    """Wait for something that another process or thread will do."""
    deadline = time.monotonic() + within
    while not sign():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.0001)


@dataclass(frozen=True)
class Timing:
    """How long an unkilled run took, and how much of that came after the first sign of work."""

    whole: float
    at_work: float


def time_unkilled(memctl: Memctl, words: Words, sign: Callable[[Path], Sign]) -> Timing:
    """Run a command to its good end."""
    working = sign(memctl.database)
    started = time.monotonic()
    process = memctl.start(*words)
    eventually(working)
    first_sign = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    ended = time.monotonic()
    return Timing(ended - started, ended - first_sign)


def kill(memctl: Memctl, words: Words, *, after: Sign, delay: float) -> bool:
    """Start a command, and kill it so long after a sign; tells whether it was still running."""
    process = memctl.start(*words)
    eventually(after)
    try:
        process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode == -signal.SIGKILL


def first_commit(path: Path) -> Sign:
    """Return what tells whether a job has committed a batch since now."""
    return more_of(path, "SELECT max(event_id) FROM memory_events")


def slow_down(path: Path) -> None:
    """Give each event of a job a cost, so that a test finds the job at work, however fast it is."""
    with closing(connect(path)) as db:
        db.execute(
            """
            CREATE TRIGGER slow AFTER INSERT ON memory_events BEGIN
                SELECT length(hex(randomblob(
                    CASE new.event WHEN 'memory:decayed' THEN 600000 ELSE 50000 END)));
            END
            """
        )


def speed_up(path: Path) -> None:
    """Take that cost away again."""
    with closing(connect(path)) as db:
        db.execute("DROP TRIGGER slow")


def run_begun(path: Path) -> Sign:
    """Return what tells whether a job has begun since now, by its own account."""
    return more_of(path, "SELECT max(run_id) FROM memory_runs")


def more_of(path: Path, query: str) -> Sign:
    """Return what tells whether a query has another answer than now."""

    def answer() -> Any:
        with closing(connect(path)) as db:
            return db.execute(query).fetchone()

    before = answer()
    return lambda: bool(answer() != before)


def backup_begun(path: Path) -> Sign:
    """Return what tells whether a command has begun to copy the database."""
    return lambda: any(".before-" in name.name for name in path.parent.iterdir())


def at_once(path: Path) -> Sign:
    """Return what waits for nothing."""
    return lambda: True


def killed(
    template: Memctl, words: Words, *, folder: Path, sign: Callable[[Path], Sign], span: float
) -> Iterator[Memctl]:
    """Kill a command once in each equal part of the time span that follows the sign.

    Yields the program pointed at what the dead process left. A run that ends before its turn to
    be killed does not count and is repeated with less time.
    """
    chance = random.Random(f"{SEED} {words[0]} {sign.__name__}")
    for part in range(KILLS):
        delay = span * (part + chance.random()) / KILLS
        for attempt in range(20):
            place = folder / f"{part}-{attempt}"
            place.mkdir()
            memctl = Memctl(place / "harness.db", template.now)
            shutil.copyfile(template.database, memctl.database)
            if kill(memctl, words, after=sign(memctl.database), delay=delay):
                yield memctl
                shutil.rmtree(place)
                break
            shutil.rmtree(place)
            delay *= 0.9
        else:
            pytest.fail(f"{words[0]} always ended before it could be killed")


def ledger_since(path: Path, template: Path) -> list[tuple[str, bool]]:
    """Return of each run that the template lacks the status and whether it was finished."""
    runs = "SELECT run_id, status, finished_at IS NOT NULL FROM memory_runs ORDER BY run_id"
    with closing(connect(template)) as db:
        known = len(db.execute(runs).fetchall())
    with connected_to_copy(path) as db:
        return [(status, bool(finished)) for _, status, finished in db.execute(runs)][known:]


# The jobs


@dataclass(frozen=True)
class Crash:
    """What a killed job left, and what its rerun made of it."""

    changed: float  # the part of the whole work that was done
    broken: list[str]
    ledger: list[tuple[str, bool]]
    rerun: int
    rerun_ended_like_unkilled: bool

    @property
    def recorded(self) -> bool:
        """Tell whether the ledger shows what was done, as a crash unless all of it was."""
        return self.ledger == [("running", False)] or (self.changed, self.ledger) in (
            (0, []),
            (1, [("ok", True)]),
        )


def program_at(folder: Path) -> Memctl:
    """Return the program, pointed at a database in a folder of its own."""
    folder.mkdir()
    return Memctl(folder / "harness.db")


def crash_repeatedly(job: Job, folder: Path, *, at_work: bool) -> list[Crash]:
    """Kill a job over and over, each time on a fresh copy of its database."""
    template, unkilled = program_at(folder / "template"), program_at(folder / "unkilled")
    words = job.prepare(template)
    before = snapshot(template.database)
    shutil.copyfile(template.database, unkilled.database)
    if at_work:
        slow_down(template.database)
        slow_down(unkilled.database)
    timing = time_unkilled(unkilled, words, first_commit)
    after = snapshot(unkilled.database)
    crashes = []
    for memctl in killed(
        template,
        words,
        folder=folder,
        sign=first_commit if at_work else at_once,
        span=timing.at_work if at_work else timing.whole,
    ):
        left = snapshot(memctl.database)
        ledger = ledger_since(memctl.database, template.database)
        if at_work:
            speed_up(memctl.database)
        rerun = memctl(*words)
        crashes.append(
            Crash(
                changed=count_changed(before, left) / count_changed(before, after),
                broken=broken_promises(before, after, left),
                ledger=ledger,
                rerun=rerun.exit_code,
                rerun_ended_like_unkilled=snapshot(memctl.database) == after,
            )
        )
    return crashes


@every_job
def test_a_job_killed_at_any_moment_loses_and_doubles_nothing(job: Job, tmp_path: Path) -> None:
    crashes = crash_repeatedly(job, tmp_path, at_work=False)

    assert [crash.broken for crash in crashes] == [[]] * KILLS
    assert [crash for crash in crashes if not crash.recorded] == []
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash for crash in crashes if not crash.rerun_ended_like_unkilled] == []


@every_job
def test_a_job_killed_between_batches_loses_and_doubles_nothing(job: Job, tmp_path: Path) -> None:
    crashes = crash_repeatedly(job, tmp_path, at_work=True)

    assert any(0 < crash.changed < 1 for crash in crashes)
    assert [crash.broken for crash in crashes] == [[]] * KILLS
    assert [crash for crash in crashes if not crash.recorded] == []
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash for crash in crashes if not crash.rerun_ended_like_unkilled] == []


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(at_once, id="at any moment"),
        pytest.param(run_begun, id="once it is at work"),
    ],
)
def test_a_killed_atomic_import_happened_whole_or_not_at_all(
    sign: Callable[[Path], Sign], tmp_path: Path
) -> None:
    template, unkilled = program_at(tmp_path / "template"), program_at(tmp_path / "unkilled")
    words = (*prepare_import(template), "--atomic")
    before = snapshot(template.database)
    shutil.copyfile(template.database, unkilled.database)
    timing = time_unkilled(unkilled, words, run_begun)
    after = snapshot(unkilled.database)
    span = timing.whole if sign is at_once else timing.at_work
    lefts, reruns = [], []

    for memctl in killed(template, words, folder=tmp_path, sign=sign, span=span):
        lefts.append(snapshot(memctl.database))
        reruns.append(memctl(*words).exit_code)

    assert count_changed(before, after) > MEMORIES / 8
    assert [left in (before, after) for left in lefts] == [True] * KILLS
    assert reruns == [0] * KILLS


# The schema


@dataclass(frozen=True)
class Shape:
    """The schema of a database, the steps it records, and its active memories."""

    schema: list[tuple[Any, ...]]
    steps: list[tuple[Any, ...]]
    memories: list[tuple[Any, ...]]
    sound: bool


def shape(path: Path) -> Shape:
    """Look at a copy of the files."""
    with connected_to_copy(path) as db:
        schema = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2")
        recorded = column_names(db, "memctl_migrations")
        return Shape(
            schema=schema.fetchall(),
            steps=db.execute("SELECT * FROM memctl_migrations").fetchall() if recorded else [],
            memories=exact_rows(db, "agent_memory"),
            sound=is_sound(db),
        )


@dataclass(frozen=True)
class SchemaCrash:
    """What a killed change of the schema left, and what its rerun made of it."""

    left: Shape
    backups: list[Snapshot]
    rerun: int
    drafts: list[str]  # parts of backups that are left after the rerun
    end: Shape


def crash_schema_repeatedly(
    template: Memctl, words: Words, folder: Path, *, sign: Callable[[Path], Sign]
) -> list[SchemaCrash]:
    """Kill a change of the schema over and over, each time on a fresh copy of the database."""
    unkilled = program_at(folder / "unkilled")
    shutil.copyfile(template.database, unkilled.database)
    timing = time_unkilled(unkilled, words, backup_begun)
    crashes = []
    for memctl in killed(
        template,
        words,
        folder=folder,
        sign=sign,
        span=timing.at_work if sign is backup_begun else timing.whole,
    ):
        left = shape(memctl.database)
        backups = [snapshot(copy) for copy in memctl.database.parent.glob("harness.db.before-*Z")]
        rerun = memctl(*words)
        drafts = [file.name for file in memctl.database.parent.glob(".*")]
        drafts += [
            note.name
            for note, manifest in manifests_in(memctl.database.parent)
            if manifest.sha256 is None
        ]
        crashes.append(SchemaCrash(left, backups, rerun.exit_code, drafts, shape(memctl.database)))
    return crashes


either_way = pytest.mark.parametrize(
    "sign",
    [
        pytest.param(at_once, id="at any moment"),
        pytest.param(backup_begun, id="from the backup on"),
    ],
)


@either_way
def test_a_killed_migration_stops_at_a_whole_step_and_changes_no_memory(
    sign: Callable[[Path], Sign], tmp_path: Path
) -> None:
    template, stepwise = program_at(tmp_path / "template"), program_at(tmp_path / "stepwise")
    fill_legacy_table(template.database, now=template.now)
    shutil.copyfile(template.database, stepwise.database)
    steps = [shape(template.database)]
    for step in ("1", "2"):
        stepwise.ok("migrate", "--no-backup", "--to", step)
        steps.append(shape(stepwise.database))

    crashes = crash_schema_repeatedly(template, ("migrate",), tmp_path, sign=sign)

    assert len(crashes) == KILLS
    assert [crash.left for crash in crashes if crash.left not in steps] == []
    assert [crash for crash in crashes if not crash.backups and crash.left != steps[0]] == []
    assert all(copy == snapshot(template.database) for crash in crashes for copy in crash.backups)
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash.drafts for crash in crashes] == [[]] * KILLS
    assert [crash.end for crash in crashes if crash.end != steps[-1]] == []


@either_way
def test_a_killed_rollback_happens_or_not_and_keeps_the_archive_in_its_backup(
    sign: Callable[[Path], Sign], tmp_path: Path
) -> None:
    template, unkilled = program_at(tmp_path / "template"), program_at(tmp_path / "whole")
    template.ok(*prepare_cleanup(template))
    words = ("rollback", "--to", "1", "--yes")
    shutil.copyfile(template.database, unkilled.database)
    unkilled.ok(*words)
    before, after = shape(template.database), shape(unkilled.database)

    crashes = crash_schema_repeatedly(template, words, tmp_path, sign=sign)

    assert len(crashes) == KILLS
    assert [crash.left for crash in crashes if crash.left not in (before, after)] == []
    assert [crash for crash in crashes if not crash.backups and crash.left != before] == []
    assert all(copy == snapshot(template.database) for crash in crashes for copy in crash.backups)
    assert [crash.rerun for crash in crashes] == [0] * KILLS
    assert [crash.drafts for crash in crashes] == [[]] * KILLS
    assert [crash.end for crash in crashes if crash.end != after] == []


# The control: the check can fail

CARELESS = """
import sqlite3, sys

database, first, second = sys.argv[1:]
db = sqlite3.connect(database, isolation_level=None)
db.execute(first)
print("between", flush=True)
sys.stdin.readline()
db.execute(second)
"""

COPY_EXPIRED = """
    INSERT INTO archived_memories
        (id, agent_id, type, key, value, importance, archived_at, archived_reason)
    SELECT id, agent_id, type, key, value, importance, '2026-11-22T09:43:58Z', 'expired'
    FROM {source} WHERE expires_at < '2026-11-22'
"""

DELETE_EXPIRED = "DELETE FROM agent_memory WHERE expires_at < '2026-11-22'"


@pytest.mark.parametrize(
    ("statements", "places"),
    [
        pytest.param(
            (COPY_EXPIRED.format(source="agent_memory"), DELETE_EXPIRED),
            ["agent_memory", "archived_memories"],
            id="archives first",
        ),
        pytest.param(
            (DELETE_EXPIRED, COPY_EXPIRED.format(source="before_deletion")), [], id="deletes first"
        ),
    ],
)
def test_a_program_killed_between_two_transactions_is_caught(
    statements: Words, places: list[str], tmp_path: Path
) -> None:
    template, unkilled = program_at(tmp_path / "template"), program_at(tmp_path / "unkilled")
    prepare_cleanup(template)
    with closing(connect(template.database)) as db:
        db.execute("CREATE TABLE before_deletion AS SELECT * FROM agent_memory")
        expired = [
            memory_id
            for (memory_id,) in db.execute(
                "SELECT id FROM agent_memory WHERE expires_at < '2026-11-22' ORDER BY id"
            )
        ]
    shutil.copyfile(template.database, unkilled.database)
    before = snapshot(template.database)
    run_careless(unkilled, statements, killed_between=False)
    after = snapshot(unkilled.database)

    run_careless(template, statements, killed_between=True)

    assert broken_promises(before, after, after) == []
    assert broken_promises(before, after, snapshot(template.database)) == [
        f"{memory_id} is in {places}, told of by []" for memory_id in expired
    ]


def run_careless(memctl: Memctl, statements: Words, *, killed_between: bool) -> None:
    """Run a program that archives and deletes in two transactions."""
    with subprocess.Popen(
        [sys.executable, "-c", CARELESS, memctl.database, *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"between\n"
        if killed_between:
            process.kill()
        process.communicate(b"\n")
