"""Conflicts of an import: which incoming rows clash with stored ones, and which rows are kept.

A stored row is the rival of an incoming one if they have the same id or, if the incoming row is
active, the same agent, type and key. One decision is made for each incoming row: `unchanged` if it
is stored already, `inserted` if it has no rival, `foreign` if a rival belongs to another agent,
`replaced` if it wins against all rivals, else `skipped`. If one of the rivals that it would replace
is held, the decision is `held`. A promotion belongs to the memory of the same name and is skipped
with it.
"""

from array import array
from datetime import datetime
from sqlite3 import Connection
from typing import Literal

from memctl.storage.sqlite.archiving import renamed
from memctl.storage.sqlite.holds import held_parameter, is_held
from memctl.storage.sqlite.sections import ACTIVE, ARCHIVED, PROMOTIONS
from memctl.storage.sqlite.times import unix_seconds

ImportConflict = Literal["fail", "skip", "replace", "newest"]


def _same(columns: tuple[str, ...], stored: str = "stored", incoming: str = "incoming") -> str:
    """Return SQL that is true if a stored row equals the incoming one in all columns."""
    return " AND ".join(f"{stored}.{column} IS {incoming}.{column}" for column in columns)


def _seconds(column: str) -> str:
    """Return SQL for a stored time; one that cannot be read is earlier than all others."""
    return f"coalesce({unix_seconds(column)}, -9e18)"


def _last_written(row: str) -> str:
    """Return SQL that orders the versions of a memory by when they were written, then read."""
    return f"({_seconds(f'{row}.created_at')}, {_seconds(f'{row}.last_accessed')})"


SAME_NAME = """
    stored.agent_id = incoming.agent_id AND stored.type = incoming.type
    AND stored.key = incoming.key
"""


def _by_id(row: str) -> str:
    """Return SQL that is true if an incoming row with the id of another one is related to it."""
    return f"(NOT :ids_per_agent OR {row}.agent_id = incoming.agent_id)"


# The rows of one step, by their numbers in `incoming`.
AMONG = "IN (SELECT value FROM json_each(:rows))"


def in_document(row: str) -> str:
    """Return SQL that is true if the document contains an archived memory exactly as it is stored.

    Such a memory is not a rival: the archive keeps both.
    """
    return f"""
        EXISTS (
            SELECT 1 FROM incoming AS twin INDEXED BY incoming_by_id
            WHERE twin.archived_reason IS NOT NULL AND {_same(ARCHIVED.columns, row, "twin")}
        )
    """


