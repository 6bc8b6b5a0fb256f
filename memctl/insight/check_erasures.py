"""The findings about erasures: one that is not finished, and values that were written anew."""

from collections.abc import Iterator

from memctl.insight.findings import Finding
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.erased_rows import find_erased_values
from memctl.storage.sqlite.unfinished_erasure import read_unfinished


def find_in_erasures(db: Connection, *, every_memory: bool) -> Iterator[Finding]:
    """Check for an interrupted erasure and, with `every_memory`, for values that came back."""
    unfinished = read_unfinished(db)
    if unfinished:
        yield Finding(
            "warning",
            "erase_pending",
            f"the erasure or redaction of {unfinished.since} is not finished: what it removed may"
            " still be in the file",
            "run `memctl erase --continue`",
        )
    found = find_erased_values(db) if every_memory else None
    if found is not None:
        yield Finding(
            "warning",
            "erased_value",
            f"memories with a value that was erased: {found.total}, the first"
            f" '{found.memory_id}' of '{found.agent}'",
            "change the program that writes it anew, then run `memctl erase AGENT ID`",
        )
