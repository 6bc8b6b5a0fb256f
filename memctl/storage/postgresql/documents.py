"""Exports and imports of a database on a server, through a private SQLite database.

An export copies the rows there in one short transaction. An import stages the document there, and
copies the stored rows that can be in conflict with it; each batch locks these, and copies them
again before it decides. What it writes there is then written to the server.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from memctl.errors import RefusedError, UsageError
from memctl.storage.batches import Batches
from memctl.storage.postgresql.archiving import of_agent
from memctl.storage.postgresql.batches import Batch, FoundRow
from memctl.storage.postgresql.copied_tables import ACTIVE, ARCHIVED, PROMOTIONS, CopiedTable
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.replacements import replace_unstorable
from memctl.storage.postgresql.row_rules import (
    create_functions,
    find_unstorable,
    write_times_alike,
)
from memctl.storage.postgresql.times import first_key, keys_of_document
from memctl.storage.postgresql.working_copy import WorkingCopy
from memctl.storage.sqlite import exports, sections
from memctl.storage.sqlite.conflicts import AMONG, IS_WRITTEN
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.row_rules import InvalidValue
from memctl.storage.times import parse_moment

# The tables of the sections, and the order in which rows were imported, then written.
EXPORTED = (
    (sections.ACTIVE, ACTIVE, "import_order NULLS LAST, created_at, agent_id, id"),
    (sections.ARCHIVED, ARCHIVED, "archive_id"),
    (sections.PROMOTIONS, PROMOTIONS, "agent_id, type, key"),
)

# The server of another client's machine may have another time.
CLOCK_DIFFERENCE = 600  # seconds

ACTIVE_RIVALS = """
    agent_id = %(agent)s AND id IN (
        SELECT unnest(%(ids)s::text[])
        UNION ALL
        SELECT memory.id
        FROM unnest(%(types)s::text[], %(keys)s::text[]) AS name (type, key)
            JOIN agent_memory AS memory
            ON memory.agent_id = %(agent)s AND memory.type = name.type AND memory.key = name.key
    )
"""
ARCHIVED_RIVALS = """
    agent_id = %(agent)s AND archive_id IN (
        SELECT unnest(%(archive_keys)s::uuid[])
        UNION ALL
        SELECT archive_id FROM archived_memories
        WHERE agent_id = %(agent)s AND id = ANY(%(ids)s::text[])
    )
"""
ARCHIVED_SINCE = """
    agent_id = %(agent)s AND archive_id >= %(since)s::uuid
    AND (type, key) IN (SELECT * FROM unnest(%(types)s::text[], %(keys)s::text[]))
"""
STORED_PROMOTIONS = """
    agent_id = %(agent)s
    AND (type, key) IN (SELECT * FROM unnest(%(promoted_types)s::text[], %(promoted_keys)s::text[]))
"""

# Copies that the server may no longer have.
FORGET_COPIES = (
    """
    DELETE FROM agent_memory
    WHERE agent_id = :agent AND (
        id IN (SELECT value FROM json_each(:ids))
        OR (type, key) IN (
            SELECT type, key FROM incoming
            WHERE agent_id = :agent AND archived_reason IS NULL AND rowid IN (
                SELECT value FROM json_each(:rows)
            )
        )
    )
    """,
    """
    DELETE FROM archived_memories
    WHERE agent_id = :agent AND id IN (SELECT value FROM json_each(:ids))
    """,
)

ORDER_ACTIVE = f"""
    UPDATE agent_memory SET import_order = :first + row
    FROM decided_incoming AS incoming
    WHERE row {AMONG} AND {IS_WRITTEN} AND archived_reason IS NULL
        AND agent_memory.agent_id = incoming.agent_id AND agent_memory.id = incoming.id
"""

WRITTEN_TO_ARCHIVE = f"""
    SELECT row FROM decided_incoming
    WHERE row {AMONG} AND {IS_WRITTEN} AND archived_reason IS NOT NULL
    ORDER BY row