# A document may contain identical archived memories; the archive must then hold as many. They are
# looked up by id, since one key may have thousands of archived versions.
UNCHANGED = f"""
    INSERT INTO decisions
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

OF_ONE_AGENT = "stored.agent_id = (SELECT agent_id FROM incoming WHERE rowid = :one)"
ARCHIVED_LATER = "stored.archive_id > :newest"


def _find_same_names(condition: str) -> str:
    """Return SQL that notes the archived memories named like incoming active ones.

    The archive has no index on names, and a query reads all memories of an agent. This is done
    once, without a lock; each step then reads only the memories archived since.
    """
    return f"""
        INSERT OR IGNORE INTO same_name_in_archive
        SELECT incoming.rowid, stored.archive_id
        FROM archived_memories AS stored CROSS JOIN incoming ON {SAME_NAME}
        WHERE {condition} AND incoming.archived_reason IS NULL
    """


UNDECIDED = "incoming.rowid NOT IN (SELECT row FROM decisions)"


def _find_rivals(wins: str) -> tuple[str, ...]:
    """Return SQL that finds every rival; `wins` is SQL that is true if the incoming row wins.

    An archived rival is also found under the id that this import has given it: a decision must
    not depend on the order of the steps. An archived rival with another id would stay as it is, and
    need not be held.
    """
    return (
        f"""
        INSERT OR IGNORE INTO rivals
        SELECT incoming.rowid, 'active', stored.rowid, stored.agent_id <> incoming.agent_id, {wins},
            {is_held("agent_memory", "stored")}
        FROM incoming
            CROSS JOIN agent_memory AS stored ON stored.id = incoming.id AND {_by_id("stored")}
        WHERE incoming.rowid {AMONG} AND {UNDECIDED}
        """,
        f"""
        INSERT OR IGNORE INTO rivals
        SELECT incoming.rowid, 'active', stored.rowid, FALSE, {wins},
            {is_held("agent_memory", "stored")}
        FROM incoming CROSS JOIN agent_memory AS stored ON {SAME_NAME}
        WHERE incoming.rowid {AMONG} AND {UNDECIDED} AND incoming.archived_reason IS NULL
        """,
        f"""
        INSERT OR IGNORE INTO rivals
        SELECT incoming.rowid, 'archived', stored.archive_id,
            stored.agent_id <> incoming.agent_id, {wins}, {is_held("archived_memories", "stored")}
        FROM incoming
            CROSS JOIN archived_memories AS stored
            ON stored.id IN (incoming.id, {renamed("incoming.id")}) AND {_by_id("stored")}
        WHERE incoming.rowid {AMONG} AND {UNDECIDED} AND NOT {in_document("stored")}
        """,
        f"""
        INSERT OR IGNORE INTO rivals
        SELECT incoming.rowid, 'archived', stored.archive_id, FALSE, {wins}, FALSE
        FROM incoming
            CROSS JOIN same_name_in_archive AS found ON found.incoming_row = incoming.rowid
            CROSS JOIN archived_memories AS stored ON stored.archive_id = found.archive_id
        WHERE incoming.rowid {AMONG} AND {UNDECIDED} AND {SAME_NAME}
            AND NOT {in_document("stored")}
        """,
    )


# Whether an incoming memory replaces a stored one.
WINS: dict[ImportConflict, str] = {
    "fail": "FALSE",
    "skip": "FALSE",
    "replace": "TRUE",
    # All versions of a memory in the document are compared together. Otherwise a second import
    # would find the losing versions without the rival that another version has replaced.
    "newest": f"""
        EXISTS (
            SELECT 1 FROM incoming AS version
            WHERE (version.rowid = incoming.rowid OR version.id = incoming.id)
                AND {_by_id("version")}
                AND {_last_written("version")} > {_last_written("stored")}
        )
    """,
}

DECIDE = f"""
    INSERT INTO decisions
    SELECT rowid, CASE
        WHEN rowid NOT IN (SELECT incoming_row FROM rivals) THEN 'inserted'
        WHEN rowid IN (SELECT incoming_row FROM rivals WHERE of_another_agent) THEN 'foreign'
        WHEN rowid IN (SELECT incoming_row FROM rivals WHERE NOT wins) THEN 'skipped'
        WHEN rowid IN (SELECT incoming_row FROM rivals WHERE is_held) THEN 'held'
        ELSE 'replaced'
    END
    FROM incoming WHERE rowid {AMONG} AND {UNDECIDED}
"""

PROMOTION_WINS: dict[ImportConflict, str] = {
    **WINS,
    "newest": f"{_seconds('incoming.promoted_at')} > {_seconds('stored.promoted_at')}",
}

# A promotion belongs to the active memory of its name, else to the newest archived one. If the
# document contains neither, the promotion has a negative number, which no memory has.
ROWS_OF_PROMOTIONS = f"""
    INSERT INTO promotion_decisions
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


def _decide_promotions(wins: str) -> str:
    """Return SQL that decides on the promotions of rows; `wins` is as in `_find_rivals`."""
    return f"""
        UPDATE promotion_decisions SET decision = (
            SELECT coalesce(
                (
                    SELECT 'unchanged' FROM memory_promotions AS stored
                    WHERE {SAME_NAME} AND {_same(PROMOTIONS.columns)}
                ),
                (
                    SELECT 'skipped' FROM decisions
                    WHERE decisions.row = promotion_decisions.row
                        AND decisions.decision IN ('skipped', 'foreign', 'held')
                ),
                (
                    SELECT iif({wins}, 'replaced', 'skipped') FROM memory_promotions AS stored
                    WHERE {SAME_NAME}
                ),
                'inserted'
            )
            FROM incoming_promotions AS incoming WHERE incoming.rowid = promotion
        )
        WHERE row {AMONG}
    """


