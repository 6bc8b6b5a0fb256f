"""Decay: the rule of SQLite runs on copies of the memories, and batches write what it finds.

Only memories that can lose importance are copied, without their values. A batch is one statement,
which charges memories that are as they were when they were copied; the next run charges the others.
"""

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from memctl.storage.policies import PolicyValues, PromotionValues
from memctl.storage.postgresql.archiving import of_agent
from memctl.storage.postgresql.arrays import arrays_of, rows_of_arrays
from memctl.storage.postgresql.batches import Batch, FoundRow
from memctl.storage.postgresql.copied_tables import MEMORY_TYPES, TIMES, CopiedTable
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.lease import Lease
from memctl.storage.postgresql.notes import KEY_OF_NOTE
from memctl.storage.postgresql.times import new_key
from memctl.storage.rows import AffectedMemory
from memctl.storage.sqlite.candidates import candidate_sql, notes_on_candidates
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.decay import decay_sql, select_fading
from memctl.storage.sqlite.selection import ALL_ROWS
from memctl.storage.times import to_text, to_unix

PAGE_ROWS = 20_000  # that are copied at once

# The rate is all that the metadata are read for.
RATE_IN_METADATA = """
    CASE WHEN strpos(agent_memory.metadata, 'decay_rate') > 0 THEN agent_memory.metadata END
"""
# The charge of a memory depends on these columns.
BASIS = {
    "type": "agent_memory.type",
    "metadata": RATE_IN_METADATA,
    "importance": "agent_memory.importance",
    "access_count": "agent_memory.access_count",
    "last_accessed": "agent_memory.last_accessed",
    "created_at": "agent_memory.created_at",
    "importance_decay_rate": "agent_memory.importance_decay_rate",
    "last_decay_at": "agent_memory.last_decay_at",
}
CHARGES = CopiedTable(
    "charges",
    ("agent_id", "id"),
    ("agent_id", "id", "key", *BASIS),
    {**TIMES, "metadata": RATE_IN_METADATA},
    {**MEMORY_TYPES, "decayed": "double precision"},
)
# What the rule has found: the importance that is left, and for candidates, a note.
FOUND = ("decayed", "note_key", "note")
WRITTEN = ("id", *BASIS, *FOUND)

# The copies of one page, without keys and indexes, and the charges of all pages.
COPIES = f"""
    CREATE TABLE agent_memory (
        agent_id              TEXT,
        id                    TEXT,
        type                  TEXT,
        key                   TEXT,
        metadata              TEXT,
        importance            INTEGER,
        access_count          INTEGER,
        last_accessed         TEXT,
        created_at            TEXT,
        importance_decay_rate REAL,
        last_decay_at         TEXT,
        promoted_at           TEXT
    );
    CREATE TABLE memory_state (key TEXT PRIMARY KEY, value TEXT);
    CREATE TABLE charges (
        {", ".join((*CHARGES.columns, *FOUND))}, PRIMARY KEY (agent_id, id)
    ) WITHOUT ROWID;
"""
COPY = f"""
    INSERT INTO agent_memory ({", ".join(CHARGES.columns)})
    VALUES ({", ".join("?" for _ in CHARGES.columns)})
"""
SELECT_WRITTEN = f"SELECT {', '.join(WRITTEN)} FROM charges"
SELECT_CHARGED = "SELECT id, agent_id, type, key, importance, decayed FROM charges"
OF_BATCH = "WHERE agent_id = :agent AND id IN (SELECT value FROM json_each(:ids)) ORDER BY id"

SAME = " AND ".join(f"{sql} IS NOT DISTINCT FROM given.{name}" for name, sql in BASIS.items())

CHARGE = f"""
    WITH given AS (
        SELECT * FROM {rows_of_arrays(CHARGES, WRITTEN)} AS given ({", ".join(WRITTEN)})
    ),
    charged AS (
        UPDATE agent_memory
        SET importance = given.decayed, last_decay_at = %(now)s::timestamptz
        FROM given
        WHERE agent_memory.agent_id = %(agent)s AND agent_memory.id = given.id
            AND {SAME}
        RETURNING agent_memory.id, given.note_key, given.note
    ),
    noted AS (
        INSERT INTO memory_state (key, value)
        SELECT note_key, note FROM charged WHERE note IS NOT NULL ORDER BY note_key
        ON CONFLICT (key) DO NOTHING
    ),
    recorded AS (
        INSERT INTO memory_events (event_key, at, event, agent_id, run_id, detail)
        SELECT %(event_key)s::uuid, %(now)s::timestamptz, 'memory:decayed', '',
            %(run_id)s::bigint, '{{"decayed": ' || count(*) || '}}'
        FROM charged HAVING count(*) > 0
        ON CONFLICT (agent_id, event_key) DO UPDATE SET detail = '{{"decayed": '
            || (memory_events.detail::json ->> 'decayed')::bigint
            + (excluded.detail::json ->> 'decayed')::bigint || '}}'
    )
    SELECT id FROM charged
"""

