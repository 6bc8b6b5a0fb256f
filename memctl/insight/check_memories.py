"""The findings about memories: values that prevent expiry, decay or retention."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from memctl.insight.findings import Finding, Severity
from memctl.storage.memory import TYPES
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.memory_checks import (
    MemoryProblem,
    count_types,
    find_problems,
    read_name,
    unreadable_archive_times,
)

MOST_TYPES = 5  # named in a message


class Meaning(NamedTuple):
    """What a problem means: which memories have it, and what to do."""

    severity: Severity
    memories: str
    advice: str


WRITE_TIMES = "change the program that writes them to use times such as 2026-11-22T09:43:58Z"

MEANINGS: dict[MemoryProblem, Meaning] = {
    "in_both_places": Meaning(
        "error",
        "memories that are both active and archived",
        "another program changed the tables: compare both memories, and delete one",
    ),
    "expiry_unreadable": Meaning(
        "warning", "memories whose expires_at is not a time never expire", WRITE_TIMES
    ),
    "creation_unreadable": Meaning(
        "warning",
        "memories whose created_at is not a time are never promoted and, without "
        "last_accessed, do not decay",
        WRITE_TIMES,
    ),
    "access_unreadable": Meaning(
        "warning", "memories whose last_accessed is not a time do not decay", WRITE_TIMES
    ),
    "decay_unreadable": Meaning(
        "warning",
        "memories whose last_decay_at is not a time do not decay",
        "set it to NULL to charge all idle time, or to the time until which it has been charged",
    ),
    "expiry_far": Meaning(
        "warning",
        "memories that expire in more than a century",
        "check whether the program that writes them confuses milliseconds with seconds",
    ),
    "importance_no_number": Meaning(
        "warning",
        "memories whose importance is not a number neither decay nor are ever pruned",
        "change the program that writes them to use numbers",
    ),
    "time_to_come": Meaning(
        "warning",
        "memories that were written or read in the future do not decay until then",
        "check the clock of the program that writes them",
    ),
    "charged_ahead": Meaning(
        "warning",
        "memories whose last_decay_at is in the future do not decay until then",
        "memctl's clock was ahead; a memory decays normally again once it has been read",
    ),
    "stamp_to_come": Meaning(
        "warning",
        "memories whose archived_at or promoted_at is in the future",
        "memctl's clock was ahead; nothing depends on these times",
    ),
}


def find_in_memories(db: Connection, *, now: datetime) -> Iterator[Finding]:
    """Check every active memory, and the times of archived ones; reads only."""
    found = find_problems(db, now=now)
    for problem, meaning in MEANINGS.items():
        if problem in found:
            total, first = found[problem]
            yield Finding(
                meaning.severity,
                problem,
                f"{meaning.memories}: {total}, {_named(db, first)}",
                meaning.advice,
            )
    yield from _find_unknown_types(db)
    yield from _find_unreadable_archive_times(db)


def _named(db: Connection, rowid: int) -> str:
    memory = read_name(db, rowid)
    if memory is None:
        return "the first no longer exists"
    return f"the first '{memory.agent}' {memory.type} '{memory.key}'"


def _find_unreadable_archive_times(db: Connection) -> Iterator[Finding]:
    found = unreadable_archive_times(db)
    if found:
        yield Finding(
            "warning",
            "archive_time_unreadable",
            "archived memories whose archived_at is not a time are never pruned: "
            f"{found.total}, the first '{found.memory_id}' of '{found.agent}'",
            "restore them, or set archived_at to a time such as 2026-11-22T09:43:58Z",
        )


def _find_unknown_types(db: Connection) -> Iterator[Finding]:
    unknown = {kind: count for kind, count in count_types(db).items() if kind not in TYPES}
    if unknown:
        named = ", ".join(f"'{kind}'" for kind in list(unknown)[:MOST_TYPES])
        more = f" and {len(unknown) - MOST_TYPES} more" if len(unknown) > MOST_TYPES else ""
        yield Finding(
            "info",
            "type_unknown",
            f"memories of unknown types: {sum(unknown.values())}, of {named}{more}",
            "they are treated like all others, but never promoted",
        )
