"""Candidates for the knowledge base: memories that meet four conditions, and are not there yet.

A memory must be of a type that others can learn from, important, often read, and no longer new.
Its importance counts as it was when the last other condition was met: when the memory was old
enough, or at its last read if that came later. Decay that is due or charged after that moment
changes nothing, so it does not matter when the jobs run.
What is there already is known by a link and its hash, not by a mark on the memory, which the
service clears whenever it learns the same thing anew.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.errors import RefusedError
from memctl.jobs import entries
from memctl.jobs.decay import (
    STORED_IMPORTANCE,
    DecayResult,
    decay,
    memories_at,
    settled_importance,
    under_policy,
)
from memctl.jobs.engine import Run
from memctl.jobs.knowledge import ENTRY_TYPES, content_hash
from memctl.jobs.selection import AMONG, Affected, Due
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.database import from_bytes, to_bytes, transaction
from memctl.storage.times import to_unix, unix_seconds


def _at_least(column: str, parameter: str) -> str:
    return f"typeof({column}) IN ('integer', 'real') AND {column} >= {parameter}"


IS_TYPE = f"type IN ({', '.join(map(repr, ENTRY_TYPES))})"
IS_IMPORTANT = f"typeof(importance) IN ('integer', 'real') AND {_at_least('judged', ':importance')}"
IS_READ = _at_least("access_count", ":accesses")
IS_OLD = ":now - created >= :age"  # never, if it was not created at a time
IS_CANDIDATE = f"{IS_TYPE} AND {IS_IMPORTANT} AND {IS_READ} AND {IS_OLD}"

# Decay notes the importance of a candidate before it charges it, and for as long as the memory is
# there: it cannot be computed afterwards when the floor was reached or the policy has changed.
NOTE = "candidate:"

# The memories of a `{where}`, with the importance by which they are judged. Of an access count only
# the last read is known, at which it was reached at the latest.
JUDGED_MEMORIES = f"""
    SELECT *, max(importance_then, ifnull(noted, importance_then)) AS judged
    FROM (
        SELECT *, (
            SELECT CAST(value AS REAL) FROM memory_state WHERE key = '{NOTE}' || id
        ) AS noted
        FROM ({
    memories_at(
        "min(:now, max(created + :age, idle_since))",
        f"access_count, promoted_at, {unix_seconds('created_at')} AS created",
    )
})
        LIMIT -1
    )
    LIMIT -1
"""


def _judged(conditions: str) -> str:
    """Return SQL for those of a `{where}` whose stored columns meet conditions."""
    return JUDGED_MEMORIES.replace("{where}", f"{{where}} {conditions} AND {OF_AGENT}")


# Stands for the table where there is no knowledge base yet.
NO_ENTRIES = "(SELECT 0 AS rowid, '' AS id, '' AS content, '' AS superseded_by WHERE FALSE)"

# When the memory was promoted with the text it has now. The casts are there because Python's
# functions take no text that is not UTF-8.
PROMOTED_ALREADY = """
    SELECT link.promoted_at
    FROM agent_memory AS stored
    JOIN memory_promotions AS link ON link.agent_id = stored.agent_id
        AND link.type = stored.type AND link.key = stored.key
    JOIN {entries} AS entry ON entry.id = link.entry_id
    WHERE stored.rowid = memory.rowid
        AND link.content_hash = content_hash(
            stored.type,
            CAST(stored.key AS BLOB),
            CAST(stored.value AS BLOB),
            CAST(stored.metadata AS BLOB)
        )
"""

CANDIDATES = f"""
    SELECT rowid, id, agent_id, type, key
    FROM ({_judged(f"{IS_TYPE} AND {IS_READ}")}) AS memory
    WHERE {IS_CANDIDATE} AND NOT EXISTS ({PROMOTED_ALREADY})
"""

UNMARKED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key
    FROM ({_judged(f"{IS_TYPE} AND {IS_READ} AND promoted_at IS NULL")}) AS memory
    WHERE {IS_CANDIDATE} AND EXISTS ({PROMOTED_ALREADY})
"""

# Whether each memory meets the conditions; what is promoted first, then what lacks the least.
CONSIDERED_MEMORIES = f"""
    SELECT rowid, id, agent_id, type, key, importance, access_count, age / 86400 AS age_days,
        age, judged, is_type, is_important, is_read, is_old, ({PROMOTED_ALREADY}) AS known_since
    FROM (
        SELECT *,
            :now - created AS age,
            ({IS_TYPE}) IS TRUE AS is_type,
            ({IS_IMPORTANT}) IS TRUE AS is_important,
            ({IS_READ}) IS TRUE AS is_read,
            ({IS_OLD}) IS TRUE AS is_old
        FROM ({_judged("TRUE")})
        LIMIT -1
    ) AS memory
    WHERE {{which}}
    ORDER BY is_type + is_important + is_read + is_old DESC, known_since, rowid
"""

# All of the right types, and those that nothing but their type keeps out.
IS_WORTH_LISTING = "is_type OR (is_important AND is_read AND is_old)"
# What lacks one condition at most, and which rows are worth asking: the rest lacks two.
MAY_LACK_ONE = f"{IS_TYPE} AND ({IS_READ} OR importance >= :importance)"
LACKS_ONE_AT_MOST = """
    is_type AND is_important + is_read + is_old >= 2
    AND judged IS NOT NULL AND typeof(access_count) IN ('integer', 'real') AND age IS NOT NULL
"""

