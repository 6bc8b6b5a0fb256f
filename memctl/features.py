"""Opt-in features: triggers in the database, so that they work for every client unchanged.

A trigger never fails the statement that fires it, nor changes its count of rows. None acts on what
memctl itself does: the two for accesses look at access_count, which only a client's read raises,
and the one for deletes looks for the mark that memctl's own deletes set.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Literal, get_args

from memctl.archive import KEPT_COLUMNS
from memctl.database import transaction
from memctl.decay import DecayPolicy, settled_at_access
from memctl.events import CAUSES, reason_detail
from memctl.migrations import FEATURE_TRIGGERS
from memctl.timestamps import common_unix_seconds, to_text

Feature = Literal["access-boost", "access-counting", "archive-on-delete"]
FeatureState = Literal["off", "on", "outdated", "missing"]

BOOST = 0.1  # points for each access
HIGHEST_IMPORTANCE = 10  # a boost ends here

IS_ACCESS = """
    typeof(OLD.access_count) = 'integer' AND typeof(NEW.access_count) = 'integer'
    AND NEW.access_count > OLD.access_count
"""

ACCESSES = "(NEW.access_count - OLD.access_count)"

DAY_OF_ACCESS = f"""
    coalesce(date({common_unix_seconds("NEW.last_accessed")}, 'unixepoch'), date('now'))
"""

ACCESS_BOOST = f"""
    CREATE TRIGGER memctl_access_boost AFTER UPDATE OF access_count ON agent_memory
    WHEN {IS_ACCESS} AND typeof(NEW.importance) IN ('integer', 'real')
    BEGIN
        UPDATE agent_memory
        SET importance = (
            SELECT max(settled, min({HIGHEST_IMPORTANCE}, round(settled + {BOOST} * {ACCESSES}, 6)))
            FROM ({{settled}})
        )
        WHERE rowid = NEW.rowid;
    END
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

    `outdated`: its trigger was made for another configuration, or by another memctl.
    `missing`: it was enabled, and its trigger is gone.
    """

    feature: Feature
    state: FeatureState
    since: str | None


def trigger(feature: Feature, policy: DecayPolicy) -> str:
    """Return the statement that creates a feature's trigger; access-boost follows the policy."""
    if feature == "access-boost":
        return ACCESS_BOOST.format(settled=settled_at_access(policy)).strip()
    return (ACCESS_COUNTING if feature == "access-counting" else ARCHIVE_ON_DELETE).strip()


def enable(db: Connection, feature: Feature, policy: DecayPolicy, *, now: datetime) -> bool:
    """Turn a feature on, or renew its trigger; returns whether there was anything to do.

    The caller holds memctl's lock. A feature that is renewed keeps the time since when it is on.
    """
    status = feature_status(db, feature, policy)
    if status.state == "on":
        return False
    since = status.since if status.state == "outdated" else None
    with transaction(db):
        db.execute(f"DROP TRIGGER IF EXISTS {FEATURE_TRIGGERS[feature]}")
        db.execute(trigger(feature, policy))
        db.execute(
            "INSERT OR REPLACE INTO memory_state (key, value) VALUES (?, ?)",
            (_state_key(feature), json.dumps({"since": since or to_text(now)})),
        )
    return True


def disable(db: Connection, feature: Feature) -> bool:
    """Turn a feature off; returns whether it was on. The caller holds memctl's lock."""
    with transaction(db):
        db.execute(f"DROP TRIGGER IF EXISTS {FEATURE_TRIGGERS[feature]}")
        forgotten = db.execute("DELETE FROM memory_state WHERE key = ?", (_state_key(feature),))
    return forgotten.rowcount > 0


def read_features(db: Connection, policy: DecayPolicy) -> list[FeatureStatus]:
    """Return what has become of every feature; reads only."""
    return [feature_status(db, feature, policy) for feature in get_args(Feature)]


def feature_status(db: Connection, feature: Feature, policy: DecayPolicy) -> FeatureStatus:
    """Compare a feature's trigger with the one that the policy wants; reads only."""
    known = db.execute(
        "SELECT value FROM memory_state WHERE key = ?", (_state_key(feature),)
    ).fetchone()
    present = db.execute(
        "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?",
        (FEATURE_TRIGGERS[feature],),
    ).fetchone()
    since = json.loads(known[0])["since"] if known else None
    state: FeatureState = "off"
    if present:
        state = "on" if since and present[0] == trigger(feature, policy) else "outdated"
    elif known:
        state = "missing"
    return FeatureStatus(feature, state, since)


def _state_key(feature: Feature) -> str:
    return f"feature:{feature}"
