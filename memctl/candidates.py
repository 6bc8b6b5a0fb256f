"""Candidates for the knowledge base: memories that meet four conditions, and are not there yet.

A memory must be of a type that others can learn from, important, often read, and no longer new.
What is there already is told by a link and its hash, not by a mark on the memory, which the
service clears whenever it learns the same thing anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.agents import OF_AGENT, agent_parameter
from memctl.database import from_bytes
from memctl.due import Affected, Due
from memctl.knowledge import ENTRY_TYPES, content_hash
from memctl.timestamps import to_unix, unix_seconds


@dataclass(frozen=True)
class PromotePolicy:
    """What a memory must at least have to be promoted."""

    importance: float = 8.0
    accesses: int = 5
    age: timedelta = timedelta(days=14)  # since it was written

    def parameters(self) -> dict[str, float]:
        """Return the policy as SQL parameters, for the conditions below."""
        return {
            "importance": self.importance,
            "accesses": self.accesses,
            "age": self.age.total_seconds(),
        }


def _at_least(column: str, parameter: str) -> str:
    return f"typeof({column}) IN ('integer', 'real') AND {column} >= {parameter}"


IS_TYPE = f"type IN ({', '.join(map(repr, ENTRY_TYPES))})"
IS_IMPORTANT = _at_least("importance", ":importance")
IS_READ = _at_least("access_count", ":accesses")
IS_OLD = f":now - {unix_seconds('created_at')} >= :age"  # never, if it is not a time
IS_CANDIDATE = f"{IS_TYPE} AND {IS_IMPORTANT} AND {IS_READ} AND {IS_OLD}"

# Stands for the table where there is no knowledge base yet.
NO_ENTRIES = "(SELECT 0 AS rowid, '' AS id, '' AS content, '' AS superseded_by WHERE FALSE)"

# When the memory was promoted with the text it has now. The casts are there because Python's
# functions take no text that is not UTF-8.
PROMOTED_ALREADY = """
    SELECT link.promoted_at
    FROM memory_promotions AS link JOIN {entries} AS entry ON entry.id = link.entry_id
    WHERE link.agent_id = agent_memory.agent_id
        AND link.type = agent_memory.type
        AND link.key = agent_memory.key
        AND link.content_hash = content_hash(
            agent_memory.type,
            CAST(agent_memory.key AS BLOB),
            CAST(agent_memory.value AS BLOB),
            CAST(agent_memory.metadata AS BLOB)
        )
"""

CANDIDATES = f"""
    SELECT rowid, id, agent_id, type, key
    FROM agent_memory
    {{where}} {IS_CANDIDATE} AND {OF_AGENT} AND NOT EXISTS ({PROMOTED_ALREADY})
"""

UNMARKED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key
    FROM agent_memory
    {{where}} {IS_CANDIDATE} AND {OF_AGENT}
        AND promoted_at IS NULL AND EXISTS ({PROMOTED_ALREADY})
"""

# All of the right types, and those that nothing but their type keeps out; what is promoted first,
# then what lacks the least.
CONSIDERED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key, importance, access_count,
        (:now - {unix_seconds("created_at")}) / 86400 AS age_days,
        ({IS_TYPE}) IS TRUE AS is_type,
        ({IS_IMPORTANT}) IS TRUE AS is_important,
        ({IS_READ}) IS TRUE AS is_read,
        ({IS_OLD}) IS TRUE AS is_old,
        CASE WHEN {IS_CANDIDATE} THEN ({PROMOTED_ALREADY}) END AS known_since
    FROM agent_memory
    {{where}} ({IS_TYPE} OR ({IS_IMPORTANT} AND {IS_READ} AND {IS_OLD})) AND {OF_AGENT}
    ORDER BY is_type + is_important + is_read + is_old DESC, known_since, rowid
"""


class Considered(NamedTuple):
    """What can be said of a memory that is a candidate, or could become one."""

    importance: Any
    access_count: Any
    age_days: int | None
    is_type: int  # this and the following: 1 when the condition is met, else 0
    is_important: int
    is_read: int
    is_old: int
    known_since: str | None

    def why(self, policy: PromotePolicy) -> str:
        """Return why it is, or is not, a candidate."""
        if self.known_since:
            return f"promoted at {self.known_since}, unchanged since"
        unmet = []
        if not self.is_type:
            unmet.append(f"type is none of {', '.join(ENTRY_TYPES)}")
        if not self.is_important:
            unmet.append(_shortage("importance", self.importance, policy.importance))
        if not self.is_read:
            unmet.append(_shortage("access_count", self.access_count, policy.accesses))
        if self.age_days is None:
            unmet.append("created_at is not a time")
        elif not self.is_old:
            unmet.append(_shortage("age_days", self.age_days, policy.age.days))
        return "; ".join(unmet) or "meets all four conditions"


def _shortage(name: str, value: Any, least: float) -> str:
    if isinstance(value, int | float):
        return f"{name} {value} is below {least:g}"
    return f"{name} is not a number"


class Candidates(NamedTuple):
    """The candidates of one agent or of all, at one moment."""

    policy: PromotePolicy
    agent: str | None
    now: datetime
    entries: str  # the table of the knowledge base, or NO_ENTRIES

    def not_promoted(self) -> Due:
        """Return those whose present text is not in the knowledge base."""
        return self._due(CANDIDATES)

    def not_marked(self) -> Due:
        """Return those whose present text is there, and who have lost their mark."""
        return self._due(UNMARKED_MEMORIES)

    def considered(self, db: Connection) -> Iterator[Affected]:
        """Yield all that are candidates, or could become some, and why; the nearest first."""
        for memory in self._due(CONSIDERED_MEMORIES).rows(db):
            considered = Considered(*memory.details)
            yield memory._replace(
                detail_names=(*Considered._fields[:3], "why"),
                details=(*considered[:3], considered.why(self.policy)),
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of what IS_CANDIDATE and OF_AGENT ask for."""
        return {
            "now": to_unix(self.now),
            **self.policy.parameters(),
            **agent_parameter(self.agent),
        }

    def _due(self, query: str) -> Due:
        return Due(query.replace("{entries}", self.entries), self.parameters)


def make_content_hash_known(db: Connection) -> None:
    """Let the queries above compute what a memory's text is now."""

    def hash_of_stored(kind: str, key: bytes, value: bytes, metadata: bytes | None) -> str:
        return content_hash(
            kind,
            from_bytes(key),
            from_bytes(value),
            None if metadata is None else from_bytes(metadata),
        )

    db.create_function("content_hash", 4, hash_of_stored, deterministic=True)