"""


class PostgresDocuments:
    """Exports and imports; see `storage.documents.Documents`."""

    ids_per_agent = True
    locks = "locks on these rows"

    def __init__(self, server: Database) -> None:
        self._server = server
        self._copy = WorkingCopy(server)
        self._suffix = ""  # what the import appends to ids of memories that it replaces
        # A key of the archive that precedes those that were made since the rivals were copied.
        self._since = ""
        self._first_order = 0
        self._archive_key: Callable[[int], str] = str
        self._last_batch: Batch | None = None
        self.replaced_values: Mapping[str, int] | None = None
        create_functions(self.db)

    @property
    def db(self) -> Connection:
        """The private database."""
        return self._copy.db

    # Export

    def copy_rows(
        self,
        agent: str | None,
        wanted: Collection[sections.DocumentSection],
        *,
        now: datetime,
    ) -> None:
        """Copy rows in one transaction of the server, which has no holds.

        An export of all agents fails, as pg_dump does, if a policy of the tables hides rows.
        """
        exports.copy_rows(self.db, agent, (), now=now)
        parameters = {"of_agent": agent and text(agent)}
        with self._server.one_view(), transaction(self.db):
            if agent is None:
                self._server.execute("SET LOCAL row_security = off")
            for section, table, order in EXPORTED:
                if section in wanted:
                    self._require_exact(table, agent)
                    rows = self._server.stream(
                        f"SELECT {table.reading(section.columns)} FROM {table.name}"
                        f" WHERE TRUE {of_agent(agent)} ORDER BY {order}",
                        parameters,
                    )
                    marks = ", ".join("?" for _ in section.columns)
                    self.db.executemany(
                        f"INSERT INTO exported_{section.name} VALUES ({marks})", rows
                    )

    def _require_exact(self, table: CopiedTable, agent: str | None) -> None:
        """Raise RefusedError for numbers and times that no document contains."""
        conditions = [
            f"{name} = 'NaN'"
            if kind == "double precision"
            else f"{name} NOT BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z'"
            for name in table.columns
            if (kind := table.type_of(name)) in ("double precision", "timestamptz")
        ]
        found = self._server.row(
            f"SELECT agent_id, type, key, count(*) OVER () FROM {table.name}"
            f" WHERE ({' OR '.join(conditions)}) {of_agent(agent)} LIMIT 1",
            {"of_agent": agent},
        )
        if found:
            raise RefusedError(
                "rows with NaN, or with a time outside of the years 1 to 9999, cannot be exported:"
                f" {found[3]:,} in {table.name}, the first '{found[1]}' '{found[2]}' of"
                f" '{found[0]}'",
                "correct them with UPDATE",
            )

    # Import

    def replace_unstorable(self, *, now: datetime) -> None:
        """Replace the staged values that PostgreSQL cannot store."""
        with transaction(self.db):
            self.replaced_values = replace_unstorable(self.db, now=now)

    def unstorable_values(self, *, limit: int) -> list[InvalidValue]:
        """Return the first staged values that PostgreSQL cannot store."""
        found = find_unstorable(self.db, limit=limit)
        if not found:
            with transaction(self.db):
                write_times_alike(self.db)
        return found

    def copy_rivals(self, batches: Batches | None, *, run_id: int | None) -> None:
        """Copy the stored rows of each agent that can be rivals, without a lock."""
        self._suffix = f"~{run_id}"
        self._since = first_key(0)
        agents = self.db.execute(
            "SELECT agent_id FROM incoming UNION SELECT agent_id FROM incoming_promotions"
        ).fetchall()
        since = first_key(time.time() - CLOCK_DIFFERENCE)
        for (agent,) in agents:
            self._renew(self._rivals(agent, None), locked=False)
            if batches:
                batches.keep()
        self._since = since

    def identify(self, sha256: str, exported_at: str) -> None:
        """Choose the numbers and keys of the rows, which a repeated import does not change."""
        try:
            at = max(parse_moment(exported_at).timestamp(), 0)
        except UsageError:  # of a document by another program
            at = 0
        self._first_order = int(at * 1_000_000)
        self._archive_key = keys_of_document(sha256, at)

    def found_rows(self, rows: Sequence[int]) -> list[FoundRow]:
        """Return the agents and numbers of staged rows, those of an agent together."""
        return self.db.execute(
            """
            SELECT coalesce(incoming.agent_id, promotion.agent_id), CAST(row.value AS TEXT)
            FROM json_each(:rows) AS row
                LEFT JOIN incoming ON incoming.rowid = row.value
                LEFT JOIN incoming_promotions AS promotion ON promotion.rowid = -row.value
            ORDER BY 1, row.value
            """,
            {"rows": json.dumps(list(rows))},
        ).fetchall()

    def lock_rivals(self, batch: Batch) -> str:
        """Lock the stored rows that can be rivals of a batch, and copy them again."""
        rows = f"[{', '.join(batch.keys)}]"
        if self._last_batch and self._last_batch.keys == batch.keys:
            self._undo_copies(batch.agent)  # the transaction is repeated
        self._last_batch = batch
        rivals = self._rivals(batch.agent, rows)
        parameters = {"agent": batch.agent, "ids": json.dumps(rivals["ids"]), "rows": rows}
        for statement in FORGET_COPIES:
            self.db.execute(statement, parameters)
        self._renew(rivals, locked=True)
        return rows

    @contextmanager
    def changes(self, batch: Batch) -> Iterator[None]:
        """Write to the server what the block writes to the copies."""
        with self._copy.changes(batch):
            yield
            self._keep_order(f"[{', '.join(batch.keys)}]")

    def _rivals(self, agent: str, rows: str | None) -> dict[str, Any]:
        """Return what finds the rivals of rows (a JSON array) of an agent, or of all its rows."""
        among = "TRUE" if rows is None else f"rowid {AMONG}"
        bound = {"agent": agent, "rows": rows}
        staged = self.db.execute(
            "SELECT id, type, key, archived_reason IS NULL, rowid FROM incoming"
            f" WHERE agent_id = :agent AND {among}",
            bound,
        ).fetchall()
        names = [(type_, key) for _, type_, key, is_active, _ in staged if is_active]
        promotions = self.db.execute(
            "SELECT type, key FROM incoming_promotions WHERE agent_id = :agent"
            if rows is None
            else f"SELECT type, key FROM decided_incoming_promotions WHERE row {AMONG}",
            bound,
        ).fetchall()
        return {
            "agent": agent,
            "ids": [f"{row[0]}{suffix}" for row in staged for suffix in ("", self._suffix)],
            "archive_keys": [self._archive_key(row[4]) for row in staged if not row[3]],
            "types": [type_ for type_, _ in names],
            "keys": [key for _, key in names],
            "promoted_types": [type_ for type_, _ in promotions],
            "promoted_keys": [key for _, key in promotions],
            "since": self._since,
        }

    def _renew(self, rivals: Mapping[str, Any], *, locked: bool) -> None:
        """Copy the stored rows that can be rivals; only memctl changes the archive's."""
        self._copy.copy(ACTIVE, ACTIVE_RIVALS, rivals, locked=locked)
        self._copy.copy(ARCHIVED, ARCHIVED_RIVALS, rivals)
        if rivals["types"]:
            self._copy.copy(ARCHIVED, ARCHIVED_SINCE, rivals)
        if rivals["promoted_types"]:
            self._copy.copy(PROMOTIONS, STORED_PROMOTIONS, rivals, locked=locked)

    def _undo_copies(self, agent: str) -> None:
        """Renew the copies of what an interrupted transaction has changed in the archive."""
        changed = self.db.execute(
            "SELECT key FROM changed_rows JOIN archive_keys ON archive_id = key2"
            f" WHERE name = '{ARCHIVED.name}'"
        ).fetchall()
        self._copy.lock(ARCHIVED, agent, [key for (key,) in changed])
        self.db.execute(
            "DELETE FROM archive_keys"
            " WHERE archive_id NOT IN (SELECT archive_id FROM archived_memories)"
        )
        self.db.execute(f"DELETE FROM {PROMOTIONS.name} WHERE agent_id = ?", (agent,))

    def _keep_order(self, rows: str) -> None:
        """Number the active memories, and choose the keys of archived ones, by the document.

        Another memory has the key if one that was imported earlier has got another id since.
        """
        self.db.execute(ORDER_ACTIVE, {"rows": rows, "first": self._first_order})
        archived = self.db.execute(WRITTEN_TO_ARCHIVE, {"rows": rows}).fetchall()
        places = self.db.execute(
            "SELECT archive_id FROM archived_memories ORDER BY archive_id DESC LIMIT ?",
            (len(archived),),
        ).fetchall()
        self.db.executemany(
            "INSERT OR IGNORE INTO archive_keys VALUES (?, ?)",
            [
                (place, self._archive_key(row))
                for (place,), (row,) in zip(reversed(places), archived, strict=True)
            ],
        )
