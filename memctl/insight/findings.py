"""What a check finds, and from which figures on it finds it wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "info"]

ScheduledJob = Literal["cleanup", "decay", "promote", "snapshot", "prune"]

# How many days without a success are too many.
OVERDUE_DAYS: dict[ScheduledJob, int] = {
    "cleanup": 2,
    "decay": 2,
    "promote": 8,
    "snapshot": 2,
    "prune": 15,
}


@dataclass(frozen=True)
class Finding:
    """One thing that is worth knowing.

    An error stops memctl's work or endangers a memory, a warning will in time, and an info is only
    good to know.
    """

    severity: Severity
    code: str
    message: str
    advice: str = ""
    fix: str | None = None  # what --fix does about it; None: nothing


@dataclass(frozen=True)
class CheckPolicy:
    """What the check finds wrong."""

    backup_days: int = 8  # a newest backup that is older is too old
    overdue_days: Mapping[ScheduledJob, int] = field(default_factory=lambda: OVERDUE_DAYS)
