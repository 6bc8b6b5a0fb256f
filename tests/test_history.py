"""history, and the restore of a version: each kept version, its place in time, and its return."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from memctl import AgentMemory
from memctl.storage.memory import MemoryType
from tests.support.database import connect, insert_memory, rows
from tests.support.program import NOW, Answer, Memctl, Words

NAME: tuple[str, MemoryType, str] = ("build_agent", "learning", "k")
OF_NAME = ("--type", "learning", "--key", "k")
BROKEN = "CAST(x'ed61' AS TEXT)"


def archive_version(db: sqlite3.Connection, minute: int, value: str, **columns: Any) -> None:
    """Add an archived version, replaced in a minute after nine."""
    row = {
        "id": f"m-{minute}",
        "agent_id": "build_agent",
        "type": "learning",
        "key": "k",
        "value": value,
        "importance": 5,
        "created_at": "2026-11-22 09:00:00",
        "archived_at": f"2026-11-22T09:{minute:02}:00Z",
        "archived_reason": "replaced",
        **columns,
    }
    marks = ", ".join("?" for _ in row)
    db.execute(
        f"INSERT INTO archived_memories ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
    )


@pytest.fixture
def versions(db: sqlite3.Connection, migrated: Memctl) -> Memctl:
    """A memory with three archived versions, the oldest of which an import added last."""
    archive_version(db, 20, "second\nline", metadata="{}")
    archive_version(db, 30, "third\nline", id="now~2026-11-22T09:30:00Z", importance=7)
    archive_version(db, 10, "first", archived_reason="deleted")
    insert_memory(db, id="now", key="k", value="active", created_at="2026-11-22 09:20:00")
    return migrated


def values(memctl: Memctl) -> list[tuple[int, str, str]]:
    """Return number, state and excerpt of each version."""
    found = memctl.ok("history", *NAME).json
    return [(line["version"], line["state"], line["excerpt"]) for line in found]


def test_the_versions_are_listed_oldest_first_with_what_replaced_them(versions: Memctl) -> None:
    found = versions.ok("history", *NAME).json

    archived = {"state": "archived", "run_id": None}
    assert found == [
        {
            **archived,
            "version": 1,
            "id": "m-10",
            "written_at": "2026-11-22T09:00:00Z",
            "archived_at": "2026-11-22T09:10:00Z",
            "archived_reason": "deleted",
            "replaced_by": None,
            "archive_id": 3,
            "importance": 5,
            "excerpt": "first",
        },
        {
            **archived,
            "version": 2,
            "id": "m-20",
            "written_at": "2026-11-22T09:00:00Z",
            "archived_at": "2026-11-22T09:20:00Z",
            "archived_reason": "replaced",
            "replaced_by": "now~2026-11-22T09:30:00Z",
            "archive_id": 1,
            "importance": 5,
            "excerpt": "second line",
        },
        {
            **archived,
            "version": 3,
            "id": "now~2026-11-22T09:30:00Z",
            "written_at": "2026-11-22T09:00:00Z",
            "archived_at": "2026-11-22T09:30:00Z",
            "archived_reason": "replaced",
            "replaced_by": "now",
            "archive_id": 2,
            "importance": 7,
            "excerpt": "third line",
        },
        {
            "version": 4,
            "state": "active",
            "id": "now",
            "written_at": "2026-11-22T09:30:00Z",  # the UPDATE did not change created_at
            "archived_at": None,
            "archived_reason": None,
            "replaced_by": None,
            "run_id": None,
            "archive_id": None,
            "importance": 5,
            "excerpt": "active",
        },
    ]


def test_a_page_of_the_versions_keeps_their_numbers(versions: Memctl) -> None:
    answer = versions.ok("history", *NAME, "--offset", "1", "--limit", "2", "--columns", "version")
    table = versions.ok("history", *NAME, "-t", "--columns", "version,state,excerpt")

    assert answer.json == [{"version": 2}, {"version": 3}]
    assert answer.err == "history: there are more than 2 rows; see --limit and --offset\n"
    assert table.out == (
        "version  state     excerpt\n"
        "      1  archived  first\n"
        "      2  archived  second line\n"
        "      3  archived  third line\n"
        "      4  active    active\n"
    )


def test_a_page_after_the_last_version_is_empty(versions: Memctl) -> None:
    assert versions.ok("history", *NAME, "--offset", "4").json == []


def test_a_diff_shows_the_lines_and_the_fields_that_changed(versions: Memctl) -> None:
    text = versions.ok("history", *NAME, "--diff", "2", "3")
    document = versions.ok("history", *NAME, "--diff", "2", "3", "--json").json
    same = versions.ok("history", *NAME, "--diff", "4", "4")

    diff = ["--- version 2", "+++ version 3", "@@ -1,2 +1,2 @@", "-second", "+third", " line"]
    changes = ["importance  5 -> 7", "metadata    {} -> none"]
    assert text == Answer(0, "\n".join([*changes, *diff, ""]), "")
    assert document == {
        "schema": 1,
        "agent_id": "build_agent",
        "type": "learning",
        "key": "k",
        "from_version": 2,
        "to_version": 3,
        "changes": [
            {"field": "importance", "before": 5, "after": 7},
            {"field": "metadata", "before": "{}", "after": None},
        ],
        "diff": diff,
    }
    assert (same.out, same.err) == ("", "history: versions 4 and 4 are the same\n")


def test_values_of_any_kind_have_a_history(db: sqlite3.Connection, migrated: Memctl) -> None:
    db.execute(
        "INSERT INTO archived_memories"
        " (id, agent_id, type, key, value, archived_at, archived_reason) VALUES"
        f" (NULL, 'build_agent', 'mood', {BROKEN}, x'ff00', '2026-11-22T09:10:00Z', 'replaced'),"
        f" (x'01', 'build_agent', 'mood', {BROKEN}, {BROKEN}, '2026-11-22T09:20:00Z', 'deleted')"
    )

    found = migrated.ok("history", b"build_agent", b"mood", b"\xeda").json
    shown = migrated.ok("history", b"build_agent", b"mood", b"\xeda", "--diff", "1", "2").out

    assert [(line["id"], line["written_at"]) for line in found] == [
        (None, None),
        ({"blob_base64": "AQ=="}, None),
    ]
    assert [line["excerpt"] for line in found] == [{"base64": "/wA="}, {"base64": "7WE="}]
    assert shown.splitlines()[-2:] == ["-\\udcff\\x00", "+\\udceda"]


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        pytest.param(
            ("build_agent", "learning", "K"),
            1,
            "agent 'build_agent' never had a memory learning 'K'; did you mean learning 'k'?",
            id="an unknown key",
        ),
        pytest.param(
            ("nobody", "learning", "k"),
            1,
            "agent 'nobody' has no memories; names are case-sensitive",
            id="an unknown agent",
        ),
        pytest.param(
            ("build_agent", "lerning", "k"),
            2,
            "there is no type 'lerning'; use context, learning, preference, error_pattern,"
            " success_pattern",
            id="an unknown type",
        ),
        pytest.param(
            (*NAME, "--diff", "1", "5"),
            1,
            "there is no version 5: 4 versions kept; `memctl history` lists them",
            id="an unknown version",
        ),
        pytest.param(
            (*NAME, "--diff", "1", "2", "--csv"),
            2,
            "--diff cannot be used with options for the list; use it alone or with --json",
            id="a diff as CSV",
        ),
    ],
)
def test_what_history_cannot_show_is_an_error_of_one_line(
    versions: Memctl, words: Words, exit_code: int, message: str
) -> None:
    assert versions("history", *words) == Answer(exit_code, "", f"memctl: {message}\n")


def test_explain_names_the_earlier_ids(versions: Memctl) -> None:
    document = versions.ok("explain", *NAME, "--json").json
    text = versions.ok("explain", *NAME).out

    assert document["earlier_ids"] == ["m-10", "m-20"]
    assert "\nearlier ids   'm-10', 'm-20'\n" in text


# Restoring a version


@pytest.mark.parametrize(
    ("number", "value", "restored_id"),
    [("1", "first", "m-10"), ("2", "second\nline", "m-20"), ("3", "third\nline", "now")],
)
def test_a_version_comes_back_under_a_usable_id_and_what_it_replaces_is_archived(
    db: sqlite3.Connection, versions: Memctl, number: str, value: str, restored_id: str
) -> None:
    words = ("restore", "build_agent", *OF_NAME, "--version", number)
    before = rows(db, "archived_memories")

    preview = versions.ok(*words, "--dry-run", "--json").json
    unchanged = rows(db, "archived_memories") == before
    done = versions.ok(*words, "--json").json

    counts = {"restored": 1, "skipped": 0, "replaced": 1, "held": 0}
    assert unchanged
    assert {name: preview[name] for name in counts} == counts
    assert {name: done[name] for name in counts} == counts
    assert rows(db, "agent_memory", "id, value") == [(restored_id, value)]
    ((newest, reason, run_id),) = db.execute(
        "SELECT value, archived_reason, run_id FROM archived_memories ORDER BY archive_id DESC"
        " LIMIT 1"
    ).fetchall()
    assert (newest, reason, run_id) == ("active", "replaced", 1)
    assert len(rows(db, "archived_memories")) == 3


def test_without_a_number_the_newest_archived_version_comes_back(versions: Memctl) -> None:
    versions.ok("restore", "build_agent", *OF_NAME)

    assert values(versions)[-2:] == [(3, "archived", "active"), (4, "active", "third line")]


def test_the_restore_of_a_version_is_undone_by_its_run(
    db: sqlite3.Connection, versions: Memctl
) -> None:
    versions.ok("restore", "build_agent", *OF_NAME, "--version", "3")

    versions.ok("restore", "--run", "1", "--on-conflict", "replace")

    assert rows(db, "agent_memory", "id, value") == [("now", "active")]
    assert sorted(excerpt for _, _, excerpt in values(versions)) == [
        "active",
        "first",
        "second line",
        "third line",
    ]


@pytest.mark.parametrize(
    ("rule", "exit_code", "message"),
    [
        (
            "fail",
            3,
            "memctl: 1 memory conflicts with an active memory: 'build_agent' learning 'k';"
            " use --on-conflict skip or replace; nothing was changed\n",
        ),
        ("skip", 0, ""),
    ],
)
def test_a_version_stays_archived_if_the_rule_says_so(
    versions: Memctl, rule: str, exit_code: int, message: str
) -> None:
    before = values(versions)

    answer = versions("restore", "build_agent", *OF_NAME, "--on-conflict", rule)

    assert answer == Answer(exit_code, "", message)
    assert values(versions) == before


def test_a_version_of_a_held_memory_is_not_restored(versions: Memctl) -> None:
    versions.ok("hold", "build_agent", *OF_NAME)
    before = values(versions)

    answer = versions("restore", "build_agent", *OF_NAME, "--version", "1")

    assert (answer.exit_code, answer.out) == (3, "")
    assert "held" in answer.err
    assert values(versions) == before


def test_a_version_can_be_restored_after_an_export_and_an_import(
    db: sqlite3.Connection, versions: Memctl
) -> None:
    before = values(versions)
    document = versions.ok("export", "--all").out.encode()
    for table in ("agent_memory", "archived_memories"):
        db.execute(f"DELETE FROM {table}")

    versions.ok("import", "--all", "-", given=document)
    after = values(versions)
    versions.ok("restore", "build_agent", *OF_NAME, "--version", "3")

    assert after == before
    assert rows(db, "agent_memory", "id, value") == [("now", "third\nline")]


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        pytest.param(
            ("build_agent", *OF_NAME, "--version", "4"),
            1,
            "the archive has 3 versions of 'build_agent' learning 'k', but no version 4;"
            " `memctl history` lists them",
            id="an unknown version",
        ),
        pytest.param(
            ("build_agent", "--type", "learning", "--key", "x"),
            1,
            "the archive has no version of 'build_agent' learning 'x'; `memctl explain` shows what"
            " happened to it",
            id="an unknown key",
        ),
        pytest.param(
            ("build_agent", "--key", "k"),
            2,
            "--type and --key must be used together; specify both",
            id="no type",
        ),
        pytest.param(
            ("build_agent", "--version", "1"),
            2,
            "--version requires --type and --key; specify both",
            id="no name",
        ),
        pytest.param(
            ("build_agent", "m-10", *OF_NAME),
            2,
            "--key cannot be used with ids, --run, --reason or --since; use one of them",
            id="an id too",
        ),
    ],
)
def test_what_restore_cannot_find_is_an_error_of_one_line(
    versions: Memctl, words: Words, exit_code: int, message: str
) -> None:
    before = values(versions)

    answer = versions("restore", *words)

    assert answer == Answer(exit_code, "", f"memctl: {message}\n")
    assert values(versions) == before


def test_the_api_returns_and_restores_versions(versions: Memctl) -> None:
    with AgentMemory(versions.database, clock=lambda: NOW) as memories:
        found = memories.history(*NAME)
        page = memories.history(*NAME, limit=1, offset=1)
        restored = memories.restore(
            "build_agent", type="learning", key="k", version=2, on_conflict="replace"
        )
        active = memories.recall(*NAME)

    assert [(version.version, version.value) for version in found] == [
        (1, "first"),
        (2, "second\nline"),
        (3, "third\nline"),
        (4, "active"),
    ]
    assert page == found[1:2]
    assert restored == 1
    assert active is not None
    assert (active.id, active.value) == ("m-20", "second\nline")


def test_a_client_that_overwrites_a_value_makes_a_version(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    migrated.ok("enable", "archive-on-replace")
    insert_memory(db, id="m", key="k", value="one")
    with closing(connect(migrated.database)) as client:
        for value in ("two", "three"):
            client.execute("UPDATE agent_memory SET value = ?", (value,))

    assert values(migrated) == [
        (1, "archived", "one"),
        (2, "archived", "two"),
        (3, "active", "three"),
    ]
    migrated.ok("restore", "build_agent", *OF_NAME, "--version", "1")
    assert rows(db, "agent_memory", "id, value") == [("m", "one")]
