"""Counters that never decrease: the events of each kind, and the runs of each job by their end.

Events and runs are deleted after a year. Their counts are stored in memory_state: all events up
to an event_id, and the deleted runs. The newer events and the present runs are counted when the
counters are read. A run counts from its end on; an unfinished one counts as failed when it is
deleted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memctl.storage.rows import json_or_text

STATE_KEY = "counters"


@dataclass(frozen=True)
class Counters:
    """Numbers since the migration."""

    events: Counter[str] = field(default_factory=Counter)  # `memory:decayed` counts memories
    archived: Counter[str] = field(default_factory=Counter)  # by reason
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)  # by job and status

    def add_events(self, rows: Iterable[tuple[str, str | None, int]]) -> None:
        """Add numbers of events with the same name and detail."""
        for event, text, count in rows:
            detail = json_or_text(text) if text else None
            facts = detail if isinstance(detail, dict) else {}
            if event == "memory:decayed":
                decayed = facts.get("decayed")
                self.events[event] += count * decayed if isinstance(decayed, int) else 0
            else:
                self.events[event] += count
            if event == "memory:archived":
                self.archived[str(facts.get("reason", "unknown"))] += count

    def add_runs(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Add numbers of runs of the same job and status."""
        for job, status, count in rows:
            self.runs[job, status] += count


def from_stored(stored: Any) -> tuple[Counters, int]:
    """Return the stored counts, and the last event that they include; None: nothing is stored."""
    if stored is None:
        return Counters(), 0
    runs = Counter({(job, status): count for job, status, count in stored["runs"]})
    counters = Counters(Counter(stored["events"]), Counter(stored["archived"]), runs)
    return counters, stored["last_event_id"]


def to_stored(counters: Counters, last_event_id: int) -> Mapping[str, object]:
    """Return counts as they are stored."""
    return {
        "last_event_id": last_event_id,
        "events": counters.events,
        "archived": counters.archived,
        "runs": [(*run, count) for run, count in sorted(counters.runs.items())],
    }
