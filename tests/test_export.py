"""Export: a document that is complete or absent, and that never blocks other programs."""

import gzip
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from memctl.documents import document as document_format
from memctl.errors import RefusedError
from memctl.storage.sqlite.files import write_file
from tests.support.database import connect, everything, insert_memory, names_beside
from tests.support.documents import export_from
from tests.support.engines import Engine
from tests.support.odd_values import ODD_NAMES
from tests.support.program import NOW, Memctl, complaint
from tests.support.service import Service
from tests.support.terminal import on_a_terminal

DOCUMENT = """\
{"format": "memctl.export", "version": 1, "exported_at": "2026-11-22T09:43:58Z", \
"agent_id": "build_agent", "counts": {"active": 1, "archived": 1, "promotions": 1},
"active": [
{"id": "m-1", "agent_id": "build_agent", "type": "learning", "key": "k", \
"value": "\\ud83e\\udd16 \\u007f", "metadata": null, "importance": 7.5, "access_count": 0, \
"last_accessed": "2026-11-22 09:43:58", "created_at": "2026-11-22 09:43:58", "expires_at": null, \
"archived_at": null, "importance_decay_rate": null, "last_decay_at": null, "promoted_at": null}
],
"archived": [
{"id": "m-2", "agent_id": "build_agent", "type": "learning", "key": {"base64": "a/8="}, \
"value": {"blob_base64": "AAE="}, "metadata": null, "importance": {"real": "-inf"}, \
"access_count": 0, "last_accessed": "2026-11-22 09:43:58", "created_at": "2026-11-22 09:43:58", \
"expires_at": "2026-11-21T09:43:58.000Z", "archived_at": "2026-11-22T09:43:58Z", \
"importance_decay_rate": 9.0, "last_decay_at": null, "promoted_at": null, \
"archived_reason": "expired", "run_id": 1}
],
"promotions": [
{"agent_id": "build_agent", "type": "learning", "key": "k", "entry_id": "e-1", \
"content_hash": "h", "promoted_at": "2026-11-01T00:00:00Z"}
],
"sha256": "SUM"}
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An active and an archived memory and a promotion, to copy."""
    memctl = Memctl(tmp_path_factory.mktemp("odd") / "harness.db")
    Service(memctl.database).close()
    memctl.ok("migrate", "--no-backup")
    with closing(connect(memctl.database)) as db:
        insert_memory(db, id="m-1", key="k", value="\N{ROBOT FACE} \x7f", importance=7.5)
        insert_memory(
            db,
            id="m-2",
            value=b"\0\1",
            importance=float("-inf"),
            importance_decay_rate=9,
            expired_for=timedelta(days=1),
        )
        db.execute("UPDATE agent_memory SET key = CAST(x'6BFF' AS TEXT) WHERE id = 'm-2'")
        db.execute(
            "INSERT INTO memory_promotions VALUES"
            " ('build_agent', 'learning', 'k', 'e-1', 'h', '2026-11-01T00:00:00Z')"
        )
        insert_memory(db, id="other", agent_id="qa_agent")
    memctl.ok("cleanup")
    return memctl.database


@pytest.fixture
def odd(template: Path, memctl: Memctl) -> Memctl:
    """The program, pointed at a copy of the template."""
    shutil.copyfile(template, memctl.database)
    return memctl


@pytest.fixture
def stored(engine: Engine) -> Memctl:
    """The program, pointed at an active and an archived memory and a promotion."""
    engine.insert(id="m-1", key="k", importance=7.5)
    engine.insert(id="m-2", key="old", expired_for=timedelta(days=1))
    engine.insert(id="other", agent_id="qa_agent")
    engine.insert(
        "memory_promotions",
        agent_id="build_agent",
        type="learning",
        key="k",
        entry_id="e-1",
        content_hash="h",
        promoted_at="2026-11-01T00:00:00Z",
    )
    engine.memctl.ok("cleanup")
    return engine.memctl


def test_the_document_has_every_column_of_every_row(odd: Memctl) -> None:
    printed = odd.ok("export", "build_agent").out

    assert printed == DOCUMENT.replace("SUM", json.loads(printed)["sha256"])
    assert printed.isascii()


