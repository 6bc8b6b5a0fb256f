"""Alerts: conditions that are reported although nobody looks.

A job has failed or was refused three times in a row; the clock has leapt ahead; an agent has more
memories than are healthy; more than half of the active memories are gone, and the archive does not
have them. Each is raised once, until the condition has cleared: with the event `memory:alert`, in
the transaction that remembers it, and through `[alerts] command`. Until the command has succeeded,
the alert waits in the database, whether the condition has cleared or not.
"""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import NamedTuple

from memctl.config.policies import AlertPolicy
from memctl.errors import ClockLeapError, MemctlError, RefusedError
from memctl.storage.sqlite.database import to_bytes, transaction
from memctl.storage.sqlite.state import delete_state, read_state, write_state
from memctl.storage.times import to_day, to_text, unix_seconds

STATE_KEY = "alert:"
UNDELIVERED_KEY = "undelivered:"
COMMAND_SECONDS = 10.0
ADVICE = "check [alerts] in the configuration"
STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
UNDER_ALERT = "MEMCTL_UNDER_ALERT"  # in its environment the command and what it starts have this
FAILURES_IN_A_ROW = 3
FEW_MEMORIES = 100  # may come and go without anybody being told


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


class Undelivered(NamedTuple):
    """An alert that waits to be delivered, and when it was raised."""

    alert: Alert
    raised_at: str
    tries: int = 0


def run_command(command: Sequence[str], document: str, *, seconds: float = COMMAND_SECONDS) -> None:
    """Give a document to a program on its stdin, without a shell, and wait for its end.

    When it takes longer than so many seconds, or a signal ends the wait, it is killed with all
    that it has started. Raises MemctlError when it cannot be run, fails, or takes too long.
    """
    import subprocess

    # A signal between the start of the program and the `try` would leave it running.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        with subprocess.Popen(  # noqa: S603  what the owner of the configuration wants
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, UNDER_ALERT: "1"},
            start_new_session=True,  # so that what it starts can be killed with it
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        ) as process:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                process.communicate(document.encode("ascii"), timeout=seconds)
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
    except subprocess.TimeoutExpired:
        raise MemctlError(f"the alert command was stopped after {seconds:.3g} s", ADVICE) from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise MemctlError(f"the alert command cannot be run ({error})", ADVICE) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if process.returncode:
        raise MemctlError(f"the alert command ended with {process.returncode}", ADVICE)


