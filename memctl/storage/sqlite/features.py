"""The opt-in features: triggers in the database, which act for every client without changes to it.

A trigger never makes the statement that fires it fail and never changes its row count. None acts on
memctl's own changes: the two for accesses fire on access_count, which only reads by clients
increase, and the one for deletes checks for the mark that memctl sets around its own deletes.
"""

from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Literal, get_args

from memctl.storage.rows import CAUSES
from memctl.storage.sqlite.archive import KEPT_COLUMNS
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.events import reason_detail
from memctl.storage.sqlite.state import delete_state, read_state, write_state
from memctl.storage.sqlite.triggers import FEATURE_TRIGGERS
from memctl.storage.times import parse_moment, to_text

Feature = Literal["access-boost", "access-counting", "archive-on-delete"]
FeatureState = Literal["off", "on", "outdated", "missing"]

BOOST = 0.1  # points for each access
HIGHEST_IMPORTANCE = 10  # a boost ends here

# Memories as they were before an access that ended an idle time of about a day or more. The columns
# have neither types nor constraints because a client may have stored anything.
CREATE_IDLE_TIMES = """
    CREATE TABLE IF NOT EXISTS memory_idle_times (
        memory_id, importance, access_count, last_accessed, last_decay_at, accessed_at
    )
"""
CREATE_INDEX_OF_IDLE_TIMES = """
    CREATE INDEX IF NOT EXISTS memory_idle_times_by_memory ON memory_idle_times (memory_id)
"""

# Both are short: SQLite compiles a trigger again with each statement that might fire it, and looks
# up every function in it. In a comparison, a text or BLOB is greater than any number.
IS_ACCESS = "NEW.access_count > OLD.access_count AND typeof(NEW.access_count) = 'integer'"
ACCESSES = "(NEW.access_count - CAST(OLD.access_count AS INTEGER))"

# An idle time of about a day or more is recorded when an access ends it, and the next decay charges
# it; a shorter one costs nothing. Only numbers compare as less than the highest importance.
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

# The day in last_accessed, as the client wrote it, if SQLite can read it; else the present day.
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

# The time is that of the client's clock: the trigger runs in the client's process.
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


TRIGGERS: dict[Feature, str] = {
    "access-boost": ACCESS_BOOST.strip(),
    "access-counting": ACCESS_COUNTING.strip(),
    "archive-on-delete": ARCHIVE_ON_DELETE.strip(),
}


@dataclass(frozen=True)
class FeatureStatus:
    """Whether a feature is enabled, since when, and whether its trigger is the expected one.

    `outdated`: another version of memctl created its trigger.
    `missing`: the feature was enabled, but its trigger no longer exists.
    """

    feature: Feature
    state: FeatureState
    since: str | None


def read_features(db: Connection) -> list[FeatureStatus]:
    """Return the status of every feature; reads only."""
    return [feature_status(db, feature) for feature in get_args(Feature)]


def feature_status(db: Connection, feature: Feature) -> FeatureStatus:
    """Compare a feature's trigger with the one that this version creates; reads only."""
    recorded = read_state(db, _state_key(feature))
    present = db.execute(
        "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?",
        (FEATURE_TRIGGERS[feature],),
    ).fetchone()
    since = recorded["since"] if recorded else None
    state: FeatureState = "off"
    if present:
        state = "on" if since and present[0] == TRIGGERS[feature] else "outdated"
    elif recorded:
        state = "missing"
    return FeatureStatus(feature, state, since)


def counting_since(db: Connection) -> datetime | None:
    """Return the time since which every access has been counted; None if none is counted now."""
    status = feature_status(db, "access-counting")
    if status.since is None or status.state == "missing":
        return None
    return parse_moment(status.since)


def enable(db: Connection, feature: Feature, *, now: datetime) -> bool:
    """Enable a feature, or renew its trigger; return whether anything had to be done.

    A feature with an outdated trigger keeps the time since which it has been enabled. The caller
    holds memctl's lock.
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
    """Drop a feature's trigger; return whether it was enabled. The caller holds memctl's lock."""
    with transaction(db):
        db.execute(f"DROP TRIGGER IF EXISTS {FEATURE_TRIGGERS[feature]}")
        return delete_state(db, _state_key(feature))


def _state_key(feature: Feature) -> str:
    return f"feature:{feature}"
