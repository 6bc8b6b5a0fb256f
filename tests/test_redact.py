"""`redact`: the text is gone everywhere, to the last byte, and everything else stays."""

import itertools
import json
import os
import pty
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.errors import RefusedError
from memctl.jobs.remains import refusal_of_remains
from memctl.storage.erasure import Overwritten
from memctl.storage.redaction import MARKER, finder, forms_of, redacted
from memctl.storage.sqlite.database import open_database, transaction
from memctl.storage.sqlite.redacting import redact_memories
from memctl.storage.sqlite.tombstones import find_tombstones
from tests.support.database import connect, insert_memory, memory_tables, names_beside, rows
from tests.support.kills import killed_before, one_of_each_kind
from tests.support.program import NOW, PROGRAM, Memctl, complaint
from tests.support.properties import examples
from tests.support.secrets import SECRETS, TOKEN, files_with

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NAMED = ("build_agent", "--type", "learning", "--key", "ci")
REDACT = ("redact", *NAMED, "--match", TOKEN, "--yes")
GONE = MARKER.decode()


@pytest.fixture
def everywhere(db: sqlite3.Connection, migrated: Memctl) -> Memctl:
    """A memory with the token in each place: four versions, events, a hold, and knowledge."""
    columns: dict[str, Any] = {"key": "ci", "importance": 9, "access_count": 9, "idle_days": 20}
    for number in (1, 2):
        insert_memory(
            db, **columns, id=f"old {number}", value=f"v{number} {TOKEN}", expired_for=HOUR
        )
        migrated.ok("cleanup")
    insert_memory(db, **columns, id="new", value=f"use {TOKEN}", metadata=f'{{"t": "{TOKEN}"}}')
    insert_memory(db, id="other", key="other", value="another memory")
    migrated.ok("promote")
    migrated.ok("hold", *NAMED, "--reason", f"until {TOKEN} is replaced", "--until", "2026-11-23")
    return migrated.at(NOW + 2 * DAY)


