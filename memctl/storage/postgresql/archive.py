"""Select and list archived memories."""

from itertools import islice
from typing import Any

from memctl.storage.matching import FIELDS, SearchedText
from memctl.storage.postgresql.conditions import all_of
from memctl.storage.postgresql.copied_tables import ARCHIVED
from memctl.storage.postgresql.database import Database, texts
from memctl.storage.postgresql.values import named_row
from memctl.storage.rows import ArchiveFilter, require_reason
from memctl.storage.sqlite.archive import ARCHIVED_FIELDS
from memctl.storage.text import stored_bytes
from memctl.storage.times import to_text

READ_AS = {"archive_id": "archive_id::text", **ARCHIVED.read_as}
ARCHIVED_COLUMNS = ", ".join(READ_AS.get(field, field) for field in ARCHIVED_FIELDS)

# An imported copy may have a run of another database with the same number.
OF_RUN = """
    run_id = %(run_id)s
    AND archived_at = (SELECT started_at FROM memory_runs WHERE memory_runs.run_id = %(run_id)s)
"""


def list_archived(
    db: Database,
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
    query = f"""
        SELECT {ARCHIVED_COLUMNS} FROM archived_memories WHERE {condition}
        ORDER BY archived_memories.archived_at DESC, archived_memories.archive_id DESC
    """
    if search is None:
        page = {"limit": limit, "offset": offset}
        rows = db.rows(f"{query} LIMIT %(limit)s OFFSET %(offset)s", {**parameters, **page})
        return [named_row(ARCHIVED_FIELDS, row) for row in rows]
    found = (named_row(ARCHIVED_FIELDS, row) for row in db.stream(query, parameters))
    matching = (
        row for row in found if search.match(*(stored_bytes(row[field]) for field in FIELDS))
    )
    return list(islice(matching, offset, offset + limit))


def archive_condition(which: ArchiveFilter) -> tuple[str, dict[str, Any]]:
    """Return an SQL condition on archived_memories, and its parameters.

    Raises UsageError for an unknown reason.
    """
    require_reason(which.reason)
    return all_of(
        {
            "agent": ("agent_id = %(agent)s", which.agent),
            "type": ("type = %(type)s", which.type),
            "key": ("key = %(key)s", which.key),
            "ids": ("id = ANY(%(ids)s)", texts(which.ids) or None),
            "reason": ("archived_reason = %(reason)s", which.reason),
            "run_id": (OF_RUN, which.run_id),
            "archive_id": ("archive_id = %(archive_id)s::uuid", which.archive_id),
            "since": ("archived_at >= %(since)s", which.since and to_text(which.since)),
            "until": ("archived_at <= %(until)s", which.until and to_text(which.until)),
        }
    )
