"""The queries of the quota: which memories an agent has beyond it, the least valuable first.

Value is importance, then the time since the last access, then the order of writing. What is not
known keeps a memory longest: an importance that is not a number, then a time that cannot be read.
Expired memories do not count, because cleanup archives them first. Held ones count, but stay.
"""

from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.database import temporary_tables
from memctl.storage.sqlite.decay import IDLE_SINCE
from memctl.storage.sqlite.figures import BYTES
from memctl.storage.sqlite.holds import held_parameter, is_held
from memctl.storage.sqlite.policies import policy_sql
from memctl.storage.sqlite.times import is_before
from memctl.storage.times import to_unix

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.policies import QuotaValues

IS_HELD = is_held("agent_memory")
IS_EXPIRED = f"ifnull({is_before('expires_at', ':now')}, FALSE)"
COUNTS = f"NOT ({IS_EXPIRED} AND NOT {IS_HELD})"
IDLE = f"min(:now, {IDLE_SINCE})"

# Agents with a quota, and what they have. `known_rows` also has memories that do not count.
AGENTS = """
    CREATE TABLE IF NOT EXISTS temp.quota_agents (
        number INTEGER PRIMARY KEY,
        of_agent TEXT,
        known_rows INTEGER,
        newest_row INTEGER,
        memories INTEGER,
        bytes INTEGER,
        largest INTEGER,
        held_memories INTEGER,
        held_bytes INTEGER,
        most_memories INTEGER, -- the quota. NULL: unlimited
        most_bytes INTEGER
    )
"""


class QuotaSql(NamedTuple):
    """A quota as SQL: its two keys, the agents that have one, and the bytes of a memory."""

    most_memories: str
    most_bytes: str
    source: str
    bytes: str
    parameters: dict[str, Any]


def quota_sql(
    db: Connection, policy: "QuotaValues", *, agent: str | None, now: datetime
) -> QuotaSql:
    """Return a quota for queries on this connection."""
    memories = policy_sql(db, policy, "memories", name="quota_memories")
    bytes_ = policy_sql(db, policy, "bytes", name="quota_bytes")
    is_general = policy.memories is not None or policy.bytes is not None
    of_some = "agent_id IN (SELECT for_agent FROM temp.policy_overrides WHERE name GLOB 'quota_*')"
    limits_bytes = policy.bytes is not None or bytes_.depends
    return QuotaSql(
        most_memories=memories.sql,
        most_bytes=bytes_.sql,
        source="NOT INDEXED WHERE TRUE" if is_general else f"WHERE {of_some}",
        bytes=BYTES if limits_bytes else "0",  # values are not read without need
        parameters={
            **memories.parameters,
            **bytes_.parameters,
            **held_parameter(now),
            **agent_parameter(agent),
            "now": to_unix(now),
        },
    )


def agents_with_quota(sql: QuotaSql) -> str:
    """Return SQL that fills `quota_agents` with the agents that have a quota, and their totals."""
    return f"""
        INSERT INTO temp.quota_agents (
            of_agent, known_rows, newest_row, memories, bytes, largest, held_memories, held_bytes,
            most_memories, most_bytes
        )
        SELECT agent_id, count(*), max(memory_row), sum(counts), sum(counts * bytes),
            max(bytes), sum(held), sum(held * bytes), {sql.most_memories}, {sql.most_bytes}
        FROM (
            SELECT agent_id, rowid AS memory_row, {COUNTS} AS counts, {IS_HELD} AS held,
                {sql.bytes} AS bytes
            FROM agent_memory {sql.source} AND {OF_AGENT}
            LIMIT -1
        )
        GROUP BY agent_id
    """


ONLY_BEYOND = """
    DELETE FROM temp.quota_agents
    WHERE (memories > most_memories OR bytes > most_bytes) IS NOT TRUE
"""


def ranked_memories(sql: QuotaSql, condition: str = f"NOT {IS_HELD}") -> str:
    """Return SQL for the memories of these agents that may be archived, and what goes before each.

    The window needs no more than the columns of the order: whole values would be sorted otherwise.
    """
    return f"""
        SELECT *,
            row_number() OVER by_value - 1 AS memories_before,
            ifnull(
                sum(bytes_now) OVER (by_value ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0
            ) AS bytes_before
        FROM (
            SELECT agent_memory.rowid AS memory_row, number, importance, {IDLE} AS idle_since,
                {sql.bytes} AS bytes_now, memories, bytes, most_memories, most_bytes
            FROM temp.quota_agents CROSS JOIN agent_memory ON agent_id = of_agent
            WHERE {COUNTS} AND {condition}
            LIMIT -1
        )
        WINDOW by_value AS (
            PARTITION BY number
            ORDER BY typeof(importance) NOT IN ('integer', 'real'),
                iif(typeof(importance) IN ('integer', 'real'), importance, NULL),
                idle_since IS NULL, idle_since, memory_row
        )
    """


# Each memory is beyond the quota until enough before it are archived.
IS_BEYOND = """(
    memories - memories_before > most_memories OR bytes - bytes_before > most_bytes
)"""


def fill_agents(db: Connection, sql: QuotaSql) -> None:
    """Fill `quota_agents`; in a `temporary_tables` block."""
    db.execute(AGENTS)
    db.execute("DELETE FROM temp.quota_agents")
    db.execute(agents_with_quota(sql), sql.parameters)


class QuotaUsage(NamedTuple):
    """What an agent has, and its quota; None: any number."""

    agent: str
    memories: int
    bytes: int
    most_memories: int | None
    most_bytes: int | None
    held_alone: bool  # the held memories alone are beyond it


USAGES = """
    SELECT of_agent, memories, bytes, most_memories, most_bytes,
        (held_memories > most_memories OR held_bytes > most_bytes) IS TRUE
    FROM temp.quota_agents
    ORDER BY of_agent
"""


def agents_beyond_quota(
    db: Connection, policy: "QuotaValues", *, now: datetime
) -> list[QuotaUsage]:
    """Return the agents that are beyond their quota, without expired memories; reads only."""
    sql = quota_sql(db, policy, agent=None, now=now)
    with temporary_tables(db):
        fill_agents(db, sql)
        db.execute(ONLY_BEYOND)
    return read_usages(db)


def read_usages(db: Connection) -> list[QuotaUsage]:
    """Return what `quota_agents` has."""
    return list(map(QuotaUsage._make, db.execute(USAGES)))


class QuotaPlace(NamedTuple):
    """The place of a memory in the order in which the quota of its agent archives."""

    usage: QuotaUsage
    before: int  # less valuable memories
    is_beyond: bool


def quota_place(
    db: Connection, policy: "QuotaValues", rowid: int, *, agent: str, now: datetime
) -> QuotaPlace | None:
    """Return the place of a memory of an agent; None if it is held or has expired; reads only."""
    sql = quota_sql(db, policy, agent=agent, now=now)
    with temporary_tables(db):
        fill_agents(db, sql)
    query = f"""
        SELECT memories_before, {IS_BEYOND} IS TRUE FROM ({ranked_memories(sql)})
        WHERE memory_row = :memory
    """
    place = db.execute(query, {**sql.parameters, "memory": rowid}).fetchone()
    if place is None:
        return None
    return QuotaPlace(read_usages(db)[0], place[0], bool(place[1]))
