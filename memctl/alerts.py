"""Alerts: what somebody should be told of although nobody looks.

A job has failed three times in a row; the clock has leapt ahead; an agent has more memories than
are healthy; more than half of the active memories are gone. Each is told once, until the condition
has cleared: with the event `memory:alert`, in the transaction that remembers it, and through
`[alerts] command`.
"""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.database import to_bytes, transaction
from memctl.errors import ClockLeapError, MemctlError, RefusedError
from memctl.timestamps import to_day, to_text

STATE_KEY = "alert:"
COMMAND_SECONDS = 10
ADVICE = "check [alerts] in the configuration; the job is not affected"
FAILURES_IN_A_ROW = 3
FEW_MEMORIES = 100  # may come and go without anybody being told


@dataclass(frozen=True)
class AlertPolicy:
    """From which figures on somebody is told."""

    agent_memories: int = 10_000  # more of one agent are too many


class Alert(NamedTuple):
    """One condition that holds. `figures` are what a program may want of the message."""

    condition: str  # of two alerts the same only when they are about the same thing
    message: str
    figures: dict[str, object]
    agent: str | None = None

    @property
    def detail(self) -> dict[str, object]:
        """The alert without the agent's name, which may not be UTF-8."""
        return {"condition": self.condition.split(":")[0], **self.figures}


def run_command(command: Sequence[str], document: str) -> None:
    """Give a document to a program on its stdin, without a shell, and wait for its end.

    Raises MemctlError when it cannot be run, fails, or takes over ten seconds: then it is stopped.
    """
    import subprocess

    try:
        process = subprocess.Popen(  # noqa: S603  what the owner of the configuration wants
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts can be stopped with it
        )
    except (OSError, ValueError) as error:
        raise MemctlError(f"the alert command cannot be run ({error})", ADVICE) from None
    try:
        process.communicate(document.encode("ascii"), timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise MemctlError(
            f"the alert command was stopped after {COMMAND_SECONDS} s", ADVICE
        ) from None
    if process.returncode:
        raise MemctlError(f"the alert command ended with {process.returncode}", ADVICE)


def failure_alerts(job: str, failures: int, error: str) -> list[Alert]:
    """Return an alert when a job has failed too many times in a row."""
    if failures < FAILURES_IN_A_ROW:
        return []
    return [
        Alert(
            f"failures:{job}",
            f"{job} has failed {failures} times in a row: {error}",
            {"job": job, "failures": failures, "error": error},
        )
    ]


def clock_alerts(error: RefusedError | None) -> list[Alert]:
    """Return an alert when a run was refused because its clock had leapt ahead."""
    if not isinstance(error, ClockLeapError):
        return []
    return [Alert("clock", error.message, {})]


def growth_alerts(memories_of_agents: Mapping[str, int], policy: AlertPolicy) -> list[Alert]:
    """Return an alert for each agent that has too many memories."""
    return [
        Alert(
            f"growth:{agent}",
            f"agent '{agent}' has {memories} memories, over {policy.agent_memories}",
            {"memories": memories, "threshold": policy.agent_memories},
            agent,
        )
        for agent, memories in memories_of_agents.items()
        if memories > policy.agent_memories
    ]


def drop_alerts(memories: int, before: int) -> list[Alert]:
    """Return an alert when over half of so many memories are gone."""
    if before <= FEW_MEMORIES or memories * 2 >= before:
        return []
    return [
        Alert(
            "drop",
            f"the active memories fell from {before} to {memories}",
            {"memories": memories, "before": before},
        )
    ]


def count_memories(db: Connection) -> dict[str, int]:
    """Return how many active memories each agent has; an index holds all that this needs."""
    return dict(db.execute("SELECT agent_id, count(*) FROM agent_memory GROUP BY agent_id"))


def memories_at_last_snapshot(db: Connection, *, now: datetime) -> int:
    """Return how many active memories there were at the last snapshot of an earlier day, or 0."""
    (memories,) = db.execute(
        """
        SELECT total(memories) FROM memory_analytics WHERE snapshot_date = (
            SELECT max(snapshot_date) FROM memory_analytics WHERE snapshot_date < ?
        )
        """,
        (to_day(now),),
    ).fetchone()
    return int(memories)


def settle_alerts(
    db: Connection,
    found: Sequence[Alert],
    *,
    examined: Sequence[str],
    now: datetime,
    run_id: int | None,
) -> list[Alert]:
    """Remember and tell the alerts that are new, and forget those that have cleared.

    `examined` are the beginnings of all conditions that were looked at. Returns the new ones.
    """
    known = raised_conditions(db)
    new = [alert for alert in found if alert.condition not in known]
    cleared = {condition for condition in known if condition.startswith(tuple(examined))}
    cleared -= {alert.condition for alert in found}
    if cleared or new:
        with transaction(db):
            for condition in cleared:
                db.execute(
                    "DELETE FROM memory_state WHERE key = CAST(? AS TEXT)",
                    (to_bytes(STATE_KEY + condition),),
                )
            for alert in new:
                remember_alert(db, alert, raised_at=to_text(now), run_id=run_id)
    return new


def raised_conditions(db: Connection) -> set[str]:
    """Return the conditions that were told of and have not cleared."""
    keys = db.execute("SELECT key FROM memory_state WHERE key GLOB ?", (f"{STATE_KEY}*",))
    return {row[0].removeprefix(STATE_KEY) for row in keys}


def remember_alert(db: Connection, alert: Alert, *, raised_at: str, run_id: int | None) -> None:
    """Remember that an alert was raised, with its event, unless that is known. In a transaction."""
    parameters = {
        "key": to_bytes(STATE_KEY + alert.condition),
        "value": json.dumps({"since": raised_at}),
        "at": raised_at,
        "agent": None if alert.agent is None else to_bytes(alert.agent),
        "run_id": run_id,
        "detail": json.dumps(alert.detail),
    }
    remembered = db.execute(
        "INSERT OR IGNORE INTO memory_state (key, value) VALUES (CAST(:key AS TEXT), :value)",
        parameters,
    )
    if remembered.rowcount:
        db.execute(
            "INSERT INTO memory_events (at, event, agent_id, run_id, detail)"
            " VALUES (:at, 'memory:alert', CAST(:agent AS TEXT), :run_id, :detail)",
            parameters,
        )
