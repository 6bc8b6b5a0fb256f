"""Single calls of AgentMemory, compared with the statements that they execute."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

from memctl import AgentMemory
from memctl.storage.memory import MemoryType

Name = tuple[str, MemoryType, str]
Call = Callable[[Name], object]

FIND = "SELECT * FROM agent_memory WHERE agent_id = ? AND type = ? AND key = ?"


class Pair(NamedTuple):
    """One operation, by AgentMemory and by bare statements in their own transaction."""

    what: str
    ours: Call
    bare: Call


def pairs(api: AgentMemory, db: sqlite3.Connection) -> list[Pair]:
    """Return the frequent operations of an agent."""

    def recall(name: Name) -> None:
        found = db.execute(FIND, name).fetchone()
        db.execute(
            "UPDATE agent_memory SET access_count = access_count + 1,"
            " last_accessed = datetime('now') WHERE id = ?",
            (found[0],),
        )

    def remember(name: Name) -> None:
        db.execute(
            "INSERT OR REPLACE INTO agent_memory"
            " (id, agent_id, type, key, value, metadata, importance, expires_at)"
            " VALUES (?, ?, ?, ?, ?, NULL, 5, NULL)",
            (str(uuid.uuid4()), *name, "x" * 200),
        )
        db.execute(FIND, name).fetchone()

    def forget(name: Name) -> None:
        db.execute("DELETE FROM agent_memory WHERE agent_id = ? AND type = ? AND key = ?", name)

    return [
        Pair("recall", lambda name: api.recall(*name), recall),
        Pair("remember", lambda name: api.remember(*name, "x" * 200), remember),
        Pair(
            "forget, which archives, beside a bare DELETE", lambda name: api.forget(*name), forget
        ),
    ]


def time_calls(calls: Sequence[Call], names: Sequence[Name]) -> list[list[float]]:
    """Return the milliseconds of each call; the two variants run alternately."""
    taken: list[list[float]] = [[] for _ in calls]
    for number, name in enumerate(names):
        turn = number % len(calls)
        begun = time.perf_counter()
        calls[turn](name)
        taken[turn].append(1000 * (time.perf_counter() - begun))
    return [sorted(times) for times in taken]


def percentile(times: Sequence[float], part: float) -> float:
    """Return the time that this fraction of the sorted times does not exceed."""
    return times[int(len(times) * part)]
