"""The fields of records, and how a table shows each.

A field has one name everywhere: in JSON, in CSV, and in --columns. A table shows numbers and times
in short, readable forms; the other formats print every field as it is stored.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from memctl.errors import UsageError
from memctl.output.readable import (
    readable_average,
    readable_bytes,
    readable_duration,
    relative_time,
)
from memctl.storage.times import parse_moment, to_text

Kind = Literal["prose", "whole", "number", "count", "average", "bytes", "duration", "time", "age"]

# The ranks of fields in the order of a table: 0 is always shown, and a higher rank only if there is
# room after the lower ones.
Ranks = Mapping[str, int]


class Field(NamedTuple):
    """How a table shows a field; only prose may be shortened."""

    kind: Kind = "prose"
    heading: str = ""  # if it is not the name
    least: int = 9  # cells of prose without which the field is not shown


FIELDS = {
    # Memories
    "id": Field("whole"),
    "agent_id": Field("whole", "agent"),
    "type": Field(least=15),
    "archive_id": Field("number", "copy"),
    "state": Field("whole"),
    "importance": Field("number"),
    "access_count": Field("number", "reads"),
    "last_accessed": Field("age", "last read"),
    "created_at": Field("age", "written"),
    "expires_at": Field("age", "expires"),
    "archived_at": Field("age", "archived"),
    "archived_reason": Field("whole", "reason"),
    "importance_decay_rate": Field("number", "decay rate"),
    "last_decay_at": Field("age", "charged"),
    "promoted_at": Field("age", "promoted"),
    "version": Field("number"),
    "written_at": Field("age", "written"),
    "replaced_by": Field("whole", "replaced by"),
    "found_in": Field("whole", "found in"),
    "excerpt": Field(least=16),
    "last_written_at": Field("age", "last written"),
    "last_read_at": Field("age", "last read"),
    "last_archived_at": Field("age", "last archived"),
    "decayed": Field("number"),
    "age_days": Field("number", "days old"),
    "held_at": Field("age", "held"),
    "until": Field("time"),
    # Events and runs
    "event_id": Field("number"),
    "at": Field("time"),
    "event": Field("whole"),
    "memory_id": Field("whole", "memory"),
    "run_id": Field("number", "run"),
    "job": Field("whole"),
    "status": Field("whole"),
    "started_at": Field("time", "started"),
    "finished_at": Field("time", "finished"),
    "duration_ms": Field("duration", "took"),
    "longest_lock_ms": Field("duration", "longest\nlock"),
    "memctl_version": Field("whole", "version"),
    "pid": Field("number"),
    # Figures
    "date": Field("whole"),
    "memories": Field("count"),
    "archived": Field("count"),
    "importance_avg": Field("average", "average\nimportance"),
    "accessed_memories": Field("count", "read"),
    "accesses": Field("count"),
    "accesses_at_least": Field("count", "accesses\nat least"),
    "expired_per_day": Field("average", "expired\nper day"),
    "archived_per_day": Field("average", "archived\nper day"),
    "storage_bytes": Field("bytes", "storage"),
    "trend": Field("whole", "memories\nper day"),
    # Backups
    "file": Field("whole", "backup"),
    "path": Field("whole"),
    "kind": Field("whole"),
    "size_bytes": Field("bytes", "size"),
    "verified": Field("whole"),
    "this_database": Field("whole", "of this\ndatabase"),
    "action": Field("whole"),
    # Steps of the migrations
    "schema_step": Field("number", "step"),
    "applied_at": Field("time", "applied"),
}


def cell_text(name: str, value: object, *, now: datetime) -> object:
    """Return a value as a table shows it."""
    kind = FIELDS.get(name, Field()).kind
    if value is None:
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        shown = {key: item for key, item in value.items() if item not in (None, "", 0)}
        return " ".join(f"{key}={'yes' if item is True else item}" for key, item in shown.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, int | float):
        return _number_text(kind, value)
    if isinstance(value, str) and kind in ("time", "age"):
        return _time_text(value, now=now, relative=kind == "age")
    if name == "event" and isinstance(value, str):
        return value.removeprefix("memory:")
    return value


def _number_text(kind: Kind, value: float) -> str | None:
    if kind == "bytes":
        return readable_bytes(int(value))
    if kind == "duration":
        return readable_duration(value)
    if kind == "average":
        return readable_average(value)
    if kind == "count":
        return f"{value:,}"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _time_text(text: str, *, now: datetime, relative: bool) -> str:
    """Return a stored time in short; a text that is not a time unchanged."""
    try:
        moment = parse_moment(text)
    except UsageError:
        return text
    return relative_time(moment, now=now) if relative else to_text(moment)[:16].replace("T", " ")
