"""Conflicts of an import: which incoming rows meet something else in the database, and who wins.

A stored row is the rival of an incoming one when they have the same id, or when the incoming one is
active and they have the same agent, type and key. Each incoming row gets a fate: `unchanged`,
`inserted` when it has no rival, `replaced` when it wins against all of them, else `skipped`.
"""

from sqlite3 import Connection
from typing import Literal

from memctl.document import ACTIVE, ARCHIVED, PROMOTIONS
from memctl.timestamps import unix_seconds

OnConflict = Literal["fail", "skip", "replace", "newest"]


def _same(columns: tuple[str, ...]) -> str:
    """Return SQL that is true when a stored row equals the incoming one in all columns."""
    return " AND ".join(f"stored.{column} IS incoming.{column}" for column in columns)


def _moment(column: str) -> str:
    return f"coalesce({unix_seconds(column)}, -9e18)"


def _written(row: str) -> str:
    """Return SQL for when a memory was last written, and if that is equal, last read."""
    return f"({_moment(f'{row}.created_at')}, {_moment(f'{row}.last_accessed')})"


SAME_NAME = """
    stored.agent_id = incoming.agent_id AND stored.type = incoming.type
    AND stored.key = incoming.key
"""

# Which incoming rows the archive has already, and as what.
KNOWN_IN_ARCHIVE = f"""
    INSERT INTO known_in_archive
    SELECT incoming.rowid, stored.archive_id
    FROM incoming CROSS JOIN archived_memories AS stored ON {_same(ARCHIVED.columns)}
    WHERE incoming.archived_reason IS NOT NULL
"""

UNCHANGED = f"""
    UPDATE incoming SET fate = 'unchanged'
    WHERE rowid IN (SELECT incoming_row FROM known_in_archive)
        OR archived_reason IS NULL AND EXISTS (
            SELECT 1 FROM agent_memory AS stored WHERE {SAME_NAME} AND {_same(ACTIVE.columns)}
        )
"""

# By name an archived memory can only be found in a walk through all of its agent's. So that is
# done without a lock; under it only those are looked at that have been archived since.
SAME_NAME_IN_ARCHIVE = f"""
    INSERT OR IGNORE INTO same_name_in_archive
    SELECT incoming.rowid, stored.archive_id
    FROM archived_memories AS stored CROSS JOIN incoming ON {SAME_NAME}
    WHERE {{which}} AND incoming.archived_reason IS NULL
"""

# Every stored row that an incoming one is in conflict with. What the document has just as it is
# stored is no rival: both shall be there.
RIVALS = (
    """
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'active', stored.rowid, stored.agent_id <> incoming.agent_id, {wins}
    FROM incoming CROSS JOIN agent_memory AS stored ON stored.id = incoming.id
    WHERE incoming.fate IS NULL
    """,
    f"""
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'active', stored.rowid, FALSE, {{wins}}
    FROM incoming CROSS JOIN agent_memory AS stored ON {SAME_NAME}
    WHERE incoming.fate IS NULL AND incoming.archived_reason IS NULL
    """,
    """
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'archived', stored.archive_id, stored.agent_id <> incoming.agent_id,
        {wins}
    FROM incoming CROSS JOIN archived_memories AS stored ON stored.id = incoming.id
    WHERE incoming.fate IS NULL
        AND stored.archive_id NOT IN (SELECT archive_id FROM known_in_archive)
    """,
    """
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'archived', stored.archive_id, FALSE, {wins}
    FROM same_name_in_archive AS found
        CROSS JOIN incoming ON incoming.rowid = found.incoming_row
        CROSS JOIN archived_memories AS stored ON stored.archive_id = found.archive_id
    WHERE incoming.fate IS NULL
        AND stored.archive_id NOT IN (SELECT archive_id FROM known_in_archive)
    """,
)

# Whether an incoming row takes the place of a stored one.
WINS: dict[OnConflict, str] = {
    "fail": "FALSE",
    "skip": "FALSE",
    "replace": "TRUE",
    # The versions of one memory in the document stand together, or else a second import would
    # find those that lost without the rival that has been replaced by another.
    "newest": f"""
        EXISTS (
            SELECT 1 FROM incoming AS version
            WHERE (version.rowid = incoming.rowid OR version.id = incoming.id)
                AND {_written("version")} > {_written("stored")}
        )
    """,
}

DECIDE = """
    UPDATE incoming SET fate = CASE
        WHEN rowid NOT IN (SELECT incoming_row FROM rivals) THEN 'inserted'
        WHEN rowid IN (SELECT incoming_row FROM rivals WHERE NOT wins) THEN 'skipped'
        ELSE 'replaced'
    END
    WHERE fate IS NULL
"""

PROMOTION_WINS: dict[OnConflict, str] = {
    **WINS,
    "newest": f"{_moment('incoming.promoted_at')} > {_moment('stored.promoted_at')}",
}

DECIDE_PROMOTIONS = f"""
    UPDATE incoming_promotions AS incoming SET fate = coalesce(
        (
            SELECT CASE
                WHEN {_same(PROMOTIONS.columns)} THEN 'unchanged'
                WHEN {{wins}} THEN 'replaced'
                ELSE 'skipped'
            END
            FROM memory_promotions AS stored WHERE {SAME_NAME}
        ),
        'inserted'
    )
"""

TEMPORARY_TABLES = {
    "known_in_archive": "incoming_row INTEGER, archive_id INTEGER",
    "same_name_in_archive": "incoming_row INTEGER, archive_id INTEGER,"
    " PRIMARY KEY (incoming_row, archive_id)",
    "rivals": "incoming_row INTEGER, place TEXT, stored_row INTEGER, of_another_agent, wins,"
    " PRIMARY KEY (incoming_row, place, stored_row)",
}


def prepare_decision(db: Connection) -> int:
    """Make the tables, and find archived memories of the same names, agent by agent.

    Returns the newest archive_id up to which that is done.
    """
    for table, columns in TEMPORARY_TABLES.items():
        db.execute(f"CREATE TEMP TABLE {table} ({columns})")
    newest = db.execute("SELECT coalesce(max(archive_id), 0) FROM archived_memories").fetchone()[0]
    one_of_each_agent = db.execute(
        "SELECT min(rowid) FROM incoming WHERE archived_reason IS NULL GROUP BY agent_id"
    ).fetchall()
    which = "stored.agent_id = (SELECT agent_id FROM incoming WHERE rowid = :one)"
    for (one,) in one_of_each_agent:
        db.execute(SAME_NAME_IN_ARCHIVE.format(which=which), {"one": one})
    return int(newest)


def look_again(db: Connection, *, newest: int) -> None:
    """Find what has been archived since; while memctl's lock is held, others only add to it."""
    which = "stored.archive_id > :newest"
    db.execute(SAME_NAME_IN_ARCHIVE.format(which=which), {"newest": newest})


def decide(db: Connection, on_conflict: OnConflict) -> None:
    """Give every incoming row its fate."""
    db.execute("UPDATE incoming SET fate = NULL WHERE fate IS NOT NULL")
    db.execute("DELETE FROM known_in_archive")
    db.execute("DELETE FROM rivals")
    db.execute(KNOWN_IN_ARCHIVE)
    db.execute(UNCHANGED)
    for rivals in RIVALS:
        db.execute(rivals.format(wins=WINS[on_conflict]))
    db.execute(DECIDE)
    db.execute(DECIDE_PROMOTIONS.format(wins=PROMOTION_WINS[on_conflict]))
