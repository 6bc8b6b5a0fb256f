"""The statements that apply and roll back the steps of the schema.

`migrate` and `rollback` execute them, and print them with --sql: they contain their values, so that
the printed text can be run by the SQLite shell.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from memctl import __version__
from memctl.storage.migrations import Applied, Migration, step_name
from memctl.storage.sqlite.identity import STEP_WITH_STATE, Identity, statement_for_identity
from memctl.storage.sqlite.state import text_literal
from memctl.storage.sqlite.tombstones import STEP_WITH_TOMBSTONES
from memctl.storage.times import to_text

# The record of the steps; it is dropped when the last step is rolled back.
CREATE_RECORD = """
CREATE TABLE memctl_migrations (
    version        INTEGER PRIMARY KEY,
    name           TEXT NOT NULL,
    sha256         TEXT NOT NULL,
    applied_at     TEXT NOT NULL,
    baseline       INTEGER NOT NULL,  -- 1: the table was there before memctl
    memctl_version TEXT NOT NULL
)
""".strip()
HOW_TO_RUN = "Run them with `sqlite3 -bail FILE`, which stops at the first error."
DROP_RECORD = "DROP TABLE memctl_migrations"


class StepScript(NamedTuple):
    """The statements of one transaction, and what they do."""

    purpose: str
    statements: list[str]


def script_to_apply(
    step: Migration,
    *,
    baseline: bool,
    has_record: bool,
    identity: Identity,
    triggers: Sequence[str],
    now: datetime,
) -> StepScript:
    """Return the statements that apply and record a step, or only record it as the baseline.

    `identity` is that of the database, which one of the steps stores; `triggers` are statements for
    another one, which changes them.
    """
    name = step_name(step)
    statements = [] if has_record else [CREATE_RECORD]
    if not baseline:
        statements += statements_in(step.up)
    if step.version == STEP_WITH_STATE:
        statements.append(statement_for_identity(identity))
    if step.version == STEP_WITH_TOMBSTONES:
        statements += triggers
    statements.append(_statement_to_record(step, baseline=baseline, now=now))
    purpose = f"{name}: agent_memory exists and is only recorded" if baseline else name
    return StepScript(purpose, statements)


def script_to_roll_back(
    record: Applied, down: str, *, more: Sequence[str], is_first: bool
) -> StepScript:
    """Return the statements that roll back a step; the baseline is only removed from the record.

    `more` follows those of the file. With the first step, the record itself is removed.
    """
    statements = [] if record.baseline else [*statements_in(down), *more]
    statements.append(f"DELETE FROM memctl_migrations WHERE version = {record.version}")
    if is_first:
        statements.append(DROP_RECORD)
    name = step_name(record)
    purpose = f"{name}: agent_memory was there before memctl and is kept"
    return StepScript(purpose if record.baseline else name, statements)


def statements_in(script: str) -> list[str]:
    """Return the statements of a script, each with the comments before it, without semicolons."""
    found = []
    start = 0
    for end, character in enumerate(script):
        if character == ";" and sqlite3.complete_statement(script[start : end + 1]):
            found.append(script[start:end].strip())
            start = end + 1
    return found


def script_text(notes: Iterable[str], first: Iterable[str], scripts: Iterable[StepScript]) -> str:
    """Return SQL for the SQLite shell: notes, statements outside a transaction, one per script."""
    head = [_comment(note) for note in notes] + [f"{statement};" for statement in first]
    parts = ["\n".join(head)]
    for script in scripts:
        lines = [_comment(script.purpose), "BEGIN IMMEDIATE;"]
        lines += [f"{statement};" for statement in script.statements]
        parts.append("\n".join([*lines, "COMMIT;"]))
    return "\n\n".join(parts) + "\n"


def _comment(text: str) -> str:
    """Return a text as one line of comment: a path may contain line breaks."""
    return "-- " + "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _statement_to_record(step: Migration, *, baseline: bool, now: datetime) -> str:
    texts = map(text_literal, (step.name, step.checksum, to_text(now), __version__))
    name, checksum, applied_at, version = texts
    return (
        "INSERT INTO memctl_migrations\n"
        "    (version, name, sha256, applied_at, baseline, memctl_version)\n"
        f"VALUES ({step.version}, {name}, {checksum}, {applied_at}, {int(baseline)}, {version})"
    )
