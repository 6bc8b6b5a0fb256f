"""The lease is kept in phases without batches, however long they are."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from memctl.documents import importing
from memctl.jobs.engine import JobRequest, perform
from memctl.jobs.restore import restore
from memctl.storage.addresses import ServerAddress
from memctl.storage.postgresql import lease
from memctl.storage.postgresql.database import open_database
from memctl.storage.postgresql.lease import present_holder
from memctl.storage.postgresql.restoring import ArchiveCopies
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.conflicts import Conflicts
from tests.support.documents import import_into
from tests.support.engines import PostgresEngine
from tests.support.program import NOW

STEPS = 5


@pytest.fixture
def server(on_server: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> PostgresEngine:
    """A database whose lease ends after a second."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1)
    monkeypatch.setattr(lease, "RENEW_AFTER", 0.1)
    return on_server


def slow(server: PostgresEngine, function: Callable[..., Any], held: list[bool]) -> Any:
    """Return a function that takes half as long as the lease, and notes whether it is held."""

    def call(*given: Any, **named: Any) -> Any:
        time.sleep(0.5)
        with open_database(ServerAddress(server.url)) as db:
            held.append(present_holder(db) is not None)
        return function(*given, **named)

    return call


def test_the_lease_is_kept_while_an_import_compares(
    server: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(STEPS):
        server.insert(id=f"m-{number}", key=f"k{number}")
    document = server.memctl.ok("export", "--all").out.encode()
    held: list[bool] = []
    monkeypatch.setattr(importing, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(Conflicts, "decide", slow(server, Conflicts.decide, held))

    import_into(server.address, document)

    assert held == [True] * STEPS


def test_the_lease_is_kept_while_a_restore_searches_the_archives_of_agents(
    server: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(STEPS):
        server.insert(id="m", agent_id=f"agent-{number}", expired_for=timedelta(days=1))
    server.memctl.ok("cleanup")
    held: list[bool] = []
    monkeypatch.setattr(ArchiveCopies, "archived", slow(server, ArchiveCopies.archived, held))

    perform(
        "restore",
        lambda run: restore(run, ArchiveFilter(run_id=1), on_conflict="fail"),
        JobRequest(server.address, NOW),
    )

    assert held[:STEPS] == [True] * STEPS
    assert len(server.rows()) == STEPS
