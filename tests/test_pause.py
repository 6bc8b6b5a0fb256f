"""The pause: jobs do nothing and print nothing."""

from datetime import timedelta

import pytest

from tests.support.engines import Engine
from tests.support.program import NOW


@pytest.mark.parametrize("job", ["cleanup", "decay", "prune"])
def test_a_paused_job_does_nothing_and_prints_nothing(engine: Engine, job: str) -> None:
    engine.insert(expired_for=timedelta(days=1), idle_days=50)
    engine.memctl.ok("pause", "--reason", "deploying")
    before = engine.rows()

    answer = engine.memctl.ok(job)

    assert (answer.out, answer.err) == ("", "")
    assert engine.rows() == before
    assert engine.rows("memory_runs") == []


def test_the_result_describes_the_pause(engine: Engine) -> None:
    engine.memctl.ok("pause", "--reason", "deploying", "--for", "2h")

    answer = engine.memctl.ok("cleanup", "--json").json

    assert answer["paused"] == {
        "since": "2026-11-22T09:43:58Z",
        "until": "2026-11-22T11:43:58Z",
        "reason": "deploying",
    }
    assert answer["run_id"] is None


def test_a_pause_ends_when_it_expires_or_is_resumed(engine: Engine) -> None:
    engine.memctl.ok("pause", "--reason", "deploying", "--for", "2h")
    engine.memctl.at(NOW + timedelta(hours=1, minutes=59)).ok("cleanup")
    engine.memctl.at(NOW + timedelta(hours=2)).ok("cleanup")
    engine.memctl.ok("pause", "--reason", "again")
    engine.memctl.ok("resume")
    engine.memctl.at(NOW + timedelta(hours=2)).ok("cleanup")

    runs = engine.memctl.ok("runs").json

    assert [(run["job"], run["started_at"]) for run in runs] == [
        ("cleanup", "2026-11-22T11:43:58Z")
    ] * 2


def test_a_preview_works_while_paused(engine: Engine) -> None:
    engine.insert(expired_for=timedelta(days=1))
    engine.memctl.ok("pause", "--reason", "deploying")

    answer = engine.memctl.ok("cleanup", "--dry-run", "--json").json

    assert answer["archived"] == 1


def test_archive_and_restore_by_hand_work_while_paused(engine: Engine) -> None:
    memory = engine.insert()
    engine.memctl.ok("pause", "--reason", "deploying")

    engine.memctl.ok("archive", "build_agent", memory)
    archived = engine.rows("archived_memories")
    engine.memctl.ok("restore", "build_agent", memory)

    assert [row["id"] for row in archived] == [memory]
    assert [row["id"] for row in engine.rows()] == [memory]
