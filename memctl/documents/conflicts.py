"""Conflicts of an import: which incoming rows meet something else in the database, and which stays.

A stored row is the rival of an incoming one when they have the same id, or when the incoming one is
active and they have the same agent, type and key. Each incoming row gets a fate: `unchanged`,
`inserted` when it has no rival, `foreign` when one belongs to another agent, `replaced` when it
wins against all of them, else `skipped`. A promotion belongs to the memory of its name, and is
skipped with it.
"""

from array import array
from sqlite3 import Connection
from typing import Literal

from memctl.documents.document import ACTIVE, ARCHIVED, PROMOTIONS
from memctl.storage.sqlite.archiving import renamed
from memctl.storage.times import unix_seconds

ImportConflict = Literal["fail", "skip", "replace", "newest"]


def _same(columns: tuple[str, ...], stored: str = "stored", incoming: str = "incoming") -> str:
    """Return SQL that is true when a stored row equals the incoming one in all columns."""
    return " AND ".join(f"{stored}.{column} IS {incoming}.{column}" for column in columns)


def _moment(column: str) -> str:
    return f"coalesce({unix_seconds(column)}, -9e18)"


def _written(row: str) -> str:
    """Return SQL for when a memory was last written, and if that is equal, last read."""
    return f"({_moment(f'{row}.created_at')}, {_moment(f'{row}.last_accessed')})"


SAME_NAME = """
    stored.agent_id = incoming.agent_id AND stored.type = incoming.type
    AND stored.key = incoming.key
"""

# The rows that one step decides on, by their numbers in `incoming`.
AMONG = "IN (SELECT value FROM json_each(:rows))"


def in_document(row: str) -> str:
    """Return SQL that is true when the document has an archived memory just as it is stored.

    Such a memory is no rival: both are to be in the archive.
    """
    return f"""
        EXISTS (
            SELECT 1 FROM incoming AS twin INDEXED BY incoming_by_id
            WHERE twin.archived_reason IS NOT NULL AND {_same(ARCHIVED.columns, row, "twin")}
        )
    """


# Of archived memories a document may have several that are the same in every column: as many are
# to be in the archive. They are found by id, for of one key there may be thousands.
UNCHANGED = f"""
    INSERT INTO fates
    SELECT rowid, 'unchanged' FROM incoming
    WHERE rowid {AMONG} AND CASE
        WHEN archived_reason IS NULL THEN EXISTS (
            SELECT 1 FROM agent_memory AS stored WHERE {SAME_NAME} AND {_same(ACTIVE.columns)}
        )
        ELSE (
            SELECT count(*) FROM archived_memories AS stored WHERE {_same(ARCHIVED.columns)}
        ) > (
            SELECT count(*) FROM incoming AS earlier INDEXED BY incoming_by_id
            WHERE {_same(ARCHIVED.columns, "earlier")} AND earlier.rowid < incoming.rowid
        )
    END
"""

# By name an archived memory can only be found in a walk through all of its agent's. So that is
# done once, without a lock; each step looks only at those that have been archived since.
SAME_NAME_IN_ARCHIVE = f"""
    INSERT OR IGNORE INTO same_name_in_archive
    SELECT incoming.rowid, stored.archive_id
    FROM archived_memories AS stored CROSS JOIN incoming ON {SAME_NAME}
    WHERE {{which}} AND incoming.archived_reason IS NULL
"""

UNDECIDED = "incoming.rowid NOT IN (SELECT row FROM fates)"

