"""Checks of a database on a server: its tables and indexes, and values that prevent jobs."""

from datetime import datetime, timedelta
from typing import NamedTuple

from memctl.storage.clock import CLOCK_TOLERANCE
from memctl.storage.postgresql import migrations
from memctl.storage.postgresql.database import Database

# SQL that is true for a memory with the problem, in the order of the findings.
CONDITIONS = {
    "in_both_places": (
        "EXISTS (SELECT 1 FROM archived_memories AS archived"
        " WHERE archived.agent_id = memory.agent_id AND archived.id = memory.id)"
    ),
    "expiry_far": "expires_at > %(a_century)s AND expires_at < 'infinity'",
    "importance_no_number": "importance IS NULL",
    "importance_out_of_range": "importance NOT BETWEEN 0 AND 10",
    "time_to_come": "created_at > %(a_day)s OR last_accessed > %(a_day)s",
    "charged_ahead": "last_decay_at > %(an_hour)s",
    "stamp_to_come": "archived_at > %(an_hour)s OR promoted_at > %(an_hour)s",
    "expired_active": "expires_at < %(a_week_ago)s",
}

FIND_PROBLEMS = f"""
    SELECT {
    ", ".join(
        f"count(*) FILTER (WHERE {condition}), min(concat_ws(' ', agent_id, type, key))"
        f" FILTER (WHERE {condition})"
        for condition in CONDITIONS.values()
    )
}
    FROM agent_memory AS memory
"""

COUNT_TYPES = "SELECT type, count(*) FROM agent_memory GROUP BY type ORDER BY type"

COUNT_UNNUMBERED = """
    SELECT count(*) FROM memory_events WHERE event_id IS NULL AND at < %(a_week_ago)s
"""

# Constraints have indexes of their own names; an index may be invalid after a failed build.
PRESENT = """
    SELECT relname::text FROM pg_class
    WHERE oid = to_regclass(relname) AND relname = ANY(%(names)s::text[])
        AND (relkind NOT IN ('i', 'I') OR EXISTS (
            SELECT 1 FROM pg_index WHERE indexrelid = pg_class.oid AND indisvalid
        ))
"""

CONSTRAINTS = """
    SELECT pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = to_regclass('agent_memory') AND contype IN ('p', 'u')
"""
NEEDED_CONSTRAINTS = ("PRIMARY KEY (agent_id, id)", "UNIQUE (agent_id, type, key)")


class Occurrences(NamedTuple):
    """How many memories have a problem, and the name of one of them."""

    total: int
    one: str


def find_problems(db: Database, *, now: datetime) -> dict[str, Occurrences]:
    """Return the problems that any active memory has; reads only."""
    bounds = {
        "an_hour": now + CLOCK_TOLERANCE,
        "a_day": now + timedelta(days=1),
        "a_century": now + timedelta(days=36525),
        "a_week_ago": now - timedelta(days=7),
    }
    row = db.row(FIND_PROBLEMS, bounds)
    return {
        name: Occurrences(total, one)
        for name, total, one in zip(CONDITIONS, row[::2], row[1::2], strict=True)
        if total
    }


def count_types(db: Database) -> dict[str, int]:
    """Return how many active memories there are of each type, known or not."""
    return dict(db.rows(COUNT_TYPES))


def count_old_unnumbered(db: Database, *, now: datetime) -> int:
    """Return how many events have waited for over a week for a job that numbers them."""
    return int(db.value(COUNT_UNNUMBERED, {"a_week_ago": now - timedelta(days=7)}))


def missing_objects(db: Database) -> list[str]:
    """Return the tables, indexes and constraints of applied steps that the database lacks."""
    have = {step.version for step in migrations.applied(db)}
    wanted = [
        added
        for step in migrations.available()
        if step.version in have
        for added in migrations.objects_of(step)
    ]
    names = [added.split()[1] for added in wanted]
    present = {name for (name,) in db.rows(PRESENT, {"names": names})}
    missing = [added for added in wanted if added.split()[1] not in present]
    constraints = {text for (text,) in db.rows(CONSTRAINTS)}
    if "agent_memory" in present:
        missing += [
            f"{one} of agent_memory" for one in NEEDED_CONSTRAINTS if one not in constraints
        ]
    return missing
