"""`check --secrets`: it names memories that contain keys and tokens, and never shows these."""

import json
import sqlite3
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.storage.sqlite.secrets import PAGE_ROWS, searched_pages
from memctl.storage.text import from_bytes
from tests.support.database import connect, everything, insert_memory
from tests.support.odd_values import ODD_NAMES
from tests.support.program import PROGRAM, Answer, Memctl, complaint
from tests.support.secrets import (
    AWS_KEY_ID,
    AWS_SECRET,
    OTHER_TOKEN,
    PASSWORD,
    SECRETS,
    TOKEN,
)

HOUR = timedelta(hours=1)
NAMES = [name for name in ODD_NAMES if name.values != (b"",)]  # no command takes an empty agent


def found(answer: Answer) -> list[tuple[Any, ...]]:
    """Return key, kind, place and field of each secret in the JSON of a check."""
    return [
        (memory["key"], secret["kind"], secret["place"], secret["found_in"], secret["count"])
        for memory in answer.json["secrets"]
        for secret in memory["secrets"]
    ]


def advice(answer: Answer) -> str:
    """Return the advice of the only finding about secrets."""
    (text,) = (one["advice"] for one in answer.json["findings"] if one["code"] == "secret")
    return str(text)


def test_each_kind_of_secret_is_found_within_prose(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for kind, secret in SECRETS.items():
        insert_memory(db, key=kind, value=f"to deploy, use {secret} as before")

    answer = migrated("check", "--secrets", "--json")

    assert answer.exit_code == 3
    assert found(answer) == [(kind, kind, "active", "value", 1) for kind in SECRETS]


@pytest.mark.parametrize(
    ("kinds", "columns"),
    [
        pytest.param(
            ["aws-access-token", "aws-secret-access-key"],
            {"value": f"aws_access_key_id={AWS_KEY_ID}\naws_secret_access_key={AWS_SECRET}"},
            id="a key of AWS beside its id",
        ),
        pytest.param(
            ["generic-credential-uri"],
            {"value": f"postgres://deploy:{PASSWORD}@db.internal.acme.io:5432/prod"},
            id="a password in a URL",
        ),
        pytest.param(
            ["telegram-bot-api-token"],
            {"key": "telegram_bot_token", "value": f"123456789:AA{PASSWORD}{PASSWORD}x"},
            id="a value whose key says what it is",
        ),
        pytest.param(
            ["private-key"],
            {"value": json.dumps({"pem": SECRETS["private-key"]})},
            id="a private key in JSON",
        ),
        pytest.param(["github-pat"], {"value": f"\ufeff{TOKEN}"}, id="after a byte order mark"),
        pytest.param(["github-pat"], {"value": b"\xff\x00 " + TOKEN.encode()}, id="in a BLOB"),
        pytest.param(
            ["github-pat"], {"key": "\udcff\udcfe", "value": TOKEN}, id="a key like UTF-16"
        ),
    ],
)
def test_secrets_are_found_in_every_form(
    db: sqlite3.Connection, migrated: Memctl, kinds: list[str], columns: dict[str, Any]
) -> None:
    insert_bytes(db, **columns)

    answer = migrated("check", "--secrets", "--json")

    assert [kind for _, kind, *_ in found(answer)] == kinds


def insert_bytes(db: sqlite3.Connection, **columns: Any) -> None:
    """Insert a memory whose texts may be invalid UTF-8."""
    row = {"id": "m-1", "agent_id": "build_agent", "type": "learning", "key": "k", **columns}
    marks = ["CAST(? AS TEXT)" if isinstance(value, str) else "?" for value in row.values()]
    db.execute(
        f"INSERT INTO agent_memory ({', '.join(row)}) VALUES ({', '.join(marks)})",
        [
            value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            for value in row.values()
        ],
    )


def test_text_without_secrets_is_not_reported(db: sqlite3.Connection, migrated: Memctl) -> None:
    for number, value in enumerate(
        [
            "the token is in the vault, ask for ghp_ tokens there",
            '{"commit": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}',
            "see https://example.com/a?key=value and user:password in the README",
            "6f1ed002-ab54-4f3d-a1c6-5b8c4a1f0b11",
            "data:image/png;base64," + "iVBORw0KGgo" * 20,
        ]
    ):
        insert_memory(db, key=f"k{number}", value=value)

    answer = migrated.ok("check", "--secrets", "--json")

    assert answer.json["secrets"] == []


def test_a_memory_is_reported_once_with_all_its_versions(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, id="old", key="ci", value=f"a {TOKEN}", expired_for=HOUR)
    migrated.ok("cleanup")
    insert_memory(
        db, id="new", key="ci", value=f"b {TOKEN} {TOKEN}", metadata=f'{{"t": "{OTHER_TOKEN}"}}'
    )

    answer = migrated("check", "--secrets", "--json")

    assert found(answer) == [
        ("ci", "github-pat", "active", "value", 2),
        ("ci", "stripe-access-token", "active", "metadata", 1),
        ("ci", "github-pat", "archived", "value", 1),
    ]
    assert migrated("check", "--secrets", "-q") == Answer(
        3,
        "warning  'build_agent' learning 'ci', id 'new', looks like it contains secrets:"
        " github-pat in value (2 times), stripe-access-token in metadata, github-pat in archived"
        " value; replace the secret where it is used, then run"
        " `memctl redact --secrets --type=learning --key=ci build_agent`\n",
        "",
    )


def test_an_entry_that_came_from_a_memory_is_searched(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, key="ci", value=f"use {TOKEN}", importance=9, access_count=9, idle_days=20)
    migrated.ok("promote")
    db.execute("UPDATE agent_memory SET value = 'clean'")

    answer = migrated("check", "--secrets", "--json")

    assert found(answer) == [("ci", "github-pat", "knowledge", None, 1)]


def test_a_key_that_contains_a_secret_is_not_shown(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, id="m 1", key=f"token {TOKEN}")

    answer = migrated("check", "--secrets", "--json")

    assert found(answer) == [(None, "github-pat", "active", "key", 1)]
    assert advice(answer).endswith("then run `memctl erase build_agent 'm 1'`")
    assert TOKEN not in answer.out + answer.err


@pytest.mark.parametrize("agent", [*NAMES, pytest.param(b"a'b$(c)`d`", id="quotes")])
def test_the_suggested_command_names_exactly_this_memory(
    db: sqlite3.Connection, migrated: Memctl, agent: bytes
) -> None:
    insert_bytes(db, agent_id=from_bytes(agent), key=from_bytes(agent) + "k", value=TOKEN)
    answer = migrated("check", "--secrets", "--json")
    line = advice(answer).partition("then run `")[2][:-1]
    _, command, *words = words_in_bash(line)
    ran = migrated(command, "--yes", "--json", *words)

    assert ran.exit_code == 0, (line, ran)
    assert ran.json["redacted"] == 1


def words_in_bash(line: str) -> list[bytes]:
    """Return the words of a command line as bash passes them."""
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
    )
    return shown.stdout.split(b"\0")[:-1]


