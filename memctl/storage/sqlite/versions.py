"""The versions of a memory: the archived ones of a type and key, oldest first, then the active one.

They are numbered from 1, the oldest that is kept. By time, not by archive_id: an import may add
versions that are older than the existing ones.
"""

from datetime import datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from memctl.errors import NotFoundError, counted
from memctl.storage.memory import Version
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.archiving import original_id, remove_archived
from memctl.storage.sqlite.changes import RowChange
from memctl.storage.sqlite.memories import OF_NAME, MemoryName
from memctl.storage.sqlite.policies import policy_sql
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.times import unix_seconds

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.policies import PolicyValues

OLDEST_FIRST = "ORDER BY archived_at, archive_id"

# Without the values, of which a page shows only a few.
READ_ARCHIVED = f"""
    SELECT archive_id, id, {original_id("archived_memories")},
        strftime('%Y-%m-%dT%H:%M:%SZ', {unix_seconds("created_at")}, 'unixepoch'),
        archived_at, archived_reason, run_id
    FROM archived_memories
    WHERE {OF_NAME}
    {OLDEST_FIRST}
"""

READ_ACTIVE = f"""
    SELECT NULL, id, id, strftime('%Y-%m-%dT%H:%M:%SZ', {unix_seconds("created_at")}, 'unixepoch'),
        NULL, NULL, NULL
    FROM agent_memory
    WHERE {OF_NAME}
"""

CONTENT = "importance, value, metadata"


class _Place(NamedTuple):
    """Where a version is, and how it came to be there."""

    archive_id: int | None
    id: str | None
    original_id: str | None
    created_at: str | None
    archived_at: str | None
    archived_reason: str | None
    run_id: int | None


def list_versions(
    db: Connection, name: MemoryName, *, limit: int, offset: int = 0
) -> list[Version]:
    """Return versions of a memory, oldest first; must be called in one view of the database."""
    places = [
        _Place(*row)
        for query in (READ_ARCHIVED, READ_ACTIVE)
        for row in db.execute(query, name._asdict())
    ]
    numbers = range(1, len(places) + 1)[offset : offset + limit]
    return [_version(db, name, places, number) for number in numbers]


def _version(db: Connection, name: MemoryName, places: list[_Place], number: int) -> Version:
    place = places[number - 1]
    following = places[number] if number < len(places) else None
    importance, value, metadata = _content(db, name, place.archive_id)
    return Version(
        version=number,
        state="active" if place.archive_id is None else "archived",
        id=place.id,
        written_at=_written_at(places, number),
        archived_at=place.archived_at,
        archived_reason=place.archived_reason,
        replaced_by=following.id if following and place.archived_reason == "replaced" else None,
        run_id=place.run_id,
        archive_id=place.archive_id,
        importance=importance,
        value=value,
        metadata=metadata,
    )


def _content(db: Connection, name: MemoryName, archive_id: int | None) -> Any:
    if archive_id is None:
        query = f"SELECT {CONTENT} FROM agent_memory WHERE {OF_NAME}"
        return db.execute(query, name._asdict()).fetchone()
    query = f"SELECT {CONTENT} FROM archived_memories WHERE archive_id = ?"
    return db.execute(query, (archive_id,)).fetchone()


def _written_at(places: list[_Place], number: int) -> str | None:
    """Return when a version was written; an UPDATE does not change created_at."""
    place = places[number - 1]
    if number > 1:
        before = places[number - 2]
        if before.archived_reason == "replaced" and before.original_id == place.original_id:
            return before.archived_at
    return place.created_at


def find_version(db: Connection, name: MemoryName, number: int | None) -> int:
    """Return the archive id of an archived version, by default the newest.

    Raises NotFoundError if there is no such version.
    """
    found = [row[0] for row in db.execute(READ_ARCHIVED, name._asdict())]
    texts = [text.decode("utf-8", "surrogateescape") for text in name]
    what = f"'{texts[0]}' {texts[1]} '{texts[2]}'"
    if not found:
        raise NotFoundError(
            f"the archive has no version of {what}", "`memctl explain` shows what happened to it"
        )
    if number is None:
        return int(found[-1])
    if not 1 <= number <= len(found):
        raise NotFoundError(
            f"the archive has {counted(len(found), 'version')} of {what}, but no version {number}",
            "`memctl history` lists them",
        )
    return int(found[number - 1])


def _replaced_versions(rows: Rows) -> str:
    return f"""
        SELECT archive_id AS rowid, id, agent_id, type, key, archived_at, archived_reason
        FROM archived_memories
        {rows.where(f"archived_reason = 'replaced' AND {OF_AGENT}")}
    """


def _beyond(kept: str) -> str:
    """Return SQL that is true for the replaced versions of a memory beyond the newest.

    The memories that have too many are found in the index, if archive-on-replace was ever enabled.
    """
    return f"""
        archive_id IN (
            SELECT archive_id
            FROM (
                SELECT archive_id, agent_id, type, row_number() OVER (
                    PARTITION BY agent_id, type, key ORDER BY archived_at DESC, archive_id DESC
                ) AS age
                FROM archived_memories
                WHERE archived_reason = 'replaced' AND (agent_id, type, key) IN (
                    SELECT agent_id, type, key FROM archived_memories
                    WHERE archived_reason = 'replaced' AND {OF_AGENT}
                    GROUP BY agent_id, type, key
                    HAVING count(*) > {kept}
                )
            )
            WHERE age > {kept}
        )
    """


def excess_versions(
    db: Connection,
    policy: "PolicyValues",
    *,
    agent: str | None,
    now: datetime,
    run_id: int | None,
) -> RowChange:
    """Return what deletes the replaced versions of each memory beyond the policy's number.

    What is held counts, but stays.
    """
    kept = policy_sql(db, policy, "keep_versions")
    selection = Selection(
        _replaced_versions,
        {**kept.parameters, **agent_parameter(agent)},
        search_only=_beyond(kept.sql),
    ).sparing_held("archived_memories", now=now)
    return RowChange(
        db,
        selection,
        lambda batch: remove_archived(db, batch.rowids, "memory:pruned", now=now, run_id=run_id),
    )
