"""The Python API beside other programs: how it opens, what it waits for, what it survives."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from memctl import AgentMemory
from memctl.errors import LockedError, NoDatabaseError, SchemaError, UsageError
from memctl.storage.memory import MemoryType
from tests.support.database import everything, insert_memory, is_sound, rows
from tests.support.engines import Engine
from tests.support.locks import write_lock
from tests.support.program import NOW, Memctl
from tests.support.service import Service

NAME: tuple[str, MemoryType, str] = ("build_agent", "learning", "toolchain")


@pytest.fixture
def migrated(template: Path, path: Path) -> Memctl:
    """The installed program, pointed at a copy, because migrating for each test is slow."""
    shutil.copyfile(template, path)
    return Memctl(path)


# Opening and closing


def test_opening_a_missing_database_does_not_create_it(path: Path) -> None:
    with pytest.raises(NoDatabaseError, match=r"there is no database at .*harness\.db"):
        AgentMemory(path)

    assert not path.exists()


def test_an_unmigrated_database_is_refused_and_unchanged(path: Path, service: Service) -> None:
    before = everything(path)

    with pytest.raises(SchemaError, match="run `memctl migrate`"):
        AgentMemory(str(path))

    assert everything(path) == before


def run_python(program: str, *words: str | Path, environment: dict[str, str]) -> str:
    """Run a Python program that must succeed and return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ran.stdout


def test_without_a_path_the_api_opens_the_database_of_the_commands(
    migrated: Memctl, db: sqlite3.Connection
) -> None:
    program = (
        "from memctl import AgentMemory\n"
        "with AgentMemory() as api:\n"
        "    api.remember('build_agent', 'learning', 'k', 'v')\n"
    )

    run_python(program, environment=migrated.environment())

    assert rows(db, "agent_memory", "key") == [("k",)]


USE_ALL = """
import sys
from memctl import AgentMemory
with AgentMemory() as api:
    api.remember("a", "learning", "k", "v", metadata={"x": 1}, keep_replaced=True)
    api.recall("a", "learning", "k")
    api.recall_all("a")
    api.summary("a")
    api.set_task_context("a", "1", {})
    api.get_task_context("a", "1")
    api.learn_success("a", "p", {})
    api.learn_error("a", "p", {})
    api.has_seen_error("a", "p")
    api.forget("a", "learning", "k")
    api.cleanup_expired()
    api.forget_all("a")
print(sorted(set(sys.modules) & {"typer", "pydantic", "rich", "sqlite_utils", "click"}))
"""


def test_the_api_imports_nothing_heavy(migrated: Memctl) -> None:
    assert run_python(USE_ALL, environment=migrated.environment()) == "[]\n"


def test_the_package_is_imported_without_the_api(migrated: Memctl) -> None:
    program = "import sys, memctl; print([name for name in sys.modules if 'memctl.' in name])"

    assert run_python(program, environment=migrated.environment()) == "[]\n"


def test_the_package_has_only_the_documented_names() -> None:
    import memctl

    assert memctl.AgentMemory is AgentMemory
    with pytest.raises(AttributeError, match="module 'memctl' has no attribute 'AgentMemories'"):
        _ = memctl.AgentMemories


EVERY_CALL: dict[str, Callable[[AgentMemory], object]] = {
    "remember": lambda api: api.remember(*NAME, "v"),
    "recall": lambda api: api.recall(*NAME),
    "recall_all": lambda api: api.recall_all("build_agent"),
    "forget": lambda api: api.forget(*NAME),
    "forget_all": lambda api: api.forget_all("build_agent"),
    "cleanup_expired": lambda api: api.cleanup_expired(),
    "summary": lambda api: api.summary("build_agent"),
    "search": lambda api: api.search("k"),
    "archived": lambda api: api.archived("build_agent"),
    "restore": lambda api: api.restore("build_agent", ["m-1"]),
    "set_task_context": lambda api: api.set_task_context("build_agent", "1", {}),
    "get_task_context": lambda api: api.get_task_context("build_agent", "1"),
    "learn_success": lambda api: api.learn_success("build_agent", "p", {}),
    "learn_error": lambda api: api.learn_error("build_agent", "p", {}),
    "has_seen_error": lambda api: api.has_seen_error("build_agent", "p"),
}
every_call = pytest.mark.parametrize("call", EVERY_CALL.values(), ids=EVERY_CALL.keys())