def contents(db: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table with the token replaced, as the redaction should leave them."""
    return [
        tuple(value.replace(TOKEN, GONE) if isinstance(value, str) else value for value in row)
        for row in rows(db, table)
    ]


def test_the_text_is_replaced_in_every_version_and_nothing_else_changes(
    db: sqlite3.Connection, everywhere: Memctl
) -> None:
    expected = {table: contents(db, table) for table in ("agent_memory", "archived_memories")}

    answer = everywhere.ok(*REDACT, "--json")

    assert {table: rows(db, table) for table in expected} == expected
    assert answer.json["redacted"] == 3
    assert answer.json["occurrences"] == 4
    assert answer.json["overwriting"]["is_complete"]
    assert answer.json["changed_rows"] == {
        "agent_memory": 1,
        "archived_memories": 2,
        "knowledge_entries": 1,
        "memory_events": 1,
        "memory_holds": 1,
    }
    assert rows(db, "knowledge_entries", "content") == [(f"use {GONE}",)]


def test_no_byte_of_the_text_is_in_any_file(db: sqlite3.Connection, everywhere: Memctl) -> None:
    db.execute("DELETE FROM agent_memory WHERE id = 'other'")
    db.execute(
        "INSERT INTO agent_memory (id, agent_id, type, key, value) VALUES ('x','a','t','k',?)",
        (f"{TOKEN} " * 500,),
    )
    db.execute("DELETE FROM agent_memory WHERE id = 'x'")  # leaves free pages
    assert files_with(TOKEN, everywhere.database.parent) != []

    everywhere.ok(*REDACT)

    assert files_with(TOKEN, everywhere.database.parent) == []
    assert files_with(TOKEN[:24], everywhere.database.parent) == []


def test_each_changed_version_has_an_event_and_the_ledger_the_counts(
    db: sqlite3.Connection, everywhere: Memctl
) -> None:
    everywhere.ok(*REDACT)

    events = everywhere.ok("events", "--since", "0", "--nl").out
    redacted_ids = [
        event["memory_id"]
        for event in map(json.loads, events.splitlines())
        if event["event"] == "memory:redacted"
    ]
    assert sorted(redacted_ids) == ["new", "old 1", "old 2"]
    (run,) = json.loads(everywhere.ok("runs", "--job", "redact").out)
    assert (run["status"], run["counts"]["redacted"]) == ("ok", 3)


def test_other_memories_with_the_same_text_are_counted(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for key in ("ci", "another", "third"):
        insert_memory(db, key=key, value=TOKEN)

    answer = migrated.ok(*REDACT)

    assert "other rows contain the same text or a part of it: 2 in agent_memory" in answer.err
    assert TOKEN not in answer.err


def test_a_redacted_memory_is_not_promoted_again(
    db: sqlite3.Connection, everywhere: Memctl
) -> None:
    everywhere.ok(*REDACT)

    answer = everywhere.ok("promote", "--json")

    assert [answer.json[name] for name in ("promoted", "merged", "superseded")] == [0, 0, 0]
    assert len(rows(db, "knowledge_entries")) == 1


def test_a_redaction_archives_nothing(db: sqlite3.Connection, migrated: Memctl) -> None:
    migrated.ok("enable", "archive-on-replace")
    migrated.ok("enable", "archive-on-delete")
    insert_memory(db, key="ci", value=TOKEN)

    migrated.ok(*REDACT)

    assert rows(db, "archived_memories") == []
    assert rows(db, "agent_memory", "value") == [(GONE,)]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(f"{TOKEN}{TOKEN}", f"{GONE}{GONE}", id="twice without a gap"),
        pytest.param(f"a\0b {TOKEN}\0", f"a\0b {GONE}\0", id="after a NUL"),
        pytest.param(b"\xff\xfe" + TOKEN.encode(), b"\xff\xfe" + MARKER, id="in a BLOB"),
        pytest.param(f"half \udcf0\udc9f {TOKEN}", f"half \udcf0\udc9f {GONE}", id="invalid UTF-8"),
        pytest.param(f'["{TOKEN}"]', f'["{GONE}"]', id="in JSON"),
        pytest.param("x" * 200_000 + TOKEN, "x" * 200_000 + GONE, id="across pages"),
    ],
)
@pytest.mark.parametrize("column", ["value", "metadata"])
def test_odd_contents_keep_their_type_and_all_other_bytes(
    db: sqlite3.Connection, migrated: Memctl, column: str, stored: Any, expected: Any
) -> None:
    insert_memory(db, key="ci")
    content = stored if isinstance(stored, bytes) else stored.encode("utf-8", "surrogateescape")
    as_text = "CAST(? AS TEXT)" if isinstance(stored, str) else "?"
    db.execute(f"UPDATE agent_memory SET {column} = {as_text}", (content,))

    migrated.ok(*REDACT)

    assert rows(db, "agent_memory", column) == [(expected,)]
    assert files_with(TOKEN, migrated.database.parent) == []


def test_a_text_is_found_as_json_writes_it(db: sqlite3.Connection, migrated: Memctl) -> None:
    text = 'pass"word/é\nx'
    stored = [json.dumps({"v": text}), json.dumps({"v": text}, ensure_ascii=False), f"plain {text}"]
    for number, value in enumerate(stored):
        insert_memory(db, id=f"m{number}", key=f"k{number}", value=value)

    migrated.ok("redact", "build_agent", "m0", "m1", "m2", "--match", text, "--yes")

    assert rows(db, "agent_memory", "value") == [
        (f'{{"v": "{GONE}"}}',),
        (f'{{"v": "{GONE}"}}',),
        (f"plain {GONE}",),
    ]


def test_stdin_gives_the_text_without_its_last_newline(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, key="ci", value=f"a {SECRETS['private-key']} b")

    migrated.ok(
        "redact", *NAMED, "--match", "-", "--yes", given=f"{SECRETS['private-key']}\n".encode()
    )

    assert rows(db, "agent_memory", "value") == [(f"a {GONE} b",)]


def test_what_the_detector_finds_is_replaced_as_a_whole(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for kind, secret in SECRETS.items():
        insert_memory(db, id=kind, key=kind, value=json.dumps({"v": f"a {secret} b"}))

    migrated.ok("redact", "build_agent", *SECRETS, "--secrets", "--yes")

    assert set(rows(db, "agent_memory", "value")) == {(f'{{"v": "a {GONE} b"}}',)}
    assert migrated.ok("check", "--secrets", "--json").json["secrets"] == []


def test_a_preview_counts_the_same_and_changes_nothing(everywhere: Memctl) -> None:
    before = memory_tables(everywhere.database), names_beside(everywhere.database)

    preview = everywhere.ok(*REDACT, "--dry-run", "--json")

    assert (memory_tables(everywhere.database), names_beside(everywhere.database)) == before
    real = everywhere.ok(*REDACT, "--json")
    for name in ("redacted", "occurrences", "rows", "changed_rows", "agents"):
        assert preview.json[name] == real.json[name]


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        pytest.param(
            REDACT[:-1],
            3,
            "memctl: a redaction cannot be undone; confirm with --yes; nothing was changed",
            id="without --yes",
        ),
        pytest.param(
            ("redact", *NAMED, "--match", "not there", "--yes"),
            1,
            "memctl: the memory does not contain the text; see `memctl check --secrets`, or search"
            " without a part of it; nothing was changed",
            id="a text that is not there",
        ),
        pytest.param(
            ("redact", *NAMED, "--match", "abc", "--yes"),
            2,
            "memctl: the text to redact has fewer than 4 bytes; it would be found by chance: use"
            " `memctl erase` to remove whole memories",
            id="a short text",
        ),
        pytest.param(
            ("redact", *NAMED, "--match", "redact", "--yes"),
            2,
            "memctl: the text to redact is a part of [redacted], which would replace it; use"
            " `memctl erase` to remove whole memories",
            id="a part of the marker",
        ),
        pytest.param(
            ("redact", *NAMED, "--yes"),
            2,
            "memctl: exactly one of --match and --secrets is required; see `memctl redact --help`",
            id="nothing to replace",
        ),
        pytest.param(
            ("redact", "build_agent", "--match", TOKEN, "--yes"),
            2,
            "memctl: exactly one of ids and --type with --key is required; see `memctl redact"
            " --help`",
            id="no memory",
        ),
        pytest.param(
            ("redact", "build_agent", "nobody", "--match", TOKEN, "--yes"),
            1,
            "memctl: agent 'build_agent' has no memory 'nobody'; specify memories by id, not by"
            " key; nothing was changed",
            id="an unknown id",
        ),
        pytest.param(
            ("redact", "qa_agent", "m", "--match", TOKEN, "--yes"),
            1,
            "memctl: agent 'qa_agent' has no memories; did you mean 'build_agent'?",
            id="another agent",
        ),
    ],
)
def test_a_refusal_is_one_line_and_changes_nothing(
    db: sqlite3.Connection,
    migrated: Memctl,
    words: tuple[str, ...],
    exit_code: int,
    message: str,
) -> None:
    insert_memory(db, id="m", key="ci", value=f"redacted abc {TOKEN}")
    before = memory_tables(migrated.database)

    answer = migrated(*words)

    assert (answer.exit_code, complaint(answer)) == (exit_code, message)
    assert memory_tables(migrated.database) == before
    assert rows(db, "memory_runs") == []


def test_a_held_memory_is_refused(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, key="ci", value=TOKEN)
    migrated.ok("hold", *NAMED)

    answer = migrated(*REDACT)

    assert (answer.exit_code, complaint(answer)) == (
        3,
        "memctl: the memory 'build_agent' learning 'ci' is held; see `memctl holds`, and end the"
        " hold with `memctl release` first; nothing was changed",
    )
    assert rows(db, "agent_memory", "value") == [(TOKEN,)]


@pytest.mark.parametrize("option", [("--match", TOKEN), ("--secrets",)], ids=" ".join)
def test_a_text_in_a_key_is_refused_and_not_shown(
    db: sqlite3.Connection, migrated: Memctl, option: tuple[str, ...]
) -> None:
    insert_memory(db, id="m", key=f"ci {TOKEN}", value=TOKEN)

    answer = migrated("redact", "build_agent", "m", *option, "--yes")

    assert answer.exit_code == 3
    assert "use `memctl erase` to remove the whole memory" in complaint(answer)
    assert TOKEN not in answer.err
    assert rows(db, "agent_memory", "value") == [(TOKEN,)]


OUTPUTS = [(), ("--json",), ("--verbose",), ("--log-format", "json"), ("--dry-run",)]


@pytest.mark.parametrize("options", OUTPUTS, ids=" ".join)
@pytest.mark.parametrize("what", [("--match", "-"), ("--secrets",)], ids=" ".join)
def test_no_output_contains_the_text(
    everywhere: Memctl, options: tuple[str, ...], what: tuple[str, ...], tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    given = TOKEN.encode()

    answer = everywhere.ok(
        "redact", *NAMED, *what, "--yes", "--receipt", str(receipt), *options, given=given
    )

    assert TOKEN not in answer.out + answer.err
    if "--dry-run" not in options:
        assert files_with(TOKEN, tmp_path) == []


def test_the_receipt_names_what_was_done_and_a_fingerprint(
    db: sqlite3.Connection, everywhere: Memctl, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"

    answer = everywhere.ok(*REDACT, "--json", "--receipt", str(receipt))

    document = json.loads(receipt.read_text())
    assert answer.json == {"schema": 1, **document}
    assert document["occurrences"] == 4
    assert document["overwriting"]["remains"] == {}
    hashes = rows(db, "memory_tombstones", "hex(secret_hash)")
    assert [(mark.upper(),) for mark in document["fingerprints"]] == hashes
    assert receipt.stat().st_mode & 0o777 == 0o600


def test_backups_that_may_contain_the_text_are_counted(everywhere: Memctl) -> None:
    everywhere.ok("backup")

    answer = everywhere.ok(*REDACT)

    assert "1 backup may still contain it" in answer.err
    assert len(files_with(TOKEN, everywhere.database.parent)) == 1


def test_backups_are_rewritten_on_request(everywhere: Memctl) -> None:
    everywhere.ok("backup")
    preview = everywhere.ok(*REDACT, "--backups", "--dry-run", "--json")

    answer = everywhere.ok(*REDACT, "--backups", "--json")

    assert answer.json["backups"] == preview.json["backups"]
    assert [copy["action"] for copy in answer.json["backups"]] == ["rewritten"]
    assert files_with(TOKEN, everywhere.database.parent) == []
    (copy,) = (Path(copy["path"]) for copy in answer.json["backups"])
    everywhere.ok("backup", "--verify", str(copy))


def test_a_restored_backup_is_redacted(db: sqlite3.Connection, everywhere: Memctl) -> None:
    copy = everywhere.database.with_name("copy.db")
    everywhere.ok("backup", "-o", str(copy))
    everywhere.ok(*REDACT)
    db.close()

    everywhere("backup", "--restore", str(copy))

    with closing(connect(everywhere.database)) as restored:
        assert TOKEN not in "\n".join(restored.iterdump())
        assert ("new", f"use {GONE}") in rows(restored, "agent_memory", "id, value")


def test_a_terminal_is_asked(everywhere: Memctl, db: sqlite3.Connection) -> None:
    for reply, status in (("n\n", 3), ("y\n", 0)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [PROGRAM, *REDACT[:-1]],
            env=everywhere.environment(),
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.write(ours, reply.encode())
        assert process.wait() == status
        os.close(theirs)
        os.close(ours)

    assert rows(db, "agent_memory", "value")[0] == (f"use {GONE}",)


def test_the_text_does_not_come_back_with_an_import(
    db: sqlite3.Connection, everywhere: Memctl, tmp_path: Path
) -> None:
    document = tmp_path / "document.json"
    everywhere.ok("export", "--all", "-o", str(document))
    everywhere.ok(*REDACT)
    expected = {table: rows(db, table) for table in ("agent_memory", "archived_memories")}

    answer = everywhere("import", "--all", str(document), "--on-conflict", "replace")

    assert answer.exit_code == 3
    assert answer.err.endswith(
        "memctl: the document contains texts that were redacted in the database, in 3 memories;"
        " they are replaced by [redacted]; delete the document, or export again\n"
    )
    assert {table: rows(db, table) for table in expected} == expected
    assert everywhere.ok("promote", "--json").json["superseded"] == 0
    document.unlink()
    assert files_with(TOKEN, everywhere.database.parent) == []


def test_an_import_for_another_agent_is_redacted_as_well(
    db: sqlite3.Connection, everywhere: Memctl, tmp_path: Path
) -> None:
    document = tmp_path / "document.json"
    everywhere.ok("export", "build_agent", "-o", str(document))
    everywhere.ok(*REDACT)

    answer = everywhere("import", str(document), "--reassign-agent", "qa_agent")

    assert answer.exit_code == 3
    found = db.execute("SELECT count(*) FROM agent_memory WHERE instr(value, ?)", (TOKEN,))
    assert found.fetchone() == (0,)


def test_a_check_reports_a_text_that_is_written_again(
    db: sqlite3.Connection, everywhere: Memctl
) -> None:
    everywhere.ok(*REDACT)
    assert "redacted_again" not in everywhere("check", "--json").out
    db.execute("UPDATE agent_memory SET value = ? WHERE key = 'ci'", (f"again {TOKEN}",))

    answer = everywhere("check", "--json")

    assert answer.exit_code == 3
    assert [
        (finding["severity"], finding["message"])
        for finding in answer.json["findings"]
        if finding["code"] == "redacted_again"
    ] == [("warning", "a text that was redacted in 'build_agent' learning 'ci' was written again")]
    assert TOKEN not in answer.out


def test_a_redaction_that_was_killed_is_completed_by_the_same_command(
    everywhere: Memctl, tmp_path: Path
) -> None:
    unkilled = tmp_path / "unkilled"
    template = everywhere
    with closing(connect(template.database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    unkilled.mkdir()
    copy = Memctl(unkilled / "harness.db").at(template.now)
    shutil.copyfile(template.database, copy.database)
    steps = one_of_each_kind(copy, REDACT)

    killed = 0
    for left in killed_before(steps, template, REDACT, tmp_path):
        killed += 1
        left.ok(*REDACT)
        assert files_with(TOKEN, left.database.parent) == []
        assert left.ok("promote", "--json").json["promoted"] == 0

    assert killed > 10


def test_a_reader_that_keeps_the_log_is_reported_and_the_rest_done_later(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, key="ci", value=TOKEN)
    db.execute("BEGIN")
    db.execute("SELECT * FROM agent_memory").fetchall()

    answer = migrated(*REDACT, "--lock-wait", "0")

    assert answer.exit_code == 3
    assert answer.err.splitlines()[-1] == (
        "memctl: the text was replaced, but a reader keeps the write-ahead log from being emptied;"
        " end long reads of other programs, then run `memctl erase --continue`"
    )
    db.execute("COMMIT")
    assert "erase_pending" in migrated("check", "--json").out
    migrated.ok("erase", "--continue")
    assert files_with(TOKEN, migrated.database.parent) == []
    assert "erase_pending" not in migrated("check", "--json").out


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_old_database_is_redacted_by_the_tombstones_of_the_present_one(
    db: sqlite3.Connection, everywhere: Memctl, tmp_path: Path, step: int
) -> None:
    copy = everywhere.database.with_name("copy.db")
    everywhere.ok("backup", "-o", str(copy))
    old = Memctl(copy).at(everywhere.now)
    old.ok("rollback", "--to", str(step), "--yes")
    everywhere.ok(*REDACT)

    with open_database(copy) as opened, transaction(opened):
        redaction = redact_memories(opened, find_tombstones(db), now=everywhere.now)

    assert redaction.places["agent_memory"] == 1
    with closing(connect(copy)) as opened:
        dump = "\n".join(opened.iterdump())
    assert TOKEN not in dump
    assert f"use {GONE}" in dump


def test_a_text_that_the_marker_would_create_again_is_refused(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, key="ci", value="]secret]secretsecret")

    answer = migrated("redact", *NAMED, "--match", "]secret", "--yes")

    assert answer.exit_code == 3
    assert rows(db, "agent_memory", "value") == [("]secret]secretsecret",)]


def test_a_trigger_that_changes_what_is_written_ends_the_redaction(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, key="ci", value=TOKEN)
    db.execute(
        "CREATE TRIGGER theirs AFTER UPDATE OF value ON agent_memory"
        " BEGIN UPDATE agent_memory SET value = OLD.value || '!' WHERE rowid = NEW.rowid; END"
    )

    answer = migrated(*REDACT)

    assert (answer.exit_code, complaint(answer)) == (
        12,
        "memctl: a trigger of another program changes what is written (theirs); the interrupted"
        " step was rolled back; change the trigger in the program that created it",
    )
    assert rows(db, "agent_memory", "value") == [(TOKEN,)]


contents_of_rows = st.lists(
    st.sampled_from([TOKEN, TOKEN[:-1], "x", '"', "\\", "\0", "é"]), max_size=5
)


@examples(5)
@given(
    stored=st.lists(
        st.tuples(
            st.sampled_from(["agent_memory", "archived_memories"]),
            st.booleans(),
            contents_of_rows.map("".join),
            contents_of_rows.map("".join),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_redaction_equals_a_replacement_of_bytes_in_every_row(
    stored: list[tuple[str, bool, str, str]],
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    memctl = Memctl(tmp_path_factory.mktemp("rows") / "harness.db")
    shutil.copyfile(template, memctl.database)
    with closing(connect(memctl.database)) as db:
        for number, (table, is_blob, value, metadata) in enumerate(stored):
            insert_version(db, table, number, is_blob, value, metadata)
        expected = {table: contents_in(db, table, replaced=True) for table in VERSIONS}
        before = {table: contents_in(db, table, replaced=False) for table in VERSIONS}

        answer = memctl(*REDACT)

        assert answer.exit_code == (1 if before == expected else 0)
        assert {table: contents_in(db, table, replaced=False) for table in VERSIONS} == expected
    assert files_with(TOKEN, memctl.database.parent) == []


VERSIONS = ("agent_memory", "archived_memories")


def insert_version(
    db: sqlite3.Connection, table: str, number: int, is_blob: bool, value: str, metadata: str
) -> None:
    """Insert a version of the memory; of active ones, the first is kept."""
    more = ("", "") if table == "agent_memory" else (", archived_at, archived_reason", ", 't', 'x'")
    db.execute(
        f"INSERT OR IGNORE INTO {table} (id, agent_id, type, key, value, metadata{more[0]})"
        f" VALUES (?, 'build_agent', 'learning', 'ci', ?, ?{more[1]})",
        (f"m{number}", value.encode() if is_blob else value, metadata),
    )


def contents_in(db: sqlite3.Connection, table: str, *, replaced: bool) -> list[tuple[Any, ...]]:
    """Return type and bytes of all columns; with the token replaced by the marker if `replaced`."""
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    exact = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in names)
    return [
        tuple(
            value.replace(TOKEN.encode(), MARKER)
            if replaced and isinstance(value, bytes)
            else value
            for value in row
        )
        for row in db.execute(f"SELECT {exact} FROM {table} ORDER BY rowid")
    ]


texts = st.text(st.sampled_from('ab"\\/\né'), min_size=4, max_size=8)


@given(text=texts, parts=st.lists(st.text(st.sampled_from('ab"\\/\né[')), max_size=4))
def test_replacing_is_that_of_bytes_and_leaves_no_form(text: str, parts: list[str]) -> None:
    content = text.join(parts).encode()
    forms = forms_of(text)

    try:
        result, found = redacted(content, finder(forms))
    except RefusedError:
        return

    expected = content
    for form in sorted(found, key=len, reverse=True):
        expected = expected.replace(form, MARKER)
    assert result == expected
    assert not any(form in result for form in forms)
    assert set(found) == {form for form in forms if form in content}


@pytest.mark.parametrize(
    ("truncated", "stalls", "remains"),
    list(itertools.product([True, False], [True, False], [0, 1])),
)
def test_a_redaction_is_refused_unless_nothing_is_left_of_the_text(
    truncated: bool, stalls: bool, remains: int
) -> None:
    done = Overwritten(
        log_truncated=truncated, would_stall=stalls, remains=+Counter({"memories.db": remains})
    )

    refusal = refusal_of_remains(done, removed="the text was replaced", of_it="of it")

    assert (refusal is None) == done.is_clean
