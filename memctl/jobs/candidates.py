"""Candidates for the knowledge base: memories that meet four conditions and are not promoted yet.

A memory must have one of three types, be important, be read often, and have a minimum age. Its
importance counts as of the moment when the last of the other conditions was met: when the memory
was old enough, or at its last read if that was later. Decay after that moment does not count, so
the result does not depend on when the jobs run.

Whether a memory is promoted already is determined by its link and the hash of its text, not by the
mark on the memory, which the service clears whenever it writes the memory again.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.errors import RefusedError
from memctl.jobs.decay import DecayResult, decay, settled_decay_sql
from memctl.jobs.engine import JobContext
from memctl.jobs.knowledge import content_hash
from memctl.storage.rows import AffectedMemory, ConditionsMet, Which
from memctl.storage.sqlite.candidates import (
    CandidateSql,
    candidate_sql,
    define_content_hash,
    delete_notes_on_nothing,
    judge_memories,
    note_importances,
)
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.decay import decay_sql
from memctl.storage.sqlite.knowledge import ENTRY_TYPES, has_knowledge_base


class Considered(ConditionsMet):
    """A memory that is a candidate, or could become one."""

    __slots__ = ()

    @property
    def importance_that_counts(self) -> Any:
        """The importance that counts; the stored value if it is the same."""
        return self.importance if self.judged in (None, self.importance) else self.judged

    @property
    def is_due(self) -> bool:
        """Whether the next promotion promotes the memory."""
        met = self.is_type and self.is_important and self.is_read and self.is_old
        return bool(met and not self.known_since)

    def why(self, policy: PromotePolicy) -> str:
        """Return why it is, or is not, a candidate."""
        if self.known_since:
            return f"promoted at {self.known_since}, unchanged since"
        unmet = []
        if not self.is_type:
            unmet.append(f"type is not one of {', '.join(ENTRY_TYPES)}")
        if not self.is_important:
            decayed = "" if self.importance_that_counts == self.importance else " after decay"
            unmet.append(
                _shortage(f"importance{decayed}", self.importance_that_counts, policy.importance)
            )
        if not self.is_read:
            unmet.append(_shortage("access_count", self.access_count, policy.accesses))
        if self.age_days is None:
            unmet.append("created_at is not a time")
        elif not self.is_old:
            unmet.append(_shortage("age_days", self.age_days, policy.age.days))
        if not unmet and self.importance_that_counts != self.importance:
            return f"met all four conditions with importance {self.judged:g}"
        return "; ".join(unmet) or "meets all four conditions"


def _shortage(name: str, value: Any, least: float) -> str:
    if isinstance(value, int | float):
        return f"{name} {value} is below {least:g}"
    return f"{name} is not a number"


class Candidates(NamedTuple):
    """The candidates of one agent or of all, at one moment."""

    policy: PromotePolicy
    sql: CandidateSql

    def considered(self, db: Connection) -> Iterator[AffectedMemory]:
        """Yield memories that are, or could become, candidates, and why; the nearest first."""
        for memory, considered in self.judge(db, "worth listing"):
            yield memory._replace(
                detail_names=(*Considered._fields[:3], "why"),
                details=(*considered[:3], considered.why(self.policy)),
            )

    def judge(
        self, db: Connection, which: Which = "all", *, rowid: int | None = None
    ) -> Iterator[tuple[AffectedMemory, Considered]]:
        """Yield memories, or the one in a row, and the conditions that they meet."""
        for memory, conditions in judge_memories(db, self.sql, which, rowid=rowid):
            yield memory, Considered(*conditions)


def find_candidates(
    db: Connection, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None, now: datetime
) -> Candidates:
    """Return the candidates that a promotion would find, for queries on this connection.

    Raises RefusedError if the table of the knowledge base is not as expected.
    """
    has_entries = has_knowledge_base(db)
    return _candidates(db, policy, decay, agent=agent, now=now, has_entries=has_entries)


def foreseen_candidates(
    db: Connection, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None, now: datetime
) -> Candidates:
    """Do the same for a command that only reads: an unexpected knowledge base is ignored."""
    try:
        return find_candidates(db, policy, decay, agent=agent, now=now)
    except RefusedError:
        return _candidates(db, policy, decay, agent=agent, now=now, has_entries=False)


def _candidates(
    db: Connection,
    policy: PromotePolicy,
    decay: DecayPolicy,
    *,
    agent: str | None,
    now: datetime,
    has_entries: bool,
) -> Candidates:
    define_content_hash(db, content_hash)
    sql = candidate_sql(
        settled_decay_sql(db, decay),
        importance=policy.importance,
        accesses=policy.accesses,
        age=policy.age,
        agent=agent,
        now=now,
        has_entries=has_entries,
    )
    return Candidates(policy, sql)


def decay_with_notes(
    run: JobContext, policy: DecayPolicy, promotion: PromotePolicy, *, agent: str | None = None
) -> DecayResult:
    """Run `decay`, and note the importance of candidates before they are charged."""
    sql = candidate_sql(
        decay_sql(run.db, policy),
        importance=promotion.importance,
        accesses=promotion.accesses,
        age=promotion.age,
        agent=None,
        now=run.now,
    )
    result = decay(run, policy, agent=agent, before_charging=partial(note_importances, run.db, sql))
    if run.batches:
        delete_notes_on_nothing(run.db)
    return result