NOTE_IMPORTANCE = f"""
    INSERT OR IGNORE INTO memory_state (key, value)
    SELECT '{NOTE}' || id, CAST(judged AS TEXT)
    FROM ({_judged(f"{IS_TYPE} AND {IS_READ}")})
    WHERE {IS_CANDIDATE} AND id IS NOT NULL
"""

NOTES_ON_NOTHING = f"""
    SELECT key
    FROM memory_state
    WHERE key GLOB '{NOTE}*'
        AND NOT EXISTS (
            SELECT 1 FROM agent_memory WHERE id = substr(memory_state.key, {len(NOTE) + 1})
        )
        AND NOT EXISTS (
            SELECT 1 FROM archived_memories WHERE id = substr(memory_state.key, {len(NOTE) + 1})
        )
    LIMIT 1000  -- the next run deletes the rest: no lock shall be held for long
"""


class Considered(NamedTuple):
    """What can be said of a memory that is a candidate, or could become one."""

    importance: Any
    access_count: Any
    age_days: int | None
    age: int | None  # in seconds
    judged: float | None  # the importance that counts
    is_type: int  # this and the following: 1 when the condition is met, else 0
    is_important: int
    is_read: int
    is_old: int
    known_since: str | None  # since when its text is in the knowledge base

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
    decay: DecayPolicy
    agent: str | None
    now: datetime
    entries: str = NO_ENTRIES  # the table of the knowledge base, or NO_ENTRIES
    importance: str = STORED_IMPORTANCE  # or what stands for it

    def not_promoted(self, db: Connection) -> Due:
        """Return those whose present text is not in the knowledge base."""
        return Due(*self.query(db, CANDIDATES))

    def not_marked(self, db: Connection) -> Due:
        """Return those whose present text is there, and who have lost their mark."""
        return Due(*self.query(db, UNMARKED_MEMORIES))

    def considered(self, db: Connection) -> Iterator[Affected]:
        """Yield all that are candidates, or could become some, and why; the nearest first."""
        for memory, considered in self.judge(db, IS_WORTH_LISTING):
            yield memory._replace(
                detail_names=(*Considered._fields[:3], "why"),
                details=(*considered[:3], considered.why(self.policy)),
            )

    def judge(
        self, db: Connection, which: str = "TRUE", *, rows: str = "TRUE", rowid: int | None = None
    ) -> Iterator[tuple[Affected, Considered]]:
        """Yield memories, and how they are judged.

        `rows` is a condition on their stored columns, `which` one on what is made of these.
        """
        query, parameters = self.query(db, CONSIDERED_MEMORIES.replace("{which}", which))
        query = query.replace("{where}", f"{{where}} {rows} AND")
        for memory in Due(query, {**parameters, "rowid": rowid}).rows(db):
            yield memory, Considered(*memory.details)

    def noting_importance(self, db: Connection) -> Callable[[str], object]:
        """Return what notes the importance of candidates in rows that are to be charged.

        The rows are a JSON array.
        """
        query, parameters = self.query(db, NOTE_IMPORTANCE.replace("{where}", AMONG))
        return lambda rowids: db.execute(query, {**parameters, "rowids": rowids})

    def query(self, db: Connection, query: str) -> tuple[str, dict[str, Any]]:
        """Return one of the queries above for these candidates, and its parameters."""
        query = query.replace("{entries}", self.entries)
        query = query.replace(STORED_IMPORTANCE, self.importance)
        query, parameters = under_policy(db, self.decay, query)
        return query, {
            **parameters,
            "now": to_unix(self.now),
            "importance": self.policy.importance,
            "accesses": self.policy.accesses,
            "age": int(self.policy.age.total_seconds()),  # whole, and so are the days made of it
            **agent_parameter(self.agent),
        }


def find_candidates(
    db: Connection, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None, now: datetime
) -> Candidates:
    """Return the candidates that a promotion would find, and let `db` run their queries.

    Raises RefusedError when the knowledge base is none that memctl knows.
    """
    make_content_hash_known(db)
    has_table = entries.table_exists(db)
    table = "knowledge_entries" if has_table else NO_ENTRIES
    importance = settled_importance(db, decay)
    return Candidates(policy, decay, agent, now, entries=table, importance=importance)


def foreseen_candidates(
    db: Connection, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None, now: datetime
) -> Candidates:
    """Do the same for a command that only reads, and needs no knowledge base that memctl knows."""
    try:
        return find_candidates(db, policy, decay, agent=agent, now=now)
    except RefusedError:
        return Candidates(policy, decay, agent, now, importance=settled_importance(db, decay))


def decay_with_notes(
    run: Run, policy: DecayPolicy, promotion: PromotePolicy, *, agent: str | None = None
) -> DecayResult:
    """Do what `decay` does, and note the importance of candidates before they are charged."""
    candidates = Candidates(promotion, policy, None, run.now)
    note_importance = candidates.noting_importance(run.db)
    result = decay(run, policy, agent=agent, before_charging=note_importance)
    if run.batches:
        delete_notes_on_nothing(run.db)
    return result


def delete_notes_on_nothing(db: Connection) -> None:
    """Delete notes on memories that are neither active nor archived any more."""
    keys = [(to_bytes(key),) for (key,) in db.execute(NOTES_ON_NOTHING)]
    if keys:
        with transaction(db):
            db.executemany("DELETE FROM memory_state WHERE key = CAST(? AS TEXT)", keys)


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