def failure_alerts(
    job: str, failures: int, error: str, *, refused: bool, enough: int = FAILURES_IN_A_ROW
) -> list[Alert]:
    """Return an alert when a job has failed, or was refused, often enough in a row."""
    if failures < enough:
        return []
    outcome = "was refused" if refused else "has failed"
    times = outcome if failures == 1 else f"{outcome} {failures} times in a row"
    return [
        Alert(
            f"failures:{job}",
            f"{job} {times}: {error}",
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


class Before(NamedTuple):
    """How many active memories there were at a snapshot, and how many were archived since."""

    memories: int
    archived: int


def drop_alerts(memories: int, before: Before) -> list[Alert]:
    """Return an alert when over half of the memories that were not archived are gone."""
    expected = before.memories - before.archived
    if expected <= FEW_MEMORIES or memories * 2 >= expected:
        return []
    though = f", though only {before.archived} were archived" if before.archived else ""
    return [
        Alert(
            "drop",
            f"the active memories fell from {before.memories} to {memories}{though}",
            {"memories": memories, "before": before.memories, "archived": before.archived},
        )
    ]


def count_memories(db: Connection) -> dict[str, int]:
    """Return how many active memories each agent has; an index holds all that this needs."""
    return dict(db.execute("SELECT agent_id, count(*) FROM agent_memory GROUP BY agent_id"))


# A memory that was written after the snapshot is not missed, and one that was replaced has a
# successor.
ARCHIVED_SINCE = f"""
    SELECT count(*)
    FROM archived_memories
    WHERE archived_at > :moment
        AND archived_reason NOT IN ('replaced', 'imported')
        AND ({unix_seconds("created_at")} > unixepoch(:moment)) IS NOT TRUE
"""


def before_today(db: Connection, *, now: datetime) -> Before:
    """Return the figures of the last snapshot of an earlier day; without one all are 0."""
    memories, moment = db.execute(
        """
        SELECT total(memories), max(period_end) FROM memory_analytics WHERE snapshot_date = (
            SELECT max(snapshot_date) FROM memory_analytics WHERE snapshot_date < ?
        )
        """,
        (to_day(now),),
    ).fetchone()
    if moment is None:
        return Before(0, 0)
    (archived,) = db.execute(ARCHIVED_SINCE, {"moment": moment}).fetchone()
    return Before(int(memories), archived)


def settle_alerts(
    db: Connection,
    found: Sequence[Alert],
    *,
    examined: Sequence[str],
    now: datetime,
    run_id: int | None,
) -> None:
    """Raise the alerts that are new, and forget those that have cleared.

    `examined` are the beginnings of all conditions that were looked at.
    """
    known = raised_conditions(db)
    new = [alert for alert in found if alert.condition not in known]
    cleared = {condition for condition in known if condition.startswith(tuple(examined))}
    cleared -= {alert.condition for alert in found}
    if cleared or new:
        with transaction(db):
            for condition in cleared:
                delete_state(db, STATE_KEY + condition)
            for alert in new:
                raise_alert(db, alert, raised_at=to_text(now), run_id=run_id)


def raised_conditions(db: Connection) -> set[str]:
    """Return the conditions that were raised and have not cleared."""
    return _states(db, STATE_KEY)


def raise_alert(db: Connection, alert: Alert, *, raised_at: str, run_id: int | None) -> None:
    """Remember that an alert is raised, with its event, unless it is already. In a transaction."""
    key = STATE_KEY + alert.condition
    if read_state(db, key) is not None:
        return
    write_state(db, key, {"since": raised_at})
    write_state(db, UNDELIVERED_KEY + alert.condition, Undelivered(alert, raised_at))
    db.execute(
        "INSERT INTO memory_events (at, event, agent_id, run_id, detail)"
        " VALUES (:at, 'memory:alert', CAST(:agent AS TEXT), :run_id, :detail)",
        {
            "at": raised_at,
            "agent": None if alert.agent is None else to_bytes(alert.agent),
            "run_id": run_id,
            "detail": json.dumps(alert.detail),
        },
    )


def any_undelivered(db: Connection) -> bool:
    """Tell whether an alert waits to be delivered."""
    return bool(_states(db, UNDELIVERED_KEY))


NEXT_UNDELIVERED = """
    SELECT value FROM memory_state
    WHERE key GLOB ?
    ORDER BY json_extract(value, '$[2]'), json_extract(value, '$[1]')
    LIMIT 1
"""


def claim_undelivered(db: Connection) -> Undelivered | None:
    """Return the alert to deliver next, and count the try: one that always fails comes last."""
    with transaction(db):
        found = db.execute(NEXT_UNDELIVERED, (f"{UNDELIVERED_KEY}*",)).fetchone()
        if found is None:
            return None
        alert, raised_at, tries = json.loads(found[0])
        claimed = Undelivered(Alert(*alert), raised_at, tries + 1)
        write_state(db, UNDELIVERED_KEY + claimed.alert.condition, claimed)
    return claimed


def forget_undelivered(db: Connection, condition: str) -> None:
    """Remember that an alert was delivered."""
    delete_state(db, UNDELIVERED_KEY + condition)


def _states(db: Connection, prefix: str) -> set[str]:
    """Return the rest of the keys of all states that begin with a text."""
    keys = db.execute("SELECT key FROM memory_state WHERE key GLOB ?", (f"{prefix}*",))
    return {row[0].removeprefix(prefix) for row in keys}
