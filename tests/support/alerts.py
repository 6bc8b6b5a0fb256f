"""What raises alerts, and the state that is kept of them."""

import sqlite3

from tests.support.program import Memctl


def raised(db: sqlite3.Connection) -> list[tuple[str]]:
    """Return the state that is kept: which alerts have not cleared, or wait to be delivered."""
    return db.execute(
        "SELECT key FROM memory_state WHERE key GLOB 'alert:*' OR key GLOB 'undelivered:*'"
    ).fetchall()


def fail(memctl: Memctl, *options: str) -> None:
    """Run a cleanup while the database is locked."""
    answer = memctl("cleanup", "--lock-wait", "0", *options)
    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (11, "", 1)


def take_snapshot(
    db: sqlite3.Connection, day: str, memories: int, *, at: str = "2026-11-21T00:00:00Z"
) -> None:
    """Write the part of a snapshot that alerts are computed from."""
    db.execute(
        """
        INSERT INTO memory_analytics (
            snapshot_date, agent_id, type, period_start, period_end, memories, archived_memories,
            importance_count, importance_sum, accessed_memories, accesses_that_day, expired,
            archived, restored, pruned, promoted, active_bytes, archived_bytes, last_event_id
        ) VALUES (?, 'a', 'learning', '', ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        """,
        (day, at, memories),
    )


SERVICE_EVENTS = """
    CREATE TABLE observability_events (
        id {id},
        timestamp TEXT DEFAULT (datetime('now')),
        event_type TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        task_id TEXT,
        session_id TEXT,
        iteration_number INTEGER,
        severity TEXT NOT NULL DEFAULT 'info'
            CHECK (severity IN ('debug', 'info', 'warning', 'error')),
        message TEXT NOT NULL,
        payload TEXT
    )
"""
