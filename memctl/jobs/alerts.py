"""Alerts: conditions that memctl reports on its own.

A job has failed or was refused three times in a row; the clock has jumped ahead; an agent has too
many memories; over half of the active memories are gone without being archived. Each alert is
raised once until its condition clears: with the event `memory:alert`, in the same transaction, and
through `[alerts] command`. An alert waits in the database until the command has succeeded, even if
its condition clears.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from memctl.config.policies import AlertPolicy
from memctl.errors import ClockLeapError, RefusedError
from memctl.storage.sqlite.alerts import (
    Alert,
    EarlierFigures,
    clear_alert,
    raise_alert,
    raised_conditions,
)
from memctl.storage.sqlite.database import Connection, transaction
from memctl.storage.times import to_text

FAILURES_IN_A_ROW = 3
FEW_MEMORIES = 100  # a drop from at most this many raises no alert


def failure_alerts(
    job: str, failures: int, error: str, *, refused: bool, enough: int = FAILURES_IN_A_ROW
) -> list[Alert]:
    """Return an alert if a job has failed, or was refused, often enough in a row."""
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
    """Return an alert if a run was refused because the clock has jumped ahead."""
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


def drop_alerts(memories: int, before: EarlierFigures) -> list[Alert]:
    """Return an alert if over half of the memories that were not archived are gone."""
    expected = before.memories - before.archived
    if expected <= FEW_MEMORIES or memories * 2 >= expected:
        return []
    archived = f", but only {before.archived} were archived" if before.archived else ""
    return [
        Alert(
            "drop",
            f"the number of active memories fell from {before.memories} to {memories}{archived}",
            {"memories": memories, "before": before.memories, "archived": before.archived},
        )
    ]


def update_alerts(
    db: Connection,
    found: Sequence[Alert],
    *,
    examined: Sequence[str],
    now: datetime,
    run_id: int | None,
) -> None:
    """Raise the alerts that are new, and clear those whose condition no longer holds.

    `examined` are the prefixes of all conditions that were checked.
    """
    known = raised_conditions(db)
    new = [alert for alert in found if alert.condition not in known]
    cleared = {condition for condition in known if condition.startswith(tuple(examined))}
    cleared -= {alert.condition for alert in found}
    if cleared or new:
        with transaction(db):
            for condition in cleared:
                clear_alert(db, condition)
            for alert in new:
                raise_alert(db, alert, raised_at=to_text(now), run_id=run_id)
