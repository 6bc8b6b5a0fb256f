"""The demonstration: the real jobs on its own database, with nothing else changed."""

import json
import os
import re
import runpy
import shutil
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import connect, is_sound
from tests.support.disks import fill_disk
from tests.support.program import NOW, PROGRAM, Answer, Memctl, complaint

ROOT = Path(__file__).parent.parent
AT = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
PICTURE = ROOT / "docs" / "demo.svg"


def start(home: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a demonstration in a home directory, with temporary files in `home/tmp`."""
    (home / "tmp").mkdir(exist_ok=True)
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "MEMCTL_NOW": AT,
    }
    return subprocess.Popen(
        [PROGRAM, "demo", *words],
        cwd=home,
        env=environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def demo(home: Path, *words: str, **variables: str) -> Answer:
    """Run a demonstration to its end."""
    with start(home, *words, **variables) as process:
        out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out, err)


def next_commands(printed: str) -> list[str]:
    """Return the commands that the demonstration suggests at the end."""
    return re.findall(r"^  \S.*?  +(\S.*)$", printed.partition("Try next\n")[2], re.MULTILINE)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder: files with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with a demonstration kept as demo.db."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def kept(home: Path) -> Answer:
    """The output of that demonstration."""
    answer = demo(home, "--keep", "demo.db", PATH=f"{PROGRAM.parent}:/usr/bin:/bin")
    assert (answer.exit_code, answer.err) == (0, "")
    return answer


@pytest.fixture
def db(kept: Answer, home: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to the kept database."""
    with closing(connect(home / "demo.db")) as connection:
        yield connection


def one(db: sqlite3.Connection, query: str) -> Any:
    """Return the only value that a query finds."""
    ((value,),) = db.execute(query).fetchall()
    return value


def test_the_kept_database_is_sound_private_and_the_only_file(kept: Answer, home: Path) -> None:
    assert sorted(file.name for file in home.iterdir()) == ["demo.db", "tmp"]
    assert list((home / "tmp").iterdir()) == []
    assert stat.S_IMODE((home / "demo.db").stat().st_mode) == 0o600
    with closing(connect(home / "demo.db")) as db:
        assert is_sound(db)
        assert one(db, "PRAGMA journal_mode") == "wal"


def test_the_real_jobs_ran_for_four_months(db: sqlite3.Connection) -> None:
    runs = dict(db.execute("SELECT job, count(*) FROM memory_runs GROUP BY job"))

    assert set(runs) == {"cleanup", "decay", "promote", "snapshot", "prune", "restore"}
    assert min(runs["cleanup"], runs["decay"], runs["promote"], runs["snapshot"]) > 40
    assert one(db, "SELECT count(*) FROM memory_runs WHERE status <> 'ok'") == 0
    assert one(db, "SELECT min(started_at) FROM memory_runs") < "2026-08-02"
    assert one(db, "SELECT max(started_at) FROM memory_runs") == "2026-11-22T09:43:58Z"
    days = "SELECT count(*) FROM (SELECT DISTINCT snapshot_date FROM memory_analytics)"
    assert one(db, f"{days} WHERE snapshot_date > '2026-10-24'") == 29


def test_the_demonstration_has_every_outcome_for_a_memory(db: sqlite3.Connection) -> None:
    agents = one(db, "SELECT count(DISTINCT agent_id) FROM agent_memory")
    archived = dict(
        db.execute("SELECT archived_reason, count(*) FROM archived_memories GROUP BY 1")
    )
    events = dict(db.execute("SELECT event, count(*) FROM memory_events GROUP BY event"))

    assert 6 <= agents <= 8
    assert archived["expired"] > 500
    assert one(db, "SELECT count(*) FROM archived_memories WHERE archived_at < '2026-08-20'") == 0
    for fate in ("expired", "pruned", "promoted", "restored", "forgotten"):
        assert events[f"memory:{fate}"] > 0, fate
    assert "memory:alert" not in events
    faded = "last_decay_at IS NOT NULL AND last_accessed < '2026-10-22' AND importance < 3"
    assert one(db, f"SELECT count(*) FROM agent_memory WHERE {faded}") > 20
    proven = "promoted_at IS NOT NULL AND access_count > 4 AND importance >= 8"
    assert one(db, f"SELECT count(*) FROM agent_memory WHERE {proven}") > 10
    assert one(db, "SELECT count(*) FROM knowledge_entries") > 10


def test_memories_forgotten_by_mistake_were_restored(db: sqlite3.Connection) -> None:
    ((id, agent),) = db.execute(
        "SELECT memory_id, agent_id FROM memory_events WHERE event = 'memory:forgotten'"
    )

    assert db.execute("SELECT agent_id FROM agent_memory WHERE id = ?", (id,)).fetchone() == (
        agent,
    )


def test_the_printed_figures_match_the_database(kept: Answer, db: sqlite3.Connection) -> None:
    pruned = re.findall(r"([\d,]+) pruned", kept.out)
    restored = re.findall(r"([\d,]+) restored", kept.out)

    def total(found: list[str]) -> int:
        return sum(int(text.replace(",", "")) for text in found)

    count = "SELECT count(*) FROM memory_events WHERE event = 'memory:{}'"
    assert total(pruned) == one(db, count.format("pruned"))
    assert total(restored) == one(db, count.format("restored"))


def test_the_check_finds_nothing_wrong(kept: Answer, home: Path) -> None:
    answer = Memctl(home / "demo.db").ok("check", "--full", "--json")

    assert answer.json["ok"]


def test_the_output_ends_with_the_table_of_metrics(kept: Answer, home: Path) -> None:
    table = Memctl(home / "demo.db").ok("metrics", "--table").out

    assert f"\n\n{table}'read' covers the last 30 days" in kept.out


def run_in_shell(commands: list[str], home: Path, **variables: str) -> None:
    """Run commands as they were printed; each must succeed and print something."""
    for command in commands:
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=home,
            env={"HOME": str(home), "MEMCTL_NOW": "2026-11-22T09:44:30Z"} | variables,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, (command, ran.stderr)
        assert ran.stdout + ran.stderr, command


def test_the_suggested_commands_work_as_printed(kept: Answer, home: Path) -> None:
    commands = next_commands(kept.out)

    assert len(commands) >= 5
    assert all(command.startswith("memctl --db demo.db ") for command in commands)
    run_in_shell(commands, home, PATH=f"{PROGRAM.parent}:/usr/bin:/bin")


def test_without_keep_the_suggested_command_makes_the_same_database(
    kept: Answer, home: Path, tmp_path: Path
) -> None:
    answer = demo(tmp_path)
    assert tree(tmp_path) == {"tmp": None}
    story, _, _ = answer.out.partition("Try next\n")
    assert story == kept.out.partition("Try next\n")[0]

    commands = next_commands(answer.out)

    assert commands[0] == f"{PROGRAM} demo --keep demo.db"  # there is no PATH
    run_in_shell(commands[:1], tmp_path, PATH="/usr/bin:/bin", MEMCTL_NOW=AT)
    run_in_shell(commands[1:], tmp_path, PATH="/usr/bin:/bin")
    with closing(connect(home / "demo.db")) as one, closing(connect(tmp_path / "demo.db")) as two:
        for table, columns in {
            "agent_memory": "*",
            "archived_memories": "*",
            "memory_analytics": "*",
            "memory_access_counts": "*",
            "memory_events": "event_id, at, event, memory_id, run_id",
            "memory_runs": "run_id, job, started_at, status, counts",
        }.items():
            query = f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3"
            found = one.execute(query).fetchall()
            assert len(found) > 10
            assert found == two.execute(query).fetchall()


def test_the_users_database_and_configuration_are_not_used(tmp_path: Path) -> None:
    """Both are invalid, so reading either would fail."""
    for file in ("harness.db", "config.toml", ".config/memctl/config.toml", "demo.txt"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("no such thing")
    before = tree(tmp_path)

    answer = demo(
        tmp_path,
        "--json",
        MEMCTL_DB=str(tmp_path / "harness.db"),
        MEMCTL_CONFIG=str(tmp_path / "config.toml"),
        XDG_STATE_HOME=str(tmp_path / "state"),
    )

    assert (answer.exit_code, answer.err) == (0, "")
    assert tree(tmp_path) == {**before, "tmp": None}
    assert set(answer.json) == {"schema", "database", "scenes", "months", "metrics"}
    assert answer.json["database"] is None
    assert [month["month"] for month in answer.json["months"]] == [1, 2, 3, 4]
    assert answer.json["metrics"]["system"]["memories"] > 100


def test_quiet_prints_only_the_table(kept: Answer, home: Path, tmp_path: Path) -> None:
    answer = demo(tmp_path, "--quiet")

    assert answer == Answer(0, Memctl(home / "demo.db").ok("metrics", "--table").out, "")


@pytest.mark.parametrize("name", ["demo.db", "demo.db-wal", "a link", "a folder"])
def test_an_existing_file_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a link").symlink_to("nowhere")
    if "." in name:
        (tmp_path / name).write_text("mine")
    before = tree(tmp_path)

    answer = demo(tmp_path, "--keep", name.removesuffix("-wal"))

    assert answer.exit_code == 2
    assert complaint(answer) == f"memctl: {name} already exists; specify another file"
    assert tree(tmp_path) == {**before, "tmp": None}


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        pytest.param(
            ("--keep", "missing/demo.db"),
            1,
            "missing/demo.db cannot be written (No such file or directory); free some space, or"
            " specify another file",
            id="no such directory",
        ),
        pytest.param(
            ("--now", "0001-01-01"),
            2,
            "the system clock is wrong: 0001-01-01T00:00:00Z; set it to the current time",
            id="an impossible year",
        ),
        *(
            pytest.param(
                words,
                2,
                "demo uses its own database and the default configuration; omit --db and --config;"
                " save the demo database with --keep FILE",
                id=words[0],
            )
            for words in (("--db", "x.db"), ("--config", "x.toml"))
        ),
    ],
)
def test_invalid_arguments_are_refused_immediately(
    words: tuple[str, ...], exit_code: int, message: str, tmp_path: Path
) -> None:
    answer = demo(tmp_path, *words)
    as_json = demo(tmp_path, *words, "--json")

    assert (answer.exit_code, complaint(answer)) == (exit_code, f"memctl: {message}")
    assert json.loads(as_json.err)["error"]["exit_code"] == exit_code
    assert tree(tmp_path) == {"tmp": None}


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        pytest.param(signal.SIGTERM, 143, id="terminated"),
        pytest.param(signal.SIGINT, 130, id="interrupted"),
        pytest.param(signal.SIGHUP, 129, id="hung up"),
        pytest.param(signal.SIGKILL, -9, id="killed"),
    ],
)
def test_a_stopped_demonstration_leaves_nothing_behind(
    number: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    with start(tmp_path, "--keep", "demo.db") as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("month 1"):
            time.sleep(0.001)
        process.send_signal(number)
        process.communicate(timeout=60)

    assert process.returncode == exit_code
    assert not (tmp_path / "demo.db").exists()
    if number != signal.SIGKILL:
        assert tree(tmp_path) == {"tmp": None}


def test_a_file_created_during_the_run_is_kept(tmp_path: Path) -> None:
    theirs = tmp_path / "demo.db"
    with start(tmp_path, "--keep", "demo.db") as process:
        assert process.stdout is not None
        process.stdout.readline()
        theirs.write_text("precious")
        _, complained = process.communicate(timeout=60)

    assert process.returncode == 2
    assert complained == "memctl: demo.db already exists; specify another file\n"
    assert theirs.read_text() == "precious"


def test_a_closed_pipe_ends_it_silently(tmp_path: Path) -> None:
    with start(tmp_path, "--keep", "demo.db") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        complained = process.stderr.read()

    assert (process.wait(timeout=60), complained) == (141, "")
    assert tree(tmp_path) == {"tmp": None}


@pytest.mark.parametrize("room", [0, 64 * 1024], ids=["quite full", "nearly full"])
def test_a_full_disk_for_temporary_files_is_an_error_of_one_line(
    room: int, small_disk: Path, tmp_path: Path
) -> None:
    fill_disk(small_disk, room=room)

    answer = demo(tmp_path, "--json", TMPDIR=str(small_disk))

    assert answer.exit_code == 1
    assert "full" in json.loads(complaint(answer))["error"]["message"]
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


def test_a_full_disk_for_the_kept_file_is_an_error_of_one_line(
    small_disk: Path, tmp_path: Path
) -> None:
    fill_disk(small_disk, room=64 * 1024)

    answer = demo(tmp_path, "--quiet", "--keep", str(small_disk / "demo.db"))

    assert answer.exit_code == 1
    assert complaint(answer) == (
        f"memctl: {small_disk}/demo.db cannot be written (No space left on device); free some"
        " space, or specify another file"
    )
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


def test_the_picture_shows_the_current_output() -> None:
    """To update it, run `python docs/picture.py`."""
    script = runpy.run_path(str(ROOT / "docs" / "picture.py"))

    picture = script["picture"]()

    assert picture == PICTURE.read_text(encoding="utf-8")


def test_the_picture_is_self_contained() -> None:
    picture = PICTURE.read_text(encoding="utf-8")

    assert re.findall(r"https?://[^\"')]*", picture) == ["http://www.w3.org/2000/svg"]
    assert str(ROOT) not in picture
    assert os.uname().nodename not in picture
    assert shutil.which("memctl") is None or str(PROGRAM) not in picture
