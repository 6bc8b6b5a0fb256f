"""Candidates for the knowledge base: memories that meet four conditions, and are not there yet.

A memory must be of a type that others can learn from, important, often read, and no longer new.
Its importance counts as it was when the last other condition was met: when the memory was old
enough, or at its last read if that came later. Decay that is due or charged after that moment
changes nothing, so it does not matter when the jobs run.
What is there already is known by a link and its hash, not by a mark on the memory, which the
service clears whenever it learns the same thing anew.
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
from memctl.storage.sqlite.agents import agent_parameter
from memctl.storage.sqlite.candidates import (
    CandidateSql,
    define_content_hash,
    delete_notes_on_nothing,
    judge_memories,
    note_importances,
)
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.decay import DecaySql, decay_sql
from memctl.storage.sqlite.knowledge import ENTRY_TYPES, has_knowledge_base
from memctl.storage.times import to_unix


class Considered(ConditionsMet):
    """A memory that is a candidate, or could become one."""

    __slots__ = ()

    @property
    def importance_that_counts(self) -> Any:
        """The importance by which it is judged; the stored value where that is the same."""
        return self.importance if self.judged in (None, self.importance) else self.judged

    @property
    def is_due(self) -> bool:
        """Tell whether the next promotion brings its text into the knowledge base."""
        met = self.is_type and self.is_important and self.is_read and self.is_old
        return bool(met and not self.known_since)

    def why(self, policy: PromotePolicy) -> str:
        """Return why it is, or is not, a candidate."""
        if self.known_since:
            return f"promoted at {self.known_since}, unchanged since"
        unmet = []
        if not self.is_type:
            unmet.append(f"type is none of {', '.join(ENTRY_TYPES)}")
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
        """Yield all that are candidates, or could become some, and why; the nearest first."""
        for memory, considered in self.judge(db, "worth listing"):
            yield memory._replace(
                detail_names=(*Considered._fields[:3], "why"),
                details=(*considered[:3], considered.why(self.policy)),
            )

    def judge(
        self, db: Connection, which: Which = "all", *, rowid: int | None = None
    ) -> Iterator[tuple[AffectedMemory, Considered]]:
        """Yield memories, or the one in a row, and how they are judged."""
        for memory, conditions in judge_memories(db, self.sql, which, rowid=rowid):
            yield memory, Considered(*conditions)


def find_candidates(
    db: Connection, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None, now: datetime
) -> Candidates:
    """Return the candidates that a promotion would find, for queries on this connection.

    Raises RefusedError if the knowledge base is not one that memctl knows.
    """
    has_entries = has_knowledge_base(db)
    return _candidates(db, policy, decay, agent=agent, now=now, has_entries=has_entries)


def foreseen_candidates(
    db: Connection, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None, now: datetime
) -> Candidates:
    """Do the same for a command that only reads; a knowledge base it does not know is ignored."""
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
    sql = candidate_sql(policy, settled_decay_sql(db, decay), agent=agent, now=now)
    return Candidates(policy, sql._replace(has_entries=has_entries))


def candidate_sql(
    policy: PromotePolicy, decay: DecaySql, *, agent: str | None, now: datetime
) -> CandidateSql:
    """Return what the queries for candidates need, for a database without a knowledge base."""
    return CandidateSql(
        decay,
        {
            **decay.parameters,
            "importance": policy.importance,
            "accesses": policy.accesses,
            "age": int(policy.age.total_seconds()),  # whole, and so are the days made of it
            "now": to_unix(now),
            **agent_parameter(agent),
        },
    )


def decay_with_notes(
    run: JobContext, policy: DecayPolicy, promotion: PromotePolicy, *, agent: str | None = None
) -> DecayResult:
    """Do what `decay` does, and note the importance of candidates before they are charged."""
    sql = candidate_sql(promotion, decay_sql(run.db, policy), agent=None, now=run.now)
    result = decay(run, policy, agent=agent, before_charging=partial(note_importances, run.db, sql))
    if run.batches:
        delete_notes_on_nothing(run.db)
    return result
