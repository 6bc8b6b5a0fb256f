"""Expiry."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta

from tests.conftest import Memctl, rows


def test_a_memory_that_expired_today_is_archived(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    gone = remember(expired_for=timedelta(minutes=1))
    kept = remember(expired_for=timedelta(minutes=-1))

    answer = migrated.ok("cleanup", "--json")

    assert answer.json["archived"] == 1
    assert rows(db, "agent_memory", "id") == [(kept,)]
    assert rows(db, "archived_memories", "id, archived_reason") == [(gone, "expired")]
