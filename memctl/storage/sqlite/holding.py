"""Placing, releasing and listing holds; see `storage.holds.Holds`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any, Literal, NamedTuple, get_args

from memctl.errors import NotFoundError
from memctl.storage.holds import HoldChange, HoldTarget
from memctl.storage.memory import to_stored
from memctl.storage.sqlite import agents
from memctl.storage.sqlite.archiving import original_id
from memctl.storage.sqlite.database import MemoryTable
from memctl.storage.sqlite.features import renew_triggers
from memctl.storage.sqlite.holds import held_ids, held_parameter, in_force
from memctl.storage.sqlite.memories import OF_NAME, memory_name
from memctl.storage.text import encodable, to_ascii, to_bytes
from memctl.storage.times import to_text

ID_BEFORE_SUFFIX = f"""
    SELECT {original_id("archived_memories")} FROM archived_memories
    WHERE id = CAST(:id AS TEXT) AND agent_id = CAST(:agent AS TEXT)
        AND NOT EXISTS (SELECT 1 FROM agent_memory AS active WHERE active.id = CAST(:id AS TEXT))
    LIMIT 1
"""

FIND_HOLD = f"""
    SELECT hold_id, reason, until, {in_force(row="memory_holds")} FROM memory_holds
    WHERE agent_id = CAST(:agent AS TEXT) AND memory_id IS CAST(:memory_id AS TEXT)
        AND type IS CAST(:type AS TEXT) AND key IS CAST(:key AS TEXT)
    ORDER BY 4 DESC, hold_id
    LIMIT 1
"""

ADD_HOLD = """
    INSERT INTO memory_holds (agent_id, memory_id, type, key, reason, held_at, until)
    VALUES (
        CAST(:agent AS TEXT), CAST(:memory_id AS TEXT), CAST(:type AS TEXT), CAST(:key AS TEXT),
        CAST(:reason AS TEXT), :now, :until
    )
"""

CHANGE_HOLD = """
    UPDATE memory_holds SET reason = CAST(:reason AS TEXT), until = :until WHERE hold_id = :hold
"""


def _of_memory(column: str) -> str:
    """Return SQL for a column of a hold; a hold by id has the type and key of its memory."""
    found = (
        f"(SELECT {column} FROM {table} AS memory WHERE memory.id = memory_holds.memory_id"
        " AND memory.agent_id = memory_holds.agent_id LIMIT 1)"
        for table in get_args(MemoryTable)
    )
    return f"coalesce({column}, {', '.join(found)})"


RECORD_EVENT = f"""
    INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id, detail)
    SELECT :now, :event, memory_id, agent_id, {_of_memory("type")}, {_of_memory("key")}, :run_id,
        :detail
    FROM memory_holds WHERE hold_id = :hold
"""


class HoldRecord(NamedTuple):
    """A hold, as it is listed."""

    agent_id: str
    memory_id: str | None
    type: str | None
    key: str | None
    reason: str | None
    held_at: str
    until: str | None


def list_holds(db: Connection, agent: str | None, *, now: datetime) -> list[HoldRecord]:
    """Return the holds in force, of one agent or of all, oldest first by agent; reads only."""
    found = db.execute(
        f"SELECT {', '.join(HoldRecord._fields)} FROM memory_holds"
        f" WHERE {in_force(row='memory_holds')} AND {agents.OF_AGENT}"
        " ORDER BY agent_id, held_at, hold_id",
        {**held_parameter(now), **agents.agent_parameter(agent)},
    )
    return [HoldRecord(*row) for row in found]


HOLDS_ON_NAME = f"""
    SELECT {", ".join(HoldRecord._fields)} FROM memory_holds AS hold
    WHERE {in_force()} AND agent_id = CAST(:agent AS TEXT) AND (
        memory_id IS NULL AND (
            type IS NULL OR type = CAST(:type AS TEXT) AND key = CAST(:key AS TEXT)
        )
        OR memory_id IN ({
    " UNION ALL ".join(
        f"SELECT {memory_id} FROM {table} WHERE {OF_NAME}"
        for table in get_args(MemoryTable)
        for memory_id in held_ids(table, table)
    )
})
    )
    ORDER BY held_at, hold_id
