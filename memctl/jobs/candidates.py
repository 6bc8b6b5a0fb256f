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
from typing import TYPE_CHECKING, Any

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.errors import RefusedError, counted
from memctl.storage.knowledge import ENTRY_TYPES, ConditionsMet
from memctl.storage.rows import AffectedMemory

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Candidates, Store


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
            unmet.append(f"type not one of {', '.join(ENTRY_TYPES)}")
        if not self.is_important:
            decayed = "" if self.importance_that_counts == self.importance else " after decay"
            unmet.append(
                _shortage(f"importance{decayed}", self.importance_that_counts, policy.importance)
            )
        if not self.is_read:
            unmet.append(_shortage("reads", self.access_count, policy.accesses))
        if self.age is None:
            unmet.append("created_at is not a time")
        elif self.age < 0:
            unmet.append("created in the future")
        elif not self.is_old:
            unmet.append(f"age {self.age_days} of {counted(policy.age.days, 'day')}")
        if not unmet and self.importance_that_counts != self.importance:
            return f"due: importance {self.judged:g} when the last other condition was met"
        return "; ".join(unmet) or "due"


def _shortage(name: str, value: Any, least: float) -> str:
    if isinstance(value, int | float):
        return f"{name} {value:g} of {least:g}"
    return f"{name} not a number"


def find_candidates(
    store: "Store",
    policy: PromotePolicy,
    decay: DecayPolicy,
    *,
    agent: str | None,
    now: datetime,
    has_knowledge: bool | None = None,
) -> "Candidates":
    """Return the candidates that a promotion would find.

    Raises RefusedError if the knowledge base is not one that memctl knows.
    """
    return store.candidates(
        policy,
        decay,
        has_knowledge=store.knowledge.exists() if has_knowledge is None else has_knowledge,
        agent=agent,
        now=now,
    )


def foreseen_candidates(
    store: "Store", policy: PromotePolicy, decay: DecayPolicy, *, now: datetime
) -> "Candidates":
    """Return the candidates of all agents for a command that only reads.

    A knowledge base that memctl does not know is ignored.
    """
    try:
        return find_candidates(store, policy, decay, agent=None, now=now)
    except RefusedError:
        return find_candidates(store, policy, decay, agent=None, now=now, has_knowledge=False)


def list_considered(candidates: "Candidates", policy: PromotePolicy) -> Iterator[AffectedMemory]:
    """Yield the memories that are candidates or could become some, and why; the nearest first."""
    for memory, conditions in candidates.judge("worth listing"):
        considered = Considered(*conditions)
        yield memory._replace(
            detail_names=(*Considered._fields[:3], "why"),
            details=(*considered[:3], considered.why(policy)),
        )
