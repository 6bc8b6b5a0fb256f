"""Opt-in features: triggers in the database, so that they work for every client unchanged.

A trigger never fails the statement that fires it, nor changes its count of rows. None acts on what
memctl itself does: the two for accesses look at access_count, which only a client's read raises,
and the one for deletes looks for the mark that memctl's own deletes set.
"""

from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Literal, get_args

from memctl.jobs.decay import (
    BOOST,
    CREATE_IDLE_TIMES,
    CREATE_INDEX_OF_IDLE_TIMES,
    HIGHEST_IMPORTANCE,
)
from memctl.storage.sqlite.archive import KEPT_COLUMNS
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.events import CAUSES, reason_detail
from memctl.storage.sqlite.state import delete_state, read_state, write_state
from memctl.storage.sqlite.triggers import FEATURE_TRIGGERS
from memctl.storage.times import to_text

Feature = Literal["access-boost", "access-counting", "archive-on-delete"]
FeatureState = Literal["off", "on", "outdated", "missing"]

# Both are short, because SQLite compiles a trigger again with each statement that might fire it,
# and looks each function up. A count that is not a number is never less than one that is.
IS_ACCESS = "NEW.access_count > OLD.access_count AND typeof(NEW.access_count) = 'integer'"
ACCESSES = "(NEW.access_count - CAST(OLD.access_count AS INTEGER))"

# The idle time that an access ends is only noted, unless it was less than a day, which costs
# nothing; decay charges it. Only numbers are less than the highest importance.
ACCESS_BOOST = f"""
    CREATE TRIGGER memctl_access_boost AFTER UPDATE OF access_count ON agent_memory
    WHEN {IS_ACCESS}
    BEGIN
        INSERT INTO memory_idle_times
        SELECT NEW.id, NEW.importance, OLD.access_count, OLD.last_accessed, OLD.last_decay_at,
            NEW.last_accessed
        WHERE (julianday(NEW.last_accessed) - julianday(OLD.last_accessed) < 0.9) IS NOT TRUE;
        UPDATE agent_memory
        SET importance = min({HIGHEST_IMPORTANCE}, round(importance + {BOOST} * {ACCESSES}, 6))
        WHERE rowid = NEW.rowid AND importance < {HIGHEST_IMPORTANCE};
    END
"""

# The day on which the client says it read, if SQLite reads that, else its own.
DAY_OF_ACCESS = """
    coalesce(
        CASE WHEN NEW.last_accessed GLOB '????-??-??*' THEN date(NEW.last_accessed, '+0 days') END,
        date('now')
    )
"""

ACCESS_COUNTING = f"""
    CREATE TRIGGER memctl_access_counting AFTER UPDATE OF access_count ON agent_memory
    WHEN {IS_ACCESS}
    BEGIN
        INSERT INTO memory_access_counts (day, agent_id, type, accesses)
        VALUES ({DAY_OF_ACCESS}, NEW.agent_id, NEW.type, {ACCESSES})
        ON CONFLICT DO UPDATE SET accesses = accesses + excluded.accesses;
    END
"""

OLD_COLUMNS = ", ".join(f"OLD.{column}" for column in KEPT_COLUMNS.split(", "))

# The clock is the client's, since nobody else's is there when the trigger fires.
ARCHIVE_ON_DELETE = f"""
    CREATE TRIGGER memctl_archive_on_delete AFTER DELETE ON agent_memory
    WHEN NOT EXISTS (SELECT 1 FROM memory_state WHERE key = 'own_delete')
    BEGIN
        INSERT INTO archived_memories ({KEPT_COLUMNS}, archived_at, archived_reason)
        VALUES ({OLD_COLUMNS}, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), 'deleted');
        INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, detail)
        VALUES (
            strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), '{CAUSES["deleted"]}',
            OLD.id, OLD.agent_id, OLD.type, OLD.key, NULL
        ), (
            strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), 'memory:archived',
            OLD.id, OLD.agent_id, OLD.type, OLD.key, '{reason_detail("deleted")}'
        );
    END
"""


@dataclass(frozen=True)
class FeatureStatus:
    """Whether a feature is on, since when, and whether its trigger is the one it should be.

    `outdated`: its trigger was made by another memctl.
    `missing`: it was enabled, and its trigger is gone.
    """

    feature: Feature
    state: FeatureState
    since: str | None


TRIGGERS: dict[Feature, str] = {
    "access-boost": ACCESS_BOOST.strip(),
    "access-counting": ACCESS_COUNTING.strip(),
    "archive-on-delete": ARCHIVE_ON_DELETE.strip(),
}


def enable(db: Connection, feature: Feature, *, now: datetime) -> bool:
    """Turn a feature on, or renew its trigger; returns whether there was anything to do.

    The caller holds memctl's lock. A feature that is renewed keeps the time since when it is on.
    """
    status = feature_status(db, feature)
    if status.state == "on":
        return False
    since = status.since if status.state == "outdated" else None
    with transaction(db):
        db.execute(f"DROP TRIGGER IF EXISTS {FEATURE_TRIGGERS[feature]}")
        if feature == "access-boost":
            db.execute(CREATE_IDLE_TIMES)
            db.execute(CREATE_INDEX_OF_IDLE_TIMES)
        db.execute(TRIGGERS[feature])
        write_state(db, _state_key(feature), {"since": since or to_text(now)})
    return True


def disable(db: Connection, feature: Feature) -> bool:
    """Turn a feature off; returns whether it was on. The caller holds memctl's lock."""
    with transaction(db):
        db.execute(f"DROP TRIGGER IF EXISTS {FEATURE_TRIGGERS[feature]}")
        return delete_state(db, _state_key(feature))


def read_features(db: Connection) -> list[FeatureStatus]:
    """Return what has become of every feature; reads only."""
    return [feature_status(db, feature) for feature in get_args(Feature)]


def feature_status(db: Connection, feature: Feature) -> FeatureStatus:
    """Compare a feature's trigger with the one that this memctl makes; reads only."""
    known = read_state(db, _state_key(feature))
    present = db.execute(
        "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?",
        (FEATURE_TRIGGERS[feature],),
    ).fetchone()
    since = known["since"] if known else None
    state: FeatureState = "off"
    if present:
        state = "on" if since and present[0] == TRIGGERS[feature] else "outdated"
    elif known:
        state = "missing"
    return FeatureStatus(feature, state, since)


def _state_key(feature: Feature) -> str:
    return f"feature:{feature}"