# Decisions have tables of their own: an UPDATE of the incoming rows would rewrite their contents.
TEMPORARY_TABLES = (
    """
    CREATE TEMP TABLE same_name_in_archive (
        incoming_row INTEGER, archive_id INTEGER, PRIMARY KEY (incoming_row, archive_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TEMP TABLE rivals (
        incoming_row INTEGER, place TEXT, stored_row INTEGER, of_another_agent, wins, is_held,
        PRIMARY KEY (incoming_row, place, stored_row)
    ) WITHOUT ROWID
    """,
    "CREATE TEMP TABLE decisions (row INTEGER PRIMARY KEY, decision TEXT)",
    """
    CREATE TEMP TABLE promotion_decisions (
        promotion INTEGER PRIMARY KEY, row INTEGER, decision TEXT
    )
    """,
    "CREATE INDEX temp.promotion_decisions_by_row ON promotion_decisions (row)",
    """
    CREATE TEMP VIEW decided_incoming AS
    SELECT row, incoming.*, decision FROM incoming CROSS JOIN decisions ON row = incoming.rowid
    """,
    """
    CREATE TEMP VIEW decided_incoming_promotions AS
    SELECT row, incoming_promotions.*, decision
    FROM promotion_decisions
        CROSS JOIN incoming_promotions ON promotion = incoming_promotions.rowid
    """,
)

ALL_ROWS = """
    SELECT rowid FROM incoming UNION ALL SELECT row FROM promotion_decisions WHERE row < 0
"""

IS_WRITTEN = "decision IN ('inserted', 'replaced')"

ROWS_TO_WRITE = f"""
    SELECT row FROM decisions WHERE {IS_WRITTEN}
    UNION
    SELECT row FROM promotion_decisions WHERE {IS_WRITTEN}
    ORDER BY row
"""


class Conflicts:
    """Decides on incoming rows, again whenever other programs may have written in between."""

    def __init__(
        self,
        db: Connection,
        rule: ImportConflict,
        *,
        suffix: str | None,
        ids_per_agent: bool,
        now: datetime,
    ) -> None:
        """Find archived memories with the names of incoming ones, agent by agent, without a lock.

        `suffix` is what this import appends to the ids of stored memories that it replaces. If
        `ids_per_agent`, memories of two agents may have the same id.
        """
        self._db = db
        self._rule: ImportConflict = rule
        self._parameters = {
            "suffix": suffix,
            "ids_per_agent": ids_per_agent,
            **held_parameter(now),
        }
        for statement in TEMPORARY_TABLES:
            db.execute(statement)
        db.execute(ROWS_OF_PROMOTIONS)
        self._newest = self._newest_archived()
        one_of_each_agent = db.execute(
            "SELECT min(rowid) FROM incoming WHERE archived_reason IS NULL GROUP BY agent_id"
        ).fetchall()
        for (one,) in one_of_each_agent:
            db.execute(_find_same_names(OF_ONE_AGENT), {"one": one})

    def all_rows(self) -> "array[int]":
        """Return the numbers of all memories, and of the promotions without a memory."""
        return array("q", (row for (row,) in self._db.execute(ALL_ROWS)))

    def rows_to_write(self) -> "array[int]":
        """Return the numbers of the rows to be written, in ascending order."""
        return array("q", (row for (row,) in self._db.execute(ROWS_TO_WRITE)))

    def decide(self, rows: str) -> None:
        """Decide on these rows (a JSON array of numbers) and their promotions.

        The decisions are exact in a transaction. The caller holds memctl's lock, so that nothing
        is removed from the archive meanwhile.
        """
        db = self._db
        db.execute(_find_same_names(ARCHIVED_LATER), {"newest": self._newest})
        self._newest = self._newest_archived()
        among = {"rows": rows}
        db.execute(f"DELETE FROM decisions WHERE row {AMONG}", among)
        db.execute("DELETE FROM rivals")
        db.execute(UNCHANGED, among)
        for statement in _find_rivals(WINS[self._rule]):
            db.execute(statement, {**among, **self._parameters})
        db.execute(DECIDE, among)
        db.execute(_decide_promotions(PROMOTION_WINS[self._rule]), among)

    def withdraw(self, rows: str) -> None:
        """Withdraw the decisions to write these rows (a JSON array): they were not reached."""
        for table in ("decisions", "promotion_decisions"):
            self._db.execute(
                f"UPDATE {table} SET decision = NULL WHERE row {AMONG} AND {IS_WRITTEN}",
                {"rows": rows},
            )

    def _newest_archived(self) -> int:
        newest = self._db.execute("SELECT coalesce(max(archive_id), 0) FROM archived_memories")
        return int(newest.fetchone()[0])
