"""What is lost if a server or a connection fails, or a process is stopped: nothing, and no memory
is archived twice. The command reports one line, and the next one completes the work.
"""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from memctl.config.jobs import JOBS
from tests.support.processes import eventually
from tests.support.program import Answer, Memctl, complaint
from tests.support.server_rows import (
    add_expired,
    archived_exactly,
    has_archived,
    waiting_connections,
    waits_for_lock,
)
from tests.support.servers import Server, private_server

NewDatabase = Callable[[], Memctl]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with a migrated database, `template`."""
    with private_server("fsync=off") as started:
        started.sql("CREATE DATABASE template")
        Memctl(Path("unused.db").absolute(), url=started.url("template")).ok("migrate")
        yield started


@pytest.fixture
def new_database(server: Server, tmp_path: Path) -> Iterator[NewDatabase]:
    """Creates a migrated database, and returns the program pointed at it."""
    names: list[str] = []

    def create() -> Memctl:
        names.append(f"faults_{len(names)}")
        server.sql(f"CREATE DATABASE {names[-1]} TEMPLATE template")
        return Memctl(tmp_path / "unused.db", url=server.url(names[-1]))

    yield create
    for name in names:
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def memctl(new_database: NewDatabase) -> Memctl:
    """The program, pointed at a migrated database on the server."""
    return new_database()


@pytest.fixture
def url(memctl: Memctl) -> str:
    """The URL of this database."""
    assert memctl.url is not None
    return memctl.url


def ended(process: "subprocess.Popen[bytes]") -> Answer:
    """Wait for a command that was started, and return its result."""
    out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out.decode(), err.decode())


@contextmanager
def locked(url: str, statement: str) -> Iterator[None]:
    """Keep the locks that a statement of another client takes during the block."""
    with psycopg.connect(url) as db:
        db.execute(statement)
        yield
        db.rollback()


def test_holder_that_was_stopped_is_replaced_and_does_no_harm(memctl: Memctl, url: str) -> None:
    add_expired(url, 50)
    with locked(url, "SELECT 1 FROM agent_memory WHERE id = 'id-4' FOR UPDATE"):
        stopped = memctl.start("cleanup")
        eventually(waits_for_lock(url))
        stopped.send_signal(signal.SIGSTOP)
    try:
        with psycopg.connect(url, autocommit=True) as db:
            # The server ends the stopped transaction, which also locks the lease, after 2 seconds.
            db.execute("UPDATE memory_leases SET held_until = clock_timestamp()")
        other = memctl("cleanup", "--json")
    finally:
        stopped.send_signal(signal.SIGCONT)
    resumed = ended(stopped)

    assert other.json["archived"] == 50
    assert resumed.exit_code in (1, 11)  # its connection is gone
    assert "run the command again" in complaint(resumed)
    assert archived_exactly(url, of=50) == 50


def test_holder_whose_lease_was_taken_between_two_batches_ends(memctl: Memctl, url: str) -> None:
    add_expired(url, 8_000)
    robbed = memctl.start("cleanup")
    eventually(has_archived(url))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("UPDATE memory_leases SET token = gen_random_uuid(), held_until = 'infinity'")

    answer = ended(robbed)

    assert answer.exit_code == 11
    assert "another memctl process has taken over" in complaint(answer)
    assert 0 < archived_exactly(url, of=8_000) < 8_000


def test_run_that_loses_the_race_is_silent_and_other_commands_are_not(
    memctl: Memctl, url: str
) -> None:
    add_expired(url, 10)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "INSERT INTO memory_leases VALUES"
            " ('memctl', gen_random_uuid(), 'decay', 'elsewhere', 7, 'infinity', 0)"
        )

    assert memctl("run", "--lock-wait", "0") == Answer(0, "", "")
    assert memctl.ok("run", "--lock-wait", "0", "--json").json["jobs"] == []
    refused = memctl("cleanup", "--lock-wait", "0")

    assert refused.exit_code == 11
    assert "decay (process 7 on elsewhere)" in complaint(refused)
    assert archived_exactly(url, of=10) == 0


def test_schedules_of_four_machines_do_the_work_once(
    memctl: Memctl, url: str, tmp_path: Path
) -> None:
    add_expired(url, 5_000)
    file = tmp_path / "memctl.toml"
    never = "".join(f'{job} = "never"\n' for job in JOBS if job != "cleanup")
    file.write_text(f'[run]\ncleanup = "daily"\n{never}')

    machines = [memctl.start("run", "--config", str(file)) for _ in range(4)]
    answers = [ended(machine) for machine in machines]

    assert answers == [Answer(0, "", "")] * 4
    assert archived_exactly(url, of=5_000) == 5_000
    with psycopg.connect(url, autocommit=True) as db:
        assert db.execute("SELECT job FROM memory_runs").fetchall() == [("cleanup",)]


def kills(memctl: Memctl, url: str, *, times: int) -> None:
    """Kill a cleanup at random moments, and check after each what is left."""
    memories, seconds = 0, 1.0
    for _ in range(times):
        add_expired(url, 1_000, first=memories + 1)
        memories += 1_000
        began = time.monotonic()
        process = memctl.start("cleanup")
        time.sleep(random.uniform(0.3, 1) * seconds)
        process.kill()
        if process.wait() == 0:
            seconds = time.monotonic() - began
        process.communicate()
        archived_exactly(url, of=memories)

    memctl.ok("cleanup")

    assert archived_exactly(url, of=memories) == memories


def test_cleanup_that_is_killed_loses_nothing(memctl: Memctl, url: str) -> None:
    kills(memctl, url, times=10)


@pytest.mark.campaign
def test_cleanup_that_is_killed_often_loses_nothing(memctl: Memctl, url: str) -> None:
    kills(memctl, url, times=100)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_a_batch_that_waits_and_frees_the_lease(
    sent: signal.Signals, memctl: Memctl, url: str
) -> None:
    add_expired(url, 50)
    with locked(url, "SELECT 1 FROM agent_memory WHERE id = 'id-4' FOR UPDATE"):
        process = memctl.start("cleanup")
        eventually(waits_for_lock(url))
        process.send_signal(sent)
        answer = ended(process)

    assert answer == Answer(128 + sent, "", ""), answer
    with psycopg.connect(url, autocommit=True) as db:
        assert db.execute("SELECT status FROM memory_runs").fetchall() == [("failed",)]
    memctl.ok("cleanup", "--lock-wait", "0")
    assert archived_exactly(url, of=50) == 50


def answer_after_lost_connection(memctl: Memctl, url: str, *words: str) -> Answer:
    """Run a command whose connection the server ends while it waits for a lock."""
    with locked(url, "LOCK TABLE agent_memory, archived_memories, memory_events"):
        process = memctl.start(*words)
        eventually(waits_for_lock(url))
        with psycopg.connect(url, autocommit=True) as db:
            for pid in waiting_connections(url):
                db.execute("SELECT pg_terminate_backend(%s)", (pid,))
    return ended(process)


AGENT = "agent-1"
CLIENTS = [
    ("agents",),
    ("archived", "--all"),
    ("events",),
    ("export", "--all"),
    ("forget", AGENT, "context"),
    ("list", AGENT),
    ("metrics",),
    ("remember", AGENT, "learning", "new", "v"),
    ("search", "vvv"),
    ("summary", AGENT),
]


@pytest.mark.parametrize("words", CLIENTS, ids=" ".join)
def test_lost_connection_of_a_client_is_one_line(
    words: tuple[str, ...], memctl: Memctl, url: str
) -> None:
    add_expired(url, 5)

    answer = answer_after_lost_connection(memctl, url, *words)

    assert answer.exit_code == 1
    assert "connection" in complaint(answer)
    assert answer.out == ""
    memctl.ok(*words)


@pytest.mark.parametrize(
    "words", [("cleanup",), ("decay",), ("promote",), ("prune",), ("snapshot",)], ids=" ".join
)
def test_lost_connection_is_one_line_and_the_next_run_completes(
    words: tuple[str, ...], memctl: Memctl, url: str
) -> None:
    add_expired(url, 50)

    answer = answer_after_lost_connection(memctl, url, *words)

    assert answer.exit_code == 1
    assert "connection" in complaint(answer)
    archived_exactly(url, of=50)
    memctl.ok(*words, "--lock-wait", "0")
    memctl.ok("cleanup")
    assert archived_exactly(url, of=50) == 50


def test_primary_that_fails_in_a_job_is_replaced_by_its_standby(tmp_path: Path) -> None:
    with private_server("fsync=off") as primary, primary.standby() as standby:
        url = f"postgresql://memctl@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/memctl"
        memctl = Memctl(tmp_path / "unused.db", url=url)
        memctl.ok("migrate")
        add_expired(primary.url(), 8_000)
        process = memctl.start("cleanup")
        eventually(has_archived(standby.url()))
        primary.stop("immediate")
        answer = ended(process)
        standby.promote()

        assert answer.exit_code == 1
        assert "finished batches are kept" in complaint(answer)
        assert archived_exactly(standby.url(), of=8_000) < 8_000
        memctl.ok("cleanup")
        assert archived_exactly(standby.url(), of=8_000) == 8_000


def test_serializable_transactions_of_clients_and_jobs_are_exact(memctl: Memctl, url: str) -> None:
    name = url.rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    add_expired(url, 1_000)
    over, counts = threading.Event(), [0, 0, 0]

    def read(reader: int) -> None:
        """Read memories as the service does, which counts accesses, until all are archived."""
        with psycopg.connect(url, autocommit=True) as db:
            while not over.wait(random.uniform(0.002, 0.005)):
                try:
                    cursor = db.execute(
                        "UPDATE agent_memory SET access_count = access_count + 1"
                        " WHERE agent_id = %s AND key = %s",
                        (f"agent-{(number := random.randrange(1_000) + 1) % 4}", f"key-{number}"),
                    )
                except psycopg.errors.SerializationFailure:
                    continue
                counts[reader] += cursor.rowcount

    readers = [threading.Thread(target=read, args=(reader,)) for reader in range(3)]
    for reader in readers:
        reader.start()
    try:
        jobs = [memctl.start("cleanup", "--lock-wait", "60") for _ in range(2)]
        answers = [ended(job) for job in jobs]
    finally:
        over.set()
        for reader in readers:
            reader.join()

    assert [answer.exit_code for answer in answers] == [0, 0], answers
    assert archived_exactly(url, of=1_000) == 1_000
    with psycopg.connect(url, autocommit=True) as db:
        assert db.execute("SELECT sum(access_count) FROM archived_memories").fetchone() == (
            sum(counts),
        )


def test_older_program_refuses_a_newer_schema(memctl: Memctl, url: str) -> None:
    add_expired(url, 10)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "INSERT INTO memctl_migrations VALUES (99, 'of_a_newer_program', 'x', now(), '9.9')"
        )

    answer = memctl("cleanup")

    assert answer.exit_code == 12
    assert "upgrade memctl" in complaint(answer)
    assert archived_exactly(url, of=10) == 0


def test_server_that_is_restarted_between_two_commands(
    server: Server, memctl: Memctl, url: str
) -> None:
    add_expired(url, 10)
    server.stop()
    try:
        unreachable = memctl("cleanup")
    finally:
        server.start()

    assert unreachable.exit_code == 10
    assert "no server answers" in complaint(unreachable)
    memctl.ok("cleanup")
    assert archived_exactly(url, of=10) == 10