def test_the_checksum_covers_the_lines_between_first_and_last(stored: Memctl) -> None:
    document = stored.ok("export", "build_agent").json

    first, *lines, last = stored.ok("export", "build_agent", "--nl").out.splitlines(keepends=True)

    sections = [next(iter(json.loads(line))) for line in lines]
    assert json.loads(first) == {
        name: document[name] for name in ("format", "version", "exported_at", "agent_id", "counts")
    }
    assert sections == ["active", "archived", "promotions"]
    assert [json.loads(line)[section] for section, line in zip(sections, lines, strict=True)] == [
        document[section][0] for section in sections
    ]
    assert json.loads(last) == {"sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}
    assert document["sha256"] == json.loads(last)["sha256"]


@pytest.mark.parametrize(
    ("words", "agent", "counts"),
    [
        pytest.param(("--all",), None, (2, 1, 1), id="all agents"),
        pytest.param(("qa_agent",), "qa_agent", (1, 0, 0), id="one agent"),
        pytest.param(("build_agent", "--active-only"), "build_agent", (1, 0, 1), id="active"),
        pytest.param(("build_agent", "--archived-only"), "build_agent", (0, 1, 0), id="archived"),
    ],
)
def test_only_the_selected_memories_are_exported(
    stored: Memctl, words: tuple[str, ...], agent: str | None, counts: tuple[int, ...]
) -> None:
    document = stored.ok("export", *words).json

    sections = ("active", "archived", "promotions")
    assert document["agent_id"] == agent
    assert document["counts"] == dict(zip(sections, counts, strict=True))
    assert tuple(len(document[section]) for section in sections) == counts


def test_an_export_changes_nothing(odd: Memctl) -> None:
    before = everything(odd.database)

    odd.ok("export", "--all")

    assert everything(odd.database) == before


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_agent_of_any_name_is_exported_and_imported(odd: Memctl, name: bytes) -> None:
    with closing(connect(odd.database)) as db:
        db.execute("UPDATE agent_memory SET agent_id = CAST(? AS TEXT) WHERE id = 'm-1'", (name,))
        db.execute("UPDATE archived_memories SET agent_id = CAST(? AS TEXT)", (name,))
    file = odd.database.with_name("backup.json")

    odd.ok(b"export", b"-o", str(file).encode(), b"--", name)
    with closing(connect(odd.database)) as db:
        db.execute("DELETE FROM agent_memory WHERE id = 'm-1'")
    answer = odd.ok(b"import", b"--json", b"--", name, str(file).encode())

    assert (answer.json["active"]["inserted"], answer.json["archived"]["unchanged"]) == (1, 1)


def test_an_unknown_agent_is_an_error_and_leaves_no_file(stored: Memctl) -> None:
    file = stored.database.with_name("backup.json")

    answer = stored("export", "bild_agent", "-o", str(file))

    assert answer.exit_code == 1
    assert complaint(answer) == (
        "memctl: agent 'bild_agent' has no memories; did you mean 'build_agent'?"
    )
    assert not file.exists()


def test_an_empty_database_can_be_exported(engine: Engine) -> None:
    document = engine.memctl.ok("export", "--all").json

    assert document["counts"] == {"active": 0, "archived": 0, "promotions": 0}


def test_a_file_is_written_atomically_and_private_to_its_owner(odd: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "backup.json"
    file.write_text("yesterday's")
    file.chmod(0o644)

    answer = odd.ok("export", "build_agent", "-o", str(file))

    assert (answer.out, answer.err) == ("", "")
    assert file.read_text() == odd.ok("export", "build_agent").out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".backup*"))


def test_a_symbolic_link_stays_a_link(odd: Memctl, tmp_path: Path) -> None:
    (tmp_path / "latest.json").symlink_to("monday.json")

    odd.ok("export", "build_agent", "-o", str(tmp_path / "latest.json"))

    assert (tmp_path / "latest.json").is_symlink()
    assert json.loads((tmp_path / "monday.json").read_text())["agent_id"] == "build_agent"


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_dev_stdout_is_stdout(odd: Memctl, place: str) -> None:
    answer = odd.ok("export", "build_agent", "-o", place)

    assert answer.out == odd.ok("export", "build_agent").out


