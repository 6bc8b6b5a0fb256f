"""What a monitoring system needs besides the figures of memories; all of it is cheap to read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from memctl.insight.check import CheckResult
from memctl.insight.findings import SEVERITIES
from memctl.storage.counters import Counters
from memctl.storage.store import Store


@dataclass(frozen=True)
class Condition:
    """The counters of the database, its schema, the pause, and the findings by severity."""

    counters: Counters
    schema_step: int
    paused: bool
    findings: Mapping[str, int]


def read_condition(store: Store, checked: CheckResult, *, now: datetime) -> Condition:
    """Read the condition of a migrated database, with the findings of a check."""
    with store.snapshots.one_view():
        return Condition(
            counters=store.read_counters(),
            schema_step=store.schema_step(),
            paused=store.current_pause(now=now) is not None,
            findings={one: checked.count(one) for one in SEVERITIES},
        )