OUTPUTS = (
    ("check", "--secrets"),
    ("check", "--secrets", "--json"),
    ("check", "--secrets", "--nagios"),
    ("check", "--secrets", "--verbose", "--log-format", "json"),
    ("check", "--secrets", "--quiet", "--log-format", "journal"),
)


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
def test_no_output_of_the_check_contains_a_secret(
    db: sqlite3.Connection, migrated: Memctl, words: tuple[str, ...]
) -> None:
    for kind, secret in SECRETS.items():
        insert_memory(db, key=kind, value=secret)
        insert_memory(db, id=f"id of {secret}", key=f"{kind} {secret}", value="v")
        insert_memory(db, agent_id=f"agent {secret}", key=kind, value=f"x {secret}")

    answer = migrated(*words)

    assert answer.exit_code in (1, 3)
    for secret in SECRETS.values():
        for line in secret.splitlines():
            assert line not in answer.out + answer.err


def test_checking_changes_nothing(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, value=TOKEN)
    before = everything(migrated.database)

    migrated("check", "--secrets")

    assert everything(migrated.database) == before


@pytest.mark.parametrize(
    "words",
    [("check", "--secrets"), ("redact", "build_agent", "m", "--secrets", "--yes")],
    ids=" ".join,
)
def test_without_the_package_one_line_says_how_to_install_it(
    migrated: Memctl, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "kingfisher_sdk.py").write_text("raise ImportError")
    ran = subprocess.run(
        [PROGRAM, *words],
        env={**migrated.environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 1
    assert complaint(Answer(ran.returncode, ran.stdout, ran.stderr)) == (
        "memctl: the package that detects secrets is missing;"
        " run `pip install 'agent-memctl[secrets]'`"
    )


def test_no_transaction_is_open_while_a_page_is_searched(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)"
        " INSERT INTO agent_memory (id, agent_id, type, key, value)"
        " SELECT 'm' || i, 'a', 'learning', 'k' || i, 'v' FROM n",
        {"rows": 2 * PAGE_ROWS + 1},
    )

    with closing(connect(migrated.database)) as reader:
        sizes = []
        for page in searched_pages(reader):
            sizes.append(len(page))
            db.execute("UPDATE agent_memory SET access_count = 1 WHERE rowid = 1")
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert busy == 0

    assert sizes == [PAGE_ROWS, PAGE_ROWS, 1]
