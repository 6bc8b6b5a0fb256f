"""What a monitoring system needs besides the figures of memories; all of it is cheap to read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from memctl.insight.check import CheckResult
from memctl.insight.findings import SEVERITIES
from memctl.storage.counters import Counters
from memctl.storage.sqlite.counters import read_counters
from memctl.storage.sqlite.database import Connection, one_view
from memctl.storage.sqlite.migrations import schema_step
from memctl.storage.sqlite.pause import current_pause


@dataclass(frozen=True)
class Condition:
    """The counters of the database, its schema, the pause, and the findings by severity."""

    counters: Counters
    schema_step: int
    paused: bool
    findings: Mapping[str, int]


def read_condition(db: Connection, checked: CheckResult, *, now: datetime) -> Condition:
    """Read the condition of a migrated database, with the findings of a check."""
    with one_view(db):
        return Condition(
            counters=read_counters(db),
            schema_step=schema_step(db),
            paused=current_pause(db, now=now) is not None,
            findings={severity: checked.count(severity) for severity in SEVERITIES},
        )
