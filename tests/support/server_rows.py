"""Many rows in a database on a server, and the check that none of them is lost or doubled."""

from collections.abc import Callable
from datetime import timedelta

import psycopg

from tests.support.program import NOW

AGENTS = 4

# Memories named id-1, id-2, …; all have expired, and are idle.
ADD_EXPIRED = """
    INSERT INTO agent_memory (id, agent_id, type, key, value, last_accessed, created_at, expires_at)
    SELECT 'id-' || number, 'agent-' || number %% %(agents)s, 'context', 'key-' || number,
        repeat('v', 300), %(idle)s, %(idle)s, %(now)s::timestamptz - interval '1 hour'
    FROM generate_series(%(first)s::bigint, %(last)s) AS number
"""

CENSUS = """
    SELECT
        (SELECT count(*) FROM agent_memory),
        (SELECT count(*) FROM archived_memories),
        (SELECT count(DISTINCT id) FROM (
            SELECT id FROM agent_memory UNION ALL SELECT id FROM archived_memories
        ) AS every),
        (SELECT count(*) FROM memory_events WHERE event = 'memory:expired'),
        (SELECT count(*) FROM memory_events WHERE event = 'memory:archived'),
        (SELECT count(DISTINCT event_id) FROM memory_events),
        (SELECT count(*) FROM memory_events)
"""


def add_expired(url: str, count: int, *, first: int = 1) -> None:
    """Insert memories that have expired; all ids have a number, from `first`."""
    with psycopg.connect(url, autocommit=True) as db:
        last = first + count - 1
        idle = NOW - timedelta(days=20)
        db.execute(
            ADD_EXPIRED,
            {"agents": AGENTS, "now": NOW, "idle": idle, "first": first, "last": last},
        )


def archived_exactly(url: str, *, of: int) -> int:
    """Return how many of so many expired memories are archived, each with its two events.

    Each of them must exist exactly once, active or archived.
    """
    with psycopg.connect(url, autocommit=True) as db:
        (census,) = db.execute(CENSUS)
    active, archived, ids, expiries, archivals, numbers, events = census
    assert active + archived == ids == of
    assert expiries == archivals == archived
    assert numbers == events
    return int(archived)


def has_archived(url: str) -> Callable[[], bool]:
    """Return what tells whether a job has archived some memories of a database."""

    def sign() -> bool:
        with psycopg.connect(url, autocommit=True) as db:
            return db.execute("SELECT 1 FROM archived_memories LIMIT 1").fetchone() is not None

    return sign


def waits_for_lock(url: str) -> Callable[[], bool]:
    """Return what tells whether a command waits for a lock in a database."""
    return lambda: bool(waiting_connections(url))


def waiting_connections(url: str) -> list[int]:
    """Return the server's processes whose clients, which are commands, wait for a lock."""
    query = """
        SELECT pid FROM pg_stat_activity WHERE application_name = 'memctl'
            AND datname = current_database() AND wait_event_type = 'Lock'
    """
    with psycopg.connect(url, autocommit=True) as db:
        return [pid for (pid,) in db.execute(query)]
