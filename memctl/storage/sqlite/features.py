"""The opt-in features: triggers in the database, which act for every client without changes to it.

A trigger never makes the statement that fires it fail and never changes its row count. None acts on
memctl's own changes: the two for accesses fire on access_count, which only reads by clients
increase, and those of `archive_triggers` check for the mark that memctl sets around its deletes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Literal, get_args

from memctl.storage.sqlite.archive_triggers import (
    ARCHIVE_TRIGGERS,
    ON_DELETE,
    REPLACE_BEGINS,
    REPLACE_TRIGGERS,
    Archiving,
    archive_triggers,
)
from memctl.storage.sqlite.database import table_exists, transaction
from memctl.storage.sqlite.holds import has_holds
from memctl.storage.sqlite.state import delete_state, read_state, write_state
from memctl.storage.sqlite.triggers import OWN_TRIGGERS
from memctl.storage.times import parse_moment, to_text

Feature = Literal["access-boost", "access-counting", "archive-on-delete", "archive-on-replace"]
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

# For `keep_versions`.
CREATE_INDEX_OF_VERSIONS = """
    CREATE INDEX IF NOT EXISTS archived_memories_by_version
    ON archived_memories (agent_id, type, key, archived_at) WHERE archived_reason = 'replaced'
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


FEATURE_TRIGGERS: dict[Feature, tuple[str, ...]] = {
    "access-boost": ("memctl_access_boost",),
    "access-counting": ("memctl_access_counting",),
    "archive-on-delete": (ON_DELETE,),
    "archive-on-replace": REPLACE_TRIGGERS,
}


# Their triggers also exist while there are holds.
ARCHIVING_FEATURES: tuple[Feature, ...] = ("archive-on-delete", "archive-on-replace")


@dataclass(frozen=True)
class FeatureStatus:
    """Whether a feature is enabled, since when, and whether its triggers are as expected.

    `outdated`: its triggers are not those that this version of memctl creates.
    `missing`: the feature was enabled, but its triggers no longer exist.
    """

    feature: Feature
    state: FeatureState
    since: str | None


def read_features(db: Connection) -> list[FeatureStatus]:
    """Return the status of every feature; reads only."""
    return [feature_status(db, feature) for feature in get_args(Feature)]


def feature_status(db: Connection, feature: Feature) -> FeatureStatus:
    """Compare a feature's triggers with those that this version creates; reads only.

    A feature that is off may have triggers that act on held memories.
    """
    recorded = read_state(db, _state_key(feature))
    present, expected = _present_triggers(db), _expected_triggers(db)
    names = FEATURE_TRIGGERS[feature]
    since = recorded["since"] if recorded else None
    state: FeatureState = "off"
    if not recorded and feature in ARCHIVING_FEATURES and has_holds(db):
        return FeatureStatus(feature, state, since)  # the triggers are those of the holds
    if recorded and not any(name in present for name in names):
        state = "missing"
    elif any(present.get(name, "") != expected[name] for name in names):
        state = "outdated"
    elif recorded:
        state = "on"
    return FeatureStatus(feature, state, since)


def hold_triggers_state(db: Connection) -> FeatureState:
    """Compare the triggers that only the holds require with those that this version creates.

    `off`: there are no holds. Reads only.
    """
    if not has_holds(db):
        return "off"
    present, expected = _present_triggers(db), _expected_triggers(db)
    names = [
        name
        for feature in ARCHIVING_FEATURES
        if read_state(db, _state_key(feature)) is None
        for name in FEATURE_TRIGGERS[feature]
    ]
    if any(name not in present for name in names):
        return "missing"
    return "on" if all(present[name] == expected[name] for name in names) else "outdated"


def counting_since(db: Connection) -> datetime | None:
    """Return the time since which every access has been counted; None if none is counted now."""
    status = feature_status(db, "access-counting")
    if status.since is None or status.state == "missing":
        return None
    return parse_moment(status.since)


def enable(db: Connection, feature: Feature, *, now: datetime) -> bool:
    """Enable a feature, or renew its triggers; return whether anything had to be done.

    A feature with an outdated trigger keeps the time since which it has been enabled. The caller
    holds memctl's lock.
    """
    status = feature_status(db, feature)
    if status.state == "on":
        return False
    since = status.since if status.state == "outdated" else None
    with transaction(db):
        if feature == "access-boost":
            db.execute(CREATE_IDLE_TIMES)
            db.execute(CREATE_INDEX_OF_IDLE_TIMES)
        if feature == "archive-on-replace":
            db.execute(CREATE_INDEX_OF_VERSIONS)
        write_state(db, _state_key(feature), {"since": since or to_text(now)})
        renew_triggers(db, _triggers_with(feature))
    return True


def disable(db: Connection, feature: Feature) -> bool:
    """Drop a feature's triggers; return whether it was enabled. The caller holds memctl's lock."""
    with transaction(db):
        was_enabled = delete_state(db, _state_key(feature))
        renew_triggers(db, _triggers_with(feature))
    return was_enabled


def renew_triggers(db: Connection, names: Collection[str] = ARCHIVE_TRIGGERS) -> None:
    """Create, replace and drop triggers as the enabled features and the holds require.

    Must be called in a transaction, after a feature was enabled or disabled, and after the first
    hold or the last one. Triggers that are as expected stay.
    """
    present, expected = _present_triggers(db), _expected_triggers(db)
    for name in names:
        sql = expected[name]
        if present.get(name, "") == sql:
            continue
        db.execute(f"DROP TRIGGER IF EXISTS {name}")
        if sql:
            db.execute(sql)
        elif name == REPLACE_BEGINS:
            db.execute("DELETE FROM memory_replacements")  # which it would have done


def statements_to_archive_deleted(db: Connection) -> list[str]:
    """Return the statements that create the trigger of archive-on-delete again, if it is enabled.

    The trigger uses no table of step 003, while nothing is held and archive-on-replace is off.
    """
    key = _state_key("archive-on-delete")
    if not table_exists(db, "memory_state") or read_state(db, key) is None:
        return []
    return [
        f"DROP TRIGGER IF EXISTS {ON_DELETE}",
        archive_triggers(Archiving(deleted=True))[ON_DELETE],
    ]


def _triggers_with(feature: Feature) -> Collection[str]:
    """Return the triggers that depend on a feature; those that archive depend on each other.

    A trigger of another feature stays missing: what happened without it is not counted.
    """
    own = FEATURE_TRIGGERS[feature]
    return ARCHIVE_TRIGGERS if set(own) <= set(ARCHIVE_TRIGGERS) else own


def _expected_triggers(db: Connection) -> dict[str, str]:
    """Return every trigger of memctl by its name; the SQL of one that must not exist is empty."""
    enabled = {
        feature for feature in get_args(Feature) if read_state(db, _state_key(feature)) is not None
    }
    has_tables = table_exists(db, "memory_holds")  # not at an earlier step of the schema
    archiving = Archiving(
        deleted="archive-on-delete" in enabled,
        replaced="archive-on-replace" in enabled and has_tables,
        held=has_holds(db),
    )
    return {
        "memctl_access_boost": ACCESS_BOOST.strip() if "access-boost" in enabled else "",
        "memctl_access_counting": ACCESS_COUNTING.strip() if "access-counting" in enabled else "",
        **archive_triggers(archiving),
    }


def _present_triggers(db: Connection) -> dict[str, str]:
    """Return the triggers of memctl in the database by their names."""
    found = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    return {name: sql for name, sql in found if name in OWN_TRIGGERS}


def _state_key(feature: Feature) -> str:
    return f"feature:{feature}"