"""


def holds_on(db: Connection, agent: str, type: str, key: str, *, now: datetime) -> list[HoldRecord]:
    """Return the holds in force on a memory or any of its archived copies; reads only."""
    name = memory_name(agent, type, key)._asdict()
    found = db.execute(HOLDS_ON_NAME, {**name, **held_parameter(now)})
    return [HoldRecord(*row) for row in found]


class SqliteHolds:
    """The holds of a database; see `storage.holds.Holds`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def targets(self, agent: str, ids: Sequence[str]) -> list[HoldTarget]:
        return [HoldTarget(agent, self._before_suffix(agent, one)) for one in dict.fromkeys(ids)]

    def _before_suffix(self, agent: str, memory_id: str) -> str:
        found = self._db.execute(ID_BEFORE_SUFFIX, to_stored(agent=agent, id=memory_id)).fetchone()
        return str(found[0]) if found else memory_id

    def require_known(self, targets: Sequence[HoldTarget]) -> None:
        for target in targets:
            agents.require_agent(self._db, target.agent)
            if target.type is not None and target.key is not None:
                self._require_name(target.agent, target.type, target.key)

    def _require_name(self, agent: str, type: str, key: str) -> None:
        name = memory_name(agent, type, key)._asdict()
        for table in ("agent_memory", "archived_memories"):
            if self._db.execute(f"SELECT 1 FROM {table} WHERE {OF_NAME} LIMIT 1", name).fetchone():
                return
        raise NotFoundError(
            f"agent '{agent}' has no memory {type} '{key}', active or archived",
            "`memctl search` finds memories by a part of their text; nothing was changed",
        )

    def plan(
        self,
        targets: Sequence[HoldTarget],
        *,
        reason: str | None,
        until: datetime | None,
        now: datetime,
    ) -> list[HoldChange]:
        return [self._plan(target, reason, until, now=now) for target in targets]

    def _plan(
        self, target: HoldTarget, reason: str | None, until: datetime | None, *, now: datetime
    ) -> HoldChange:
        found = self._find(target, now=now)
        if found is None:
            return HoldChange(target, "added", reason, until, None)
        hold, earlier_reason, earlier_until, is_in_force = found
        if not is_in_force:
            return HoldChange(target, "added", reason, until, hold)
        kept = earlier_reason if reason is None else reason
        same = (kept, until and to_text(until)) == (earlier_reason, earlier_until)
        return HoldChange(target, "unchanged" if same else "changed", kept, until, hold)

    def _find(self, target: HoldTarget, *, now: datetime) -> Any:
        """Return the hold on a target, its reason, its end, and whether it is in force."""
        return self._db.execute(
            FIND_HOLD, {**_parameters(target), **held_parameter(now)}
        ).fetchone()

    def place(self, changes: Sequence[HoldChange], *, now: datetime, run_id: int | None) -> None:
        for change in changes:
            if change.outcome == "unchanged":
                continue
            until = change.until and to_text(change.until)
            parameters = {
                **_parameters(change.target),
                "reason": None if change.reason is None else to_bytes(change.reason),
                "until": until,
                "now": to_text(now),
                "hold": change.replaced,
            }
            hold = change.replaced
            if change.outcome == "changed":
                self._db.execute(CHANGE_HOLD, parameters)
            else:
                self._db.execute("DELETE FROM memory_holds WHERE hold_id = :hold", parameters)
                hold = self._db.execute(ADD_HOLD, parameters).lastrowid
            detail = {"reason": change.reason, "until": until}
            record_hold_event(self._db, "memory:held", hold, detail, now=now, run_id=run_id)
        renew_triggers(self._db)

    def find(self, targets: Sequence[HoldTarget], *, now: datetime) -> list[int]:
        found = (self._find(target, now=now) for target in targets)
        return [hold[0] for hold in found if hold is not None and hold[-1]]

    def release(self, found: Sequence[int], *, now: datetime, run_id: int | None) -> None:
        ended = set(self.ended(now=now))
        for hold in found:
            detail = {"ended": True} if hold in ended else None
            record_hold_event(self._db, "memory:released", hold, detail, now=now, run_id=run_id)
            self._db.execute("DELETE FROM memory_holds WHERE hold_id = ?", (hold,))
        renew_triggers(self._db)

    def ended(self, *, now: datetime) -> list[int]:
        query = f"SELECT hold_id FROM memory_holds WHERE NOT {in_force(row='memory_holds')}"
        return [hold for (hold,) in self._db.execute(query, held_parameter(now))]


def record_hold_event(
    db: Connection,
    event: Literal["memory:held", "memory:released"],
    hold: int | None,
    detail: Mapping[str, object] | None,
    *,
    now: datetime,
    run_id: int | None,
) -> None:
    """Record that a hold was placed, or is about to be deleted."""
    parameters = {
        "now": to_text(now),
        "event": event,
        "hold": hold,
        "detail": None
        if detail is None
        else to_ascii({name: encodable(value) for name, value in detail.items()}),
        "run_id": run_id,
    }
    db.execute(RECORD_EVENT, parameters)


def _parameters(target: HoldTarget) -> dict[str, bytes | None]:
    """Return the parameters that name a target, as SQLite stores them."""
    texts = {
        "agent": target.agent,
        "memory_id": target.memory_id,
        "type": target.type,
        "key": target.key,
    }
    given = to_stored(**{name: text for name, text in texts.items() if text is not None})
    return {name: given.get(name) for name in texts}
