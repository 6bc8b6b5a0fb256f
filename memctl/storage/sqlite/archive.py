"""Select and list archived memories."""

from itertools import islice
from sqlite3 import Connection
from typing import Any

from memctl.storage.matching import FIELDS, SearchedText
from memctl.storage.rows import ArchiveFilter, require_reason
from memctl.storage.sqlite.database import bind_texts, text_conditions
from memctl.storage.sqlite.migrations import MEMORY_COLUMNS
from memctl.storage.text import stored_bytes
from memctl.storage.times import to_text

# The archive has its own archived_at: when this copy was archived, not when an earlier one was.
KEPT_FIELDS = [column for column in MEMORY_COLUMNS if column != "archived_at"]
KEPT_COLUMNS = ", ".join(KEPT_FIELDS)
ARCHIVED_FIELDS = ("archive_id", *KEPT_FIELDS, "archived_at", "archived_reason", "run_id")
ARCHIVED_COLUMNS = ", ".join(ARCHIVED_FIELDS)

# The time of the run, from the ledger, makes the index on archived_at usable.
OF_RUN = """
    run_id = :run_id
    AND archived_at = (SELECT started_at FROM memory_runs WHERE memory_runs.run_id = :run_id)
"""


def list_archived(
    db: Connection,
    which: ArchiveFilter,
    *,
    search: SearchedText | None = None,
    limit: int,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Return archived memories, newest first, as their columns by name.

    Only those whose key, value or metadata contains the text of `search`, if it is given.
    """
    condition, parameters = archive_condition(which)
    in_sql = "LIMIT :limit OFFSET :offset" if search is None else ""
    rows = db.execute(
        f"SELECT {ARCHIVED_COLUMNS} FROM archived_memories WHERE {condition}"
        f" ORDER BY archived_at DESC, archive_id DESC {in_sql}",
        {**parameters, "limit": limit, "offset": offset},
    )
    found = (dict(zip(ARCHIVED_FIELDS, row, strict=True)) for row in rows)
    if search is None:
        return list(found)
    matching = (
        row for row in found if search.match(*(stored_bytes(row[field]) for field in FIELDS))
    )
    return list(islice(matching, offset, offset + limit))


def archive_condition(which: ArchiveFilter) -> tuple[str, dict[str, Any]]:
    """Return an SQL condition on archived_memories, and its parameters.

    Raises UsageError for an unknown reason.
    """
    require_reason(which.reason)
    terms, parameters = text_conditions(
        {"agent_id": which.agent, "type": which.type, "key": which.key}
    )
    if which.ids:
        listed, bound = bind_texts("id", which.ids)
        terms.append(f"id IN ({listed})")
        parameters |= bound
    for name, term, value in (
        ("reason", "archived_reason = :reason", which.reason),
        ("run_id", OF_RUN, which.run_id),
        ("archive_id", "archive_id = :archive_id", which.archive_id),
        ("since", "archived_at >= :since", which.since and to_text(which.since)),
        ("until", "archived_at <= :until", which.until and to_text(which.until)),
    ):
        if value is not None:
            terms.append(term)
            parameters[name] = value
    return " AND ".join(terms) or "TRUE", parameters