@every_call
def test_a_closed_instance_refuses_every_call(
    path: Path, migrated: Memctl, call: Callable[[AgentMemory], object]
) -> None:
    with AgentMemory(path) as api:
        pass
    api.close()
    before = everything(path)

    with pytest.raises(UsageError, match="closed"):
        call(api)

    assert everything(path) == before


@every_call
def test_a_call_from_another_thread_is_refused(
    api: AgentMemory, path: Path, call: Callable[[AgentMemory], object]
) -> None:
    before = everything(path)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call(api)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert [type(error) for error in raised] == [UsageError]
    assert everything(path) == before


def test_a_program_can_change_its_directory(
    path: Path, migrated: Memctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with AgentMemory(path.name) as api:
        api.remember(*NAME, "v")
        monkeypatch.chdir("/")

        assert (api.cleanup_expired(), api.forget_all("build_agent")) == (0, 1)


# Other programs


@pytest.mark.parametrize(
    "name",
    [name for name in EVERY_CALL if name not in ("recall_all", "summary", "search", "archived")],
)
def test_a_lock_held_for_too_long_is_an_error_and_changes_nothing(
    path: Path, migrated: Memctl, db: sqlite3.Connection, name: str
) -> None:
    insert_memory(db, key="toolchain", expires_at="2020-01-01")
    insert_memory(db, type="context", key="task:1")
    insert_memory(db, type="error_pattern", key="p")
    before = everything(path)

    with (
        AgentMemory(path, lock_wait=0.05, clock=lambda: NOW) as api,
        write_lock(path),
        pytest.raises(LockedError, match="is locked by another program"),
    ):
        EVERY_CALL[name](api)

    assert everything(path) == before


@every_call
def test_a_rolled_back_schema_stops_every_call_of_an_open_instance(
    api: AgentMemory, migrated: Memctl, path: Path, call: Callable[[AgentMemory], object]
) -> None:
    migrated.ok("rollback", "--yes")
    before = everything(path)

    with pytest.raises(SchemaError, match="003_holds_and_erasures pending; run `memctl migrate`"):
        call(api)

    assert everything(path) == before


@every_call
def test_an_added_column_stops_every_call_of_an_open_instance(
    api: AgentMemory,
    db: sqlite3.Connection,
    path: Path,
    call: Callable[[AgentMemory], object],
) -> None:
    api.remember(*NAME, "v")
    db.execute("ALTER TABLE agent_memory ADD COLUMN embedding BLOB DEFAULT x'00'")
    before = everything(path)

    with pytest.raises(SchemaError, match="has unknown column embedding"):
        call(api)

    assert everything(path) == before


def test_an_unrelated_change_of_the_schema_does_not_matter(
    api: AgentMemory, db: sqlite3.Connection
) -> None:
    db.execute("CREATE TABLE another (id)")

    api.remember(*NAME, "v")

    assert api.recall(*NAME) is not None


def at_once(database: str, program: str, count: int) -> None:
    """Run a program in several processes that begin together; each gets its number."""
    begin = (
        "import sys\nfrom memctl import AgentMemory\n"
        "api = AgentMemory(sys.argv[1])\nnumber = sys.argv[2]\n"
        "print(flush=True)\nsys.stdin.readline()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", begin + program, database, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * count


def test_no_access_is_lost_when_several_agents_read_concurrently(engine: Engine) -> None:
    engine.insert(key="toolchain", access_count=0)

    at_once(
        str(engine.address),
        "for _ in range(250): api.recall('build_agent', 'learning', 'toolchain')\n",
        count=4,
    )

    assert [row["access_count"] for row in engine.rows()] == [1000]


def test_concurrent_replacements_of_a_memory_lose_no_value(engine: Engine) -> None:
    at_once(
        str(engine.address),
        "for step in range(100):\n"
        "    written = api.remember(\n"
        "        'build_agent', 'learning', 'k', f'{number}-{step}', keep_replaced=True\n"
        "    )\n"
        "    assert written.value == f'{number}-{step}'\n",
        count=4,
    )

    everywhere = [row["value"] for row in engine.rows("archived_memories") + engine.rows()]
    assert sorted(everywhere) == sorted(f"{n}-{step}" for n in range(4) for step in range(100))
    assert len(engine.rows()) == 1
    assert len({row["memory_id"] for row in engine.rows("memory_events")}) == 399


def test_only_one_of_several_processes_forgets_the_same_memory(engine: Engine) -> None:
    for number in range(200):
        engine.insert(key=str(number))

    at_once(
        str(engine.address),
        "count = sum(api.forget('build_agent', 'learning', str(k)) for k in range(0, 200, 2))\n"
        "count += api.forget_all('build_agent')\n"
        "api.remember('counts', 'learning', number, str(count))\n",
        count=4,
    )

    counts = [int(row["value"]) for row in engine.rows()]
    archived = [row["id"] for row in engine.rows("archived_memories")]
    assert (len(counts), sum(counts)) == (4, 200)
    assert len(set(archived)) == len(archived) == 200


AT_RANDOM = """
import json, random
chance = random.Random(int(number))
written, read = [], 0
for step in range(120):
    name = "build_agent", "learning", str(chance.randrange(4))
    action = chance.random()
    if number == "0":
        if step % 4 == 0:
            api.cleanup_expired()
    elif action < 0.5:
        value = f"{number}-{step}"
        lasts = chance.choice([None, 0.001])
        api.remember(*name, value, keep_replaced=True, expires_in=lasts)
        written.append(value)
    elif action < 0.8:
        read += api.recall(*name) is not None
    else:
        api.forget(*name)
api.remember("counts", "learning", number, json.dumps([written, read]))
"""


def test_nothing_is_lost_or_doubled_when_agents_write_the_same_memories_during_cleanups(
    engine: Engine,
) -> None:
    at_once(str(engine.address), AT_RANDOM, count=5)

    active, archived = engine.rows(), engine.rows("archived_memories")
    counts = [json.loads(row["value"]) for row in active if row["agent_id"] == "counts"]
    memories = [row for row in [*active, *archived] if row["agent_id"] != "counts"]
    events = [row for row in engine.rows("memory_events") if row["event"] == "memory:archived"]
    reasons = {row["archived_reason"] for row in archived}
    written = sorted(value for values, _ in counts for value in values)
    assert sorted(row["value"] for row in memories) == written
    # In SQLite, an access is not counted if the memory is replaced at the same moment.
    accesses = sum(row["access_count"] for row in memories)
    assert engine.name == "sqlite" or accesses == sum(read for _, read in counts)
    assert len({row["id"] for row in memories}) == len(memories)
    assert sorted(row["memory_id"] for row in events) == sorted(row["id"] for row in archived)
    assert {"replaced", "forgotten"} <= reasons <= {"replaced", "forgotten", "expired"}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            "while True: api.remember('a', 'learning', 'k', 'again', keep_replaced=True)\n",
            id="replacing",
        ),
        pytest.param("api.forget_all('build_agent')\n", id="forgetting all"),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_a_killed_agent_leaves_each_memory_active_or_archived(
    path: Path, migrated: Memctl, db: sqlite3.Connection, program: str, seed: int
) -> None:
    db.execute("BEGIN")
    ids = {insert_memory(db, key=str(number), value="v" * 2000) for number in range(2000)}
    ids.add(insert_memory(db, agent_id="a", key="k"))
    db.execute("COMMIT")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom memctl import AgentMemory\n"
            "api = AgentMemory(sys.argv[1])\nprint(flush=True)\n" + program,
            path,
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        process.communicate(timeout=Random(f"{seed} {program}").uniform(0, 0.12))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()

    active = [row[0] for row in rows(db, "agent_memory", "id")]
    archived = [row[0] for row in rows(db, "archived_memories", "id")]
    archivings = "memory_events WHERE event = 'memory:archived'"
    recorded = [row[0] for row in rows(db, archivings, "memory_id")]
    assert len({*active, *archived}) == len(active) + len(archived)
    assert ids <= {*active, *archived}
    assert recorded == archived
    assert db.execute("SELECT * FROM memory_state WHERE key = 'own_delete'").fetchall() == []
    assert is_sound(db)