# Every stored row that an incoming one is in conflict with; also under the id that this import
# has given to it, so that the fate of a row does not depend on the order of the steps.
RIVALS = (
    f"""
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'active', stored.rowid, stored.agent_id <> incoming.agent_id, {{wins}}
    FROM incoming CROSS JOIN agent_memory AS stored ON stored.id = incoming.id
    WHERE incoming.rowid {AMONG} AND {UNDECIDED}
    """,
    f"""
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'active', stored.rowid, FALSE, {{wins}}
    FROM incoming CROSS JOIN agent_memory AS stored ON {SAME_NAME}
    WHERE incoming.rowid {AMONG} AND {UNDECIDED} AND incoming.archived_reason IS NULL
    """,
    f"""
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'archived', stored.archive_id, stored.agent_id <> incoming.agent_id,
        {{wins}}
    FROM incoming
        CROSS JOIN archived_memories AS stored
        ON stored.id IN (incoming.id, {renamed("incoming.id")})
    WHERE incoming.rowid {AMONG} AND {UNDECIDED} AND NOT {in_document("stored")}
    """,
    f"""
    INSERT OR IGNORE INTO rivals
    SELECT incoming.rowid, 'archived', stored.archive_id, FALSE, {{wins}}
    FROM incoming
        CROSS JOIN same_name_in_archive AS found ON found.incoming_row = incoming.rowid
        CROSS JOIN archived_memories AS stored ON stored.archive_id = found.archive_id
    WHERE incoming.rowid {AMONG} AND {UNDECIDED} AND {SAME_NAME}
        AND NOT {in_document("stored")}
    """,
)

