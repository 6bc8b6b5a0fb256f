"""Promotion: SQLite's rules run on copies of the memories that may be candidates, and of entries.

A batch locks its memories, their entries, and every other entry that it changes, and copies them
again before it decides.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import psycopg

from memctl.errors import LockedError
from memctl.storage.knowledge import ENTRY_TYPES, CandidateRow, ConditionsMet, Which
from memctl.storage.policies import PolicyValues, PromotionValues
from memctl.storage.postgresql.archiving import of_agent
from memctl.storage.postgresql.batches import Batch, FoundRow
from memctl.storage.postgresql.copied_tables import ACTIVE, KNOWLEDGE, PROMOTIONS, STATE
from memctl.storage.postgresql.database import Database, text
from memctl.storage.postgresql.lease import Lease
from memctl.storage.postgresql.notes import IS_NOTE, KEY_OF_NOTE
from memctl.storage.postgresql.working_copy import WorkingCopy
from memctl.storage.rows import AffectedMemory
from memctl.storage.sqlite.candidates import SqliteCandidates, candidate_sql, define_content_hash
from memctl.storage.sqlite.changes import RowChange
from memctl.storage.sqlite.decay import decay_sql
from memctl.storage.sqlite.knowledge import rejected_change

# The memories that may be candidates, and those that a listing shows besides them.
IS_TYPE = f"type IN ({', '.join(map(repr, ENTRY_TYPES))})"
MAY_BE_CANDIDATE = f"{IS_TYPE} AND access_count >= %(accesses)s AND created_at < %(until)s"
MAY_BE_LISTED = f"({IS_TYPE} OR access_count >= %(accesses)s AND created_at < %(until)s)"
IS_LINKED = """
    EXISTS (
        SELECT 1 FROM memory_promotions AS link
        WHERE link.agent_id = agent_memory.agent_id AND link.type = agent_memory.type
            AND link.key = agent_memory.key
    )
"""

ENTRIES_OF_MEMORIES = """
    SELECT link.entry_id
    FROM agent_memory
    JOIN memory_promotions AS link USING (agent_id, type, key)
    WHERE agent_memory.rowid IN (SELECT value FROM json_each(?))
"""


class PostgresCandidates:
    """The memories that a promotion considers; see `storage.promotion.Candidates`."""

    def __init__(
        self,
        db: Database,
        lease: Lease | None,
        copy: WorkingCopy,
        policy: PromotionValues,
        decay: PolicyValues,
        *,
        has_knowledge: bool,
        agent: str | None,
        now: datetime,
    ) -> None:
        self._db = db
        self._lease = lease
        self._copy = copy
        self._parameters = {
            "accesses": policy.accesses,
            "until": now - policy.age + timedelta(seconds=1),  # SQLite compares whole seconds
            "of_agent": agent and text(agent),
        }
        self._of_agent = of_agent(agent)
        define_content_hash(copy.db)
        sql = candidate_sql(policy, decay_sql(copy.db, decay), agent=None, now=now)
        sql = sql._replace(has_entries=has_knowledge, note=KEY_OF_NOTE)
        self._copied = SqliteCandidates(copy.db, sql)
        copy.clear()
        if has_knowledge:
            copy.copy(KNOWLEDGE, "TRUE")
        copy.copy(STATE, IS_NOTE)
        copy.copy(PROMOTIONS, f"TRUE {self._of_agent}", self._parameters)
        self._copy_memories(MAY_BE_CANDIDATE)

    def judge(
        self, which: Which = "all", *, rowid: int | None = None
    ) -> Iterator[tuple[AffectedMemory, ConditionsMet]]:
        """Yield the memories that are copied, and those that are listed besides them."""
        self._copy_memories(f"{MAY_BE_LISTED} AND NOT ({MAY_BE_CANDIDATE})", without=("value",))
        self._copy_memories(f"{MAY_BE_LISTED} AND {IS_LINKED}")
        return self._copied.judge(which, rowid=rowid)

    def read(self, rowid: int) -> CandidateRow | None:
        return self._copied.read(rowid)

    def promotion(self, promote: Callable[[Sequence[AffectedMemory]], object]) -> "CopiedChange":
        return CopiedChange(self._copy, self._copied.promotion(promote))

    def marking(self) -> "CopiedChange":
        return CopiedChange(self._copy, self._copied.marking())

    def _copy_memories(self, condition: str, *, without: Sequence[str] = ()) -> None:
        """Copy memories, those of one agent at a time."""
        agents = self._db.rows(
            f"SELECT DISTINCT agent_id FROM agent_memory WHERE {condition} {self._of_agent}"
            " ORDER BY agent_id",
            self._parameters,
        )
        for (agent,) in agents:
            self._copy.copy(
                ACTIVE,
                f"{condition} AND agent_id = %(one_agent)s",
                {**self._parameters, "one_agent": agent},
                without=without,
            )
            if self._lease:
                self._lease.keep(self._db)


class CopiedChange:
    """Applies a change to copies of memories, and writes the result; see `storage.changes.Change`.

    A change that decides by what it did before cannot be repeated in another transaction.
    """

    def __init__(self, copy: WorkingCopy, change: RowChange) -> None:
        self._copy = copy
        self._change = change
        self._begun: Batch | None = None

    def memories(self) -> Iterator[AffectedMemory]:
        """Yield the memories that it would change now."""
        return self._change.memories()

    def held(self) -> Iterator[AffectedMemory]:
        """Yield nothing: there are no holds on this engine."""
        return iter(())

    def find(self) -> Sequence[FoundRow]:
        """Return the memories to change."""
        return sorted((memory.agent_id, str(memory.id)) for memory in self._change.memories())

    def apply(self, batch: Batch) -> Sequence[AffectedMemory]:
        """Change the memories of a batch that still match; returns these.

        Raises LockedError if the transaction is repeated, and RefusedError if a constraint or a
        trigger of the owner of the knowledge base prevents the change.
        """
        if self._begun and self._begun.keys == batch.keys and self._begun.agent == batch.agent:
            raise LockedError(
                "another program changes the same memories or entries of the knowledge base",
                "finished batches are kept; run the command again to complete it",
            )
        copy = self._copy
        copy.lock(ACTIVE, batch.agent, batch.keys)
        rowids = copy.rowids(ACTIVE, batch.agent, batch.keys)
        entries = copy.db.execute(ENTRIES_OF_MEMORIES, (rowids,)).fetchall()
        copy.lock_entries([entry_id for (entry_id,) in entries])
        self._begun = batch
        try:
            with copy.changes(batch):
                return self._change.apply(rowids)
        except psycopg.Error as error:
            if _rejects(error):
                raise rejected_change(f" ({error.diag.message_primary})") from error
            raise


def _rejects(error: psycopg.Error) -> bool:
    """Return whether a constraint or a trigger of the knowledge base has caused an error."""
    return isinstance(error, psycopg.errors.RaiseException) or (
        isinstance(error, psycopg.IntegrityError) and error.diag.table_name == KNOWLEDGE.name
    )