# An exact condition on the idle days, but for the grace days of all policies.
CAN_FADE = """
    importance > %(floor)s
    AND coalesce(last_accessed, created_at) >= timestamptz '0001-01-01 00:00:00Z'
    AND coalesce(last_accessed, created_at) < %(idle_before)s::timestamptz
    AND coalesce(
        extract(epoch FROM last_decay_at) < %(now)s - mod(
            %(now)s - extract(epoch FROM date_trunc('second', coalesce(last_accessed, created_at))),
            86400
        ),
        TRUE
    )
"""


class PostgresFading:
    """Charges memories for idle days, and notes what candidates lose; see `store.Change`."""

    def __init__(
        self,
        db: Database,
        lease: Lease | None,
        policy: PolicyValues,
        promotion: PromotionValues,
        *,
        agent: str | None,
        now: datetime,
        run_id: int | None,
    ) -> None:
        self._db = db
        self._lease = lease
        self._policy = policy
        self._promotion = promotion
        self._agent = agent and text(agent)
        self._now = now
        self._run_id = run_id
        self._event_key = new_key()
        self._copies = _connect()

    def memories(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it would charge now."""
        self._compute()
        for row in self._copies.execute(f"{SELECT_CHARGED} ORDER BY agent_id, id"):
            yield _affected(row)

    def held(self) -> Iterator[AffectedMemory]:
        """Yield nothing: there are no holds on this engine."""
        return iter(())

    def find(self) -> Sequence[FoundRow]:
        """Return the memories to charge."""
        self._compute()
        return self._copies.execute(
            "SELECT agent_id, id FROM charges ORDER BY agent_id, id"
        ).fetchall()

    def apply(self, batch: Batch) -> Sequence[AffectedMemory]:
        """Charge the memories of a batch that have not changed since they were copied."""
        which = {"agent": batch.agent, "ids": json.dumps(batch.keys)}
        rows = self._copies.execute(f"{SELECT_WRITTEN} {OF_BATCH}", which).fetchall()
        charged = self._db.rows(
            CHARGE,
            {
                **arrays_of(CHARGES, WRITTEN, rows),
                "agent": batch.agent,
                "now": to_text(self._now),
                "event_key": self._event_key,
                "run_id": self._run_id,
            },
        )
        which["ids"] = json.dumps([memory_id for (memory_id,) in charged])
        return [*map(_affected, self._copies.execute(f"{SELECT_CHARGED} {OF_BATCH}", which))]

    def _compute(self) -> None:
        """Copy the memories page by page, and run the rule on each page."""
        stored = decay_sql(self._copies, self._policy)
        fading = select_fading(stored, agent=None, now=self._now)
        judged = candidate_sql(self._promotion, stored, agent=None, now=self._now)
        judged = judged._replace(note=KEY_OF_NOTE)
        find_charges = f"""
            INSERT INTO charges
            SELECT {", ".join(f"copied.{name}" for name in CHARGES.columns)},
                fading.decayed, note.key, note.value
            FROM ({fading.search}) AS fading
            JOIN agent_memory AS copied ON copied.rowid = fading.rowid
            LEFT JOIN ({notes_on_candidates(judged, ALL_ROWS)}) AS note
                ON note.rowid = fading.rowid
        """
        self._copies.execute("DELETE FROM charges")
        for rows in self._pages():
            with transaction(self._copies):
                self._copies.execute("DELETE FROM agent_memory")
                self._copies.executemany(COPY, rows)
                self._copies.execute(find_charges, {**fading.parameters, **judged.parameters})
            if self._lease:
                self._lease.keep(self._db)

    def _pages(self) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the memories that can fade, so many at once that they fit into memory."""
        parameters: dict[str, Any] = {**_limits(self._policy, self._now), "of_agent": self._agent}
        begin = ""
        while True:
            rows = self._db.rows(
                f"SELECT {CHARGES.reading(CHARGES.columns)} FROM agent_memory"
                f" WHERE {CAN_FADE} {of_agent(self._agent)} {begin}"
                f" ORDER BY agent_id, id LIMIT {PAGE_ROWS}",
                parameters,
            )
            yield rows
            if len(rows) < PAGE_ROWS:
                return
            begin = "AND (agent_id, id) > (%(last_agent)s, %(last_id)s)"
            parameters |= {"last_agent": rows[-1][0], "last_id": rows[-1][1]}


def _connect() -> sqlite3.Connection:
    """Return a private database, which SQLite keeps in a file if it is large."""
    copies = sqlite3.connect("", isolation_level=None)
    copies.execute("PRAGMA journal_mode = MEMORY")
    copies.executescript(COPIES)
    return copies


def _affected(row: Sequence[Any]) -> AffectedMemory:
    memory_id, agent_id, type_, key, *details = row
    return AffectedMemory(
        0, memory_id, agent_id, type_, key, ("importance", "decayed"), tuple(details)
    )


def _limits(policy: PolicyValues, now: datetime) -> dict[str, Any]:
    """Return the parameters of CAN_FADE: the least values that the policy has for any memory."""

    def least(key: str) -> Any:
        return min(getattr(policy, key), *policy.overrides_of(key).values(), math.inf)

    seconds = to_unix(now)
    days = 1 + min(least("grace_days"), least("stale_days"))
    idle_before = datetime.fromtimestamp(seconds, UTC) - timedelta(days=days)
    return {
        "floor": float(least("floor")),
        "now": seconds,
        "idle_before": to_text(idle_before + timedelta(seconds=1)),
    }
