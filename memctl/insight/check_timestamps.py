"""The findings about memctl's own timestamps: none of them may lie in the future.

They are left by a clock that was ahead, and still have effects: they decide when an archived memory
is pruned, from when on a memory decays, and to which day a figure belongs.
"""

from collections.abc import Iterator
from datetime import datetime

from memctl.insight.findings import Finding
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.timestamp_checks import TimestampPlace, timestamps_ahead

ADVICE: dict[TimestampPlace, str] = {
    "archived_memories.archived_at": (
        "these memories are pruned that much later: restore them, then archive them again"
    ),
    "memory_promotions.promoted_at": "nothing depends on them",
    "memory_runs": "`memctl events` shows what these runs did",
    "memory_analytics": "`memctl metrics --history` shows these snapshots once their day has come",
    "memory_state": "end the pause with `memctl resume`, or disable and enable the feature",
    "memctl_migrations.applied_at": "rates are counted only from then on",
    "memory_events.at": "figures count these events on the day of their time",
}


def find_in_timestamps(db: Connection, *, now: datetime) -> Iterator[Finding]:
    """Compare memctl's own timestamps with the clock; reads only."""
    for ahead in timestamps_ahead(db, now=now):
        yield Finding(
            "warning",
            "stamp_to_come",
            f"timestamps in the future in {ahead.place}: {ahead.total}, the earliest "
            f"{ahead.earliest} of {ahead.name}",
            f"memctl's clock was ahead; {ADVICE[ahead.place]}",
        )
