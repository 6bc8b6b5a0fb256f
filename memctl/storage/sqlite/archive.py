"""Look into the archive."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import Connection
from typing import Any, get_args

from memctl.errors import UsageError
from memctl.storage.sqlite.database import bind_texts, text_conditions, to_bytes
from memctl.storage.sqlite.events import Reason
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.times import to_text

REASONS = get_args(Reason)

# The archive has its own archived_at: the time of this archiving, not of an earlier one.
KEPT_COLUMNS = ", ".join(column for column in MEMORY_COLUMNS if column != "archived_at")
ARCHIVED_COLUMNS = f"archive_id, {KEPT_COLUMNS}, archived_at, archived_reason, run_id"

# The ledger knows the time, and by that there is an index.
OF_RUN = """
    run_id = :run_id
    AND archived_at = (SELECT started_at FROM memory_runs WHERE memory_runs.run_id = :run_id)
"""


@dataclass(frozen=True)
class ArchiveFilter:
    """Which archived memories are meant; what is not given does not narrow."""

    agent: str | None = None
    ids: Sequence[str] = ()
    type: str | None = None
    key: str | None = None
    reason: str | None = None
    run_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None  # up to and including this moment
    search: str | None = None  # part of the key or value; case counts only beyond ASCII

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Return SQL for a WHERE on archived_memories, and its parameters.

        Raises UsageError for a reason that memctl does not use.
        """
        if self.reason is not None and self.reason not in REASONS:
            raise UsageError(f"there is no reason '{self.reason}'", f"use {', '.join(REASONS)}")
        terms, parameters = text_conditions(
            {"agent_id": self.agent, "type": self.type, "key": self.key}
        )
        if self.ids:
            listed, bound = bind_texts("id", self.ids)
            terms.append(f"id IN ({listed})")
            parameters |= bound
        for name, term, value in (
            ("reason", "archived_reason = :reason", self.reason),
            ("run_id", OF_RUN, self.run_id),
            ("since", "archived_at >= :since", self.since and to_text(self.since)),
            ("until", "archived_at <= :until", self.until and to_text(self.until)),
        ):
            if value is not None:
                terms.append(term)
                parameters[name] = value
        if self.search is not None:
            terms.append(
                "(instr(lower(key), lower(CAST(:search AS TEXT)))"
                " OR instr(lower(value), lower(CAST(:search AS TEXT))))"
            )
            parameters["search"] = to_bytes(self.search)
        return " AND ".join(terms) or "TRUE", parameters


def list_archived(
    db: Connection, which: ArchiveFilter, *, limit: int, offset: int
) -> Iterator[dict[str, object]]:
    """Yield archived memories, the newest first, every column under its own name as stored."""
    condition, parameters = which.condition()
    rows = db.execute(
        f"SELECT {ARCHIVED_COLUMNS} FROM archived_memories WHERE {condition}"
        " ORDER BY archived_at DESC, archive_id DESC LIMIT :limit OFFSET :offset",
        {**parameters, "limit": limit, "offset": offset},
    )
    names = [column[0] for column in rows.description]
    for row in rows:
        yield dict(zip(names, row, strict=True))