# Whether an incoming row takes the place of a stored one.
WINS: dict[ImportConflict, str] = {
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

DECIDE = f"""
    INSERT INTO fates
    SELECT rowid, CASE
        WHEN rowid NOT IN (SELECT incoming_row FROM rivals) THEN 'inserted'
        WHEN rowid IN (SELECT incoming_row FROM rivals WHERE of_another_agent) THEN 'foreign'
        WHEN rowid IN (SELECT incoming_row FROM rivals WHERE NOT wins) THEN 'skipped'
        ELSE 'replaced'
    END
    FROM incoming WHERE rowid {AMONG} AND {UNDECIDED}
"""

PROMOTION_WINS: dict[ImportConflict, str] = {
    **WINS,
    "newest": f"{_moment('incoming.promoted_at')} > {_moment('stored.promoted_at')}",
}

# A promotion goes with the active memory of its name, else with the newest archived one. When the
# document has neither, it goes alone, under a number that no memory has.
ROWS_OF_PROMOTIONS = f"""
    INSERT INTO promotion_fates
    SELECT
        incoming.rowid,
        coalesce(
            (
                SELECT rowid FROM incoming AS stored
                WHERE {SAME_NAME}
                ORDER BY archived_reason IS NOT NULL, rowid DESC
                LIMIT 1
            ),
            -incoming.rowid
        ),
        NULL
    FROM incoming_promotions AS incoming
"""

DECIDE_PROMOTIONS = f"""
    UPDATE promotion_fates SET fate = (
        SELECT coalesce(
            (
                SELECT 'unchanged' FROM memory_promotions AS stored
                WHERE {SAME_NAME} AND {_same(PROMOTIONS.columns)}
            ),
            (
                SELECT 'skipped' FROM fates
                WHERE fates.row = promotion_fates.row AND fates.fate IN ('skipped', 'foreign')
            ),
            (
                SELECT iif({{wins}}, 'replaced', 'skipped') FROM memory_promotions AS stored
                WHERE {SAME_NAME}
            ),
            'inserted'
        )
        FROM incoming_promotions AS incoming WHERE incoming.rowid = promotion
    )
    WHERE row {AMONG}
"""

# Fates have tables of their own: to write them into the rows would rewrite all that these hold.
TEMPORARY_TABLES = (
    """
    CREATE TEMP TABLE same_name_in_archive (
        incoming_row INTEGER, archive_id INTEGER, PRIMARY KEY (incoming_row, archive_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TEMP TABLE rivals (
        incoming_row INTEGER, place TEXT, stored_row INTEGER, of_another_agent, wins,
        PRIMARY KEY (incoming_row, place, stored_row)
    ) WITHOUT ROWID
    """,
    "CREATE TEMP TABLE fates (row INTEGER PRIMARY KEY, fate TEXT)",
    "CREATE TEMP TABLE promotion_fates (promotion INTEGER PRIMARY KEY, row INTEGER, fate TEXT)",
    "CREATE INDEX temp.promotion_fates_by_row ON promotion_fates (row)",
    """
    CREATE TEMP VIEW decided_incoming AS
    SELECT row, incoming.*, fate FROM incoming CROSS JOIN fates ON row = incoming.rowid
    """,
    """
    CREATE TEMP VIEW decided_incoming_promotions AS
    SELECT row, incoming_promotions.*, fate
    FROM promotion_fates CROSS JOIN incoming_promotions ON promotion = incoming_promotions.rowid
    """,
)

ALL_ROWS = """
    SELECT rowid FROM incoming UNION ALL SELECT row FROM promotion_fates WHERE row < 0
"""

TAKEN_IN = "fate IN ('inserted', 'replaced')"

# The same of a row of each table in which the document is laid out.
IS_TAKEN_IN = {
    "incoming": f"rowid IN (SELECT row FROM fates WHERE {TAKEN_IN})",
    "incoming_promotions": f"rowid IN (SELECT promotion FROM promotion_fates WHERE {TAKEN_IN})",
}

ROWS_TO_WRITE = f"""
    SELECT row FROM fates WHERE {TAKEN_IN}
    UNION
    SELECT row FROM promotion_fates WHERE {TAKEN_IN}
    ORDER BY row
"""


class Conflicts:
    """Decides what is to become of incoming rows, as often as others may have written meanwhile."""

    def __init__(self, db: Connection, on_conflict: ImportConflict, *, suffix: str | None) -> None:
        """Find archived memories of the same names, agent by agent; takes no lock.

        `suffix` is what this import appends to an id that a stored memory has to give up.
        """
        self._db = db
        self._on_conflict: ImportConflict = on_conflict
        self._suffix = suffix
        for statement in TEMPORARY_TABLES:
            db.execute(statement)
        db.execute(ROWS_OF_PROMOTIONS)
        self._newest = self._newest_archived()
        one_of_each_agent = db.execute(
            "SELECT min(rowid) FROM incoming WHERE archived_reason IS NULL GROUP BY agent_id"
        ).fetchall()
        which = "stored.agent_id = (SELECT agent_id FROM incoming WHERE rowid = :one)"
        for (one,) in one_of_each_agent:
            db.execute(SAME_NAME_IN_ARCHIVE.format(which=which), {"one": one})

    def all_rows(self) -> "array[int]":
        """Return the numbers of all rows, of promotions only those that go alone."""
        return array("q", (row for (row,) in self._db.execute(ALL_ROWS)))

    def rows_to_write(self) -> "array[int]":
        """Return the numbers of rows that were decided to change something, in their order."""
        return array("q", (row for (row,) in self._db.execute(ROWS_TO_WRITE)))

    def decide(self, rows: str) -> None:
        """Give these rows (a JSON array of numbers) and their promotions their fates.

        Exact in a transaction. Memories are only added to the archive while memctl's lock is held.
        """
        db = self._db
        which = "stored.archive_id > :newest"
        db.execute(SAME_NAME_IN_ARCHIVE.format(which=which), {"newest": self._newest})
        self._newest = self._newest_archived()
        among = {"rows": rows}
        db.execute(f"DELETE FROM fates WHERE row {AMONG}", among)
        db.execute("DELETE FROM rivals")
        db.execute(UNCHANGED, among)
        for rivals in RIVALS:
            db.execute(
                rivals.format(wins=WINS[self._on_conflict]), {**among, "suffix": self._suffix}
            )
        db.execute(DECIDE, among)
        db.execute(DECIDE_PROMOTIONS.format(wins=PROMOTION_WINS[self._on_conflict]), among)

    def forget(self, rows: str) -> None:
        """Leave these rows that were to be written without a fate: they were not reached."""
        for table in ("fates", "promotion_fates"):
            self._db.execute(
                f"UPDATE {table} SET fate = NULL WHERE row {AMONG} AND {TAKEN_IN}", {"rows": rows}
            )

    def _newest_archived(self) -> int:
        newest = self._db.execute("SELECT coalesce(max(archive_id), 0) FROM archived_memories")
        return int(newest.fetchone()[0])