def test_an_open_descriptor_is_written_in_place(odd: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")

    with file.open("a") as opened:
        os.set_inheritable(opened.fileno(), True)  # as a shell opens it for the program
        write_file(Path(f"/dev/fd/{opened.fileno()}"), ["after\n"], database=odd.database)

    assert file.read_text() == "before\nafter\n"


@pytest.mark.parametrize("name", ["harness.db", "harness.db-wal", "harness.db.memctl.lock"])
def test_the_files_of_the_database_are_not_overwritten(odd: Memctl, name: str) -> None:
    before = everything(odd.database)

    answer = odd("export", "build_agent", "-o", str(odd.database.with_name(name)))

    assert answer.exit_code == 2
    assert "belongs to the database" in complaint(answer)
    assert everything(odd.database) == before


@pytest.mark.parametrize(
    ("place", "exit_code"),
    [
        pytest.param("/dev/null", 2, id="a device"),
        pytest.param(".", 2, id="a directory"),
        pytest.param("nowhere/backup.json", 1, id="no directory"),
        pytest.param("harness.db/backup.json", 1, id="below a file"),
        pytest.param("x" * 300, 1, id="too long a name"),
    ],
)
def test_an_unwritable_output_is_an_error_of_one_line(
    odd: Memctl, tmp_path: Path, place: str, exit_code: int
) -> None:
    answer = odd("export", "build_agent", "-o", str(tmp_path / place))

    assert answer.exit_code == exit_code
    assert complaint(answer).startswith("memctl: ")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="neither agent nor --all"),
        pytest.param(("build_agent", "--all"), id="agent and --all"),
        pytest.param(("--all", "--active-only", "--archived-only"), id="two selections"),
    ],
)
def test_invalid_options_of_export_are_usage_errors(odd: Memctl, words: tuple[str, ...]) -> None:
    answer = odd("export", *words)

    assert answer.exit_code == 2
    assert complaint(answer)


def test_a_memory_that_is_active_and_archived_is_not_exported(
    odd: Memctl,
) -> None:
    with closing(connect(odd.database)) as db:
        insert_memory(db, id="m-2", key="again")

    whole = odd("export", "--all")
    apart = odd("export", "--all", "--active-only")

    assert (whole.exit_code, apart.exit_code) == (3, 0)
    assert complaint(whole) == (
        "memctl: memories that are both active and archived could not be imported: 1, the first "
        "'m-2' of 'build_agent'; delete one of each, or export twice, with --active-only and with "
        "--archived-only"
    )


def add_memories(database: Path) -> None:
    """Make the document larger than a pipe holds."""
    with closing(connect(database)) as db:
        db.execute("BEGIN")
        for _ in range(300):
            insert_memory(db, value="x" * 1000)
        db.execute("COMMIT")


def test_a_closed_pipe_ends_an_export_silently_with_141(
    odd: Memctl,
) -> None:
    add_memories(odd.database)
    process = odd.start("export", "--all")
    assert process.stdout is not None

    process.stdout.close()
    process.stdout = None
    _, complained = process.communicate()

    assert (process.returncode, complained) == (141, b"")


def test_a_document_is_printed_on_a_terminal_only_on_request(odd: Memctl) -> None:
    refused = on_a_terminal(odd, "export", "qa_agent", exit_code=2)
    demanded = on_a_terminal(odd, "export", "qa_agent", "-o", "-")

    assert refused == (
        "memctl: a document is not written to a terminal; redirect stdout, or use -o FILE, or `-o"
        " -` for the terminal\r\n"
    )
    assert demanded == odd.ok("export", "qa_agent").out.replace("\n", "\r\n")


def test_a_slow_reader_blocks_no_other_program(
    odd: Memctl,
) -> None:
    add_memories(odd.database)
    process = odd.start("export", "--all")
    assert process.stdout is not None
    begun = process.stdout.readline()

    with closing(connect(odd.database)) as db:
        db.execute("DELETE FROM agent_memory")
        # The whole log can be checkpointed only if no older snapshot is being read.
        blocked, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    rest = process.stdout.read()
    process.communicate()

    assert blocked == 0
    assert json.loads(begun + rest)["counts"]["active"] == 302


def test_a_gzipped_export_unpacks_to_the_same_document(stored: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "backup.json.gz"
    file.write_bytes(gzip.compress(stored.ok("export", "--all").out.encode()))

    answer = stored.at(NOW + timedelta(days=1)).ok("import", "--all", str(file), "--json")

    assert answer.json["active"]["unchanged"] == 2
    assert "backup.json.gz" in names_beside(stored.database)


def test_a_memory_too_large_to_import_is_not_exported(
    migrated: Memctl, remember: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_format, "MOST_BYTES", 2 << 20)
    remember(id="large", value="Ж" * (1 << 19))

    with pytest.raises(RefusedError) as refusal:
        export_from(migrated.database)

    assert str(refusal.value) == (
        "memory 'large' of 'build_agent' takes more than 2 MiB as JSON, and could not be imported;"
        " use `memctl backup`, or delete the memory"
    )
