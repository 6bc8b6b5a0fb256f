"""The pause: jobs do nothing and print nothing."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.database import rows
from tests.support.program import NOW, Memctl


@pytest.mark.parametrize("job", ["cleanup", "decay", "prune"])
def test_a_paused_job_does_nothing_and_prints_nothing(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str], job: str
) -> None:
    remember(expired_for=timedelta(days=1), idle_days=50)
    migrated.ok("pause", "--reason", "deploying")
    before = rows(db, "agent_memory")

    answer = migrated.ok(job)

    assert (answer.out, answer.err) == ("", "")
    assert rows(db, "agent_memory") == before
    assert rows(db, "memory_runs") == []


def test_the_result_describes_the_pause(migrated: Memctl) -> None:
    migrated.ok("pause", "--reason", "deploying", "--for", "2h")

    answer = migrated.ok("cleanup", "--json").json

    assert answer["paused"] == {
        "since": "2026-11-22T09:43:58Z",
        "until": "2026-11-22T11:43:58Z",
        "reason": "deploying",
    }
    assert answer["run_id"] is None


def test_a_pause_ends_when_it_expires_or_is_resumed(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    migrated.ok("pause", "--reason", "deploying", "--for", "2h")
    migrated.at(NOW + timedelta(hours=1, minutes=59)).ok("cleanup")
    migrated.at(NOW + timedelta(hours=2)).ok("cleanup")
    migrated.ok("pause", "--reason", "again")
    migrated.ok("resume")
    migrated.at(NOW + timedelta(hours=2)).ok("cleanup")

    runs = rows(db, "memory_runs", "job, started_at")

    assert runs == [("cleanup", "2026-11-22T11:43:58Z")] * 2


def test_a_preview_works_while_paused(migrated: Memctl, remember: Callable[..., str]) -> None:
    remember(expired_for=timedelta(days=1))
    migrated.ok("pause", "--reason", "deploying")

    answer = migrated.ok("cleanup", "--dry-run", "--json").json

    assert answer["archived"] == 1


def test_archive_and_restore_by_hand_work_while_paused(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    memory = remember()
    migrated.ok("pause", "--reason", "deploying")

    migrated.ok("archive", "build_agent", memory)
    archived = rows(db, "archived_memories", "id")
    migrated.ok("restore", "build_agent", memory)

    assert archived == [(memory,)]
    assert rows(db, "agent_memory", "id") == [(memory,)]
